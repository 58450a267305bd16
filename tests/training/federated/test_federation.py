"""The rounds of a federation: what is taken and refused, late sites, and going on after a stop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from deepfake_training.federated.federation import LOG, Federation
from deepfake_training.federated.site import Site, move_common, start_common
from deepfake_training.federated.terms import (
    DONE,
    FIT,
    STATISTICS,
    Common,
    RefusedUpdate,
    Terms,
    decode,
    encode,
    pack_scale,
    unpack_head,
    unpack_scale,
)
from deepfake_training.privacy.descent import logits_of
from deepfake_training.privacy.design import Private, Scale
from deepfake_training.privacy.guarantee import Budget
from safetensors.numpy import save

from deepfake.errors import DeepfakeError, SettingsError
from tests.training.federated.federating import (
    FEATURES,
    SITES,
    make_federation,
    make_site,
    make_terms,
)
from tests.training.planted import planted_samples, reference_of, separated


def send(federation: Federation, site: str, worker: Site) -> None:
    """One task of a site, as its client does it."""
    body = federation.task(site)
    assert body is not None
    if federation.phase == STATISTICS:
        update = worker.statistics()
    else:
        found = decode(body, scale=2 * FEATURES + 2, head=FEATURES + 2)
        scale = unpack_scale(found["scale"], started=worker.terms.started)
        update = worker.step(Common(scale, unpack_head(found["head"])), federation.round)
    federation.receive(site, federation.round, encode(update=update))


def run(federation: Federation, workers: dict[str, Site], *, until: int | None = None) -> None:
    last = federation.terms.rounds if until is None else until
    while federation.round <= last:
        for site in federation.sites:
            send(federation, site, workers[site])


def accuracy(federation: Federation) -> float:
    assert federation.common is not None
    head = federation.common.head
    raw, bias = federation.common.scale.unscale(head.weights, head.bias)
    unseen = planted_samples(400, FEATURES, seed=99)
    return separated(logits_of(unseen.rows[:, 0], raw, bias), unseen.labels)


def workers(terms: Terms, **changes: object) -> dict[str, Site]:
    return {site: make_site(number, terms, **changes) for number, site in enumerate(SITES)}


def test_sites_find_together_what_is_planted(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    assert federation.phase == STATISTICS
    run(federation, workers(federation.terms))
    assert federation.phase == DONE
    assert accuracy(federation) > 0.9
    rows = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    assert [row["round"] for row in rows] == [0, 1, 2, 3, 4]
    assert all(row["sites"] == list(SITES) and row["refused"] == [] for row in rows)


def test_a_poisoned_site_ruins_averaging_and_not_the_median(tmp_path: Path) -> None:
    found = {}
    for rule in ("fedavg", "median"):
        terms = make_terms(rule=rule)
        some = workers(terms)
        some["west"].boost = -20.0
        federation = make_federation(tmp_path / rule, terms)
        run(federation, some)
        found[rule] = accuracy(federation)
    assert found["fedavg"] < 0.5
    assert found["median"] > 0.85


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "is no safetensors file"),
        (b"\x80\x04\x95 pickle", "is no safetensors file"),
        (encode(other=np.zeros(2)), "other vectors"),
        (encode(update=np.zeros(5)), "has not 26 numbers"),
        (save({"update": np.zeros(26)}), "has not 26 numbers of 32 bits"),
        (encode(update=np.full(26, np.nan)), "what is no number"),
        (encode(update=np.append(np.full(13, 3.0), np.zeros(13))), "below the square"),
        (b"x" * 10_000, "is too long"),
    ],
)
def test_what_is_no_update_is_refused_and_told(tmp_path: Path, body: bytes, words: str) -> None:
    federation = make_federation(tmp_path)
    with pytest.raises(RefusedUpdate, match=words):
        federation.receive("east", 0, body)
    assert federation.task("east") is not None, "it may send another one"
    assert [(number, site) for number, site, _ in federation.refused] == [(0, "east")]


def test_an_update_out_of_all_bounds_is_refused(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    run(federation, workers(federation.terms), until=0)
    assert federation.phase == FIT
    with pytest.raises(RefusedUpdate, match="more than 10000"):
        federation.receive("east", 1, encode(update=np.full(FEATURES + 2, 1e5)))


def test_second_late_and_foreign_updates_are_refused(tmp_path: Path) -> None:
    federation = make_federation(tmp_path)
    some = workers(federation.terms)
    body = encode(update=some["east"].statistics())
    federation.receive("east", 0, body)
    assert federation.task("east") is None
    for site, number, words in (
        ("east", 0, "has sent one"),
        ("north", 3, "this is round 0"),
        ("nobody", 0, "takes no part"),
    ):
        with pytest.raises(RefusedUpdate, match=words):
            federation.receive(site, number, body)


def test_a_round_goes_on_without_late_sites_but_not_without_most(tmp_path: Path) -> None:
    now = 0.0
    federation = make_federation(tmp_path, clock=lambda: now)
    some = workers(federation.terms)
    for site in ("east", "north"):
        send(federation, site, some[site])
    now = 100.0
    assert federation.task("west") is not None
    assert federation.round == 0, "two are fewer than three"
    send(federation, "south", some["south"])
    assert federation.task("east") is not None
    assert federation.round == 1


def test_a_server_that_was_stopped_goes_on(tmp_path: Path) -> None:
    terms = make_terms()
    run(make_federation(tmp_path / "one", terms), workers(terms))
    some = workers(terms)
    run(make_federation(tmp_path / "two", terms), some, until=2)
    again = make_federation(tmp_path / "two", terms)
    assert again.round == 3
    run(again, some)
    whole = make_federation(tmp_path / "one", terms)
    assert whole.phase == again.phase == DONE
    assert whole.common is not None
    assert again.common is not None
    assert again.common.head.weights == pytest.approx(whole.common.head.weights, abs=1e-3)
    with pytest.raises(SettingsError, match="other terms"):
        make_federation(tmp_path / "two", make_terms(rounds=9))


@pytest.mark.parametrize("least", [0, 1, 5])
def test_a_number_of_sites_that_makes_no_sense(tmp_path: Path, least: int) -> None:
    with pytest.raises(SettingsError, match="at least 2 must take part"):
        make_federation(tmp_path, least=least)


def test_a_private_site_spends_what_it_planned_and_then_stops() -> None:
    terms = make_terms(rounds=3, steps=2)
    private = Private(Budget(epsilon=2.0, delta=1e-4), reference_of(FEATURES))
    site = make_site(1, terms, private=private)
    scale = site.statistics()
    after_statistics = site.epsilon
    assert 0 < after_statistics < 1.5
    common = start_common(scale, terms)
    for number in (1, 2, 3):
        common = move_common(common, site.step(common, number))
    assert 1.95 < site.epsilon <= 2.0
    assert np.isfinite(common.head.weights).all()
    with pytest.raises(DeepfakeError, match="takes no further part"):
        site.step(common, 4)
    assert site.epsilon <= 2.0, "nothing was spent on what was refused"


def test_statistics_travel_and_come_back() -> None:
    scale = Scale(np.array([1.0, -2.0]), np.array([0.5, 3.0]), started=True)
    again = unpack_scale(pack_scale(scale), started=True)
    assert again.centre == pytest.approx(scale.centre)
    assert again.spread == pytest.approx(scale.spread)
