"""Searches on a detector whose weak spot is known: it looks at the brightness, or at one tone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from deepfake_training.attacks import searching
from deepfake_training.attacks.victim import Finished, Goal, Victim

from deepfake.preprocess import Floats
from deepfake.types import Report, Verdict
from tests.media_files import scene
from tests.reports import make_report

SEARCHES = {
    "random": searching.search_randomly,
    "square": searching.search_squares,
    "cosines": searching.search_cosines,
}
CUT = 0.5


def judge(project: Callable[[Floats], float], scale: float, signal: Floats) -> Report:
    """P(synthetic) rises with what is projected; an alarm from 0.5 on."""
    score = float(1 / (1 + np.exp(-np.clip(scale * project(signal), -30, 30))))
    word = Verdict.SYNTHETIC if score >= CUT else Verdict.AUTHENTIC
    return replace(make_report(), verdict=word, probability=score)


def picture_victim(
    *, policy: str = "score", budget: int = 400, synthetic: bool = True, **options: float
) -> Victim:
    """Alarmed by how much brighter the left is than the right, by three grey levels."""
    pixels = np.full((32, 48, 3), 120, np.float32)
    pixels[:, :24] += 3.0 if synthetic else -3.0

    def project(signal: Floats) -> float:
        return float(signal.round()[:, :24].mean() - signal.round()[:, 24:].mean())

    return Victim(
        pixels, partial(judge, project, 0.5), goal=Goal(synthetic), policy=policy, budget=budget,
        **options,  # type: ignore[arg-type]
    )  # fmt: skip


def sound_victim(*, budget: int = 400) -> Victim:
    """Alarmed by how much of one random band of noise is in the sound."""
    rng = np.random.default_rng(3)
    samples = 0.1 * np.sin(2 * np.pi * 200 * np.arange(8000) / 16000)
    liked = searching.make_smooth_field((8000,), rng=rng) / 8000

    def project(signal: Floats) -> float:
        return float((signal - samples) @ liked) + 2e-4

    return Victim(
        samples.astype(np.float32),
        partial(judge, project, 500.0),
        goal=Goal(True),
        policy="score",
        budget=budget,
    )


@pytest.mark.parametrize("synthetic", [True, False])
@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_turns_the_verdict_within_its_bound(name: str, synthetic: bool) -> None:
    victim = picture_victim(synthetic=synthetic)
    with pytest.raises(Finished):
        SEARCHES[name](victim, epsilon=8.0, rng=np.random.default_rng(1))
    assert victim.reached_after
    assert victim.reached_after <= 400
    change = np.abs(victim.best - victim.original).max()
    assert 0 < change <= 8.0 + 1e-3


@pytest.mark.parametrize("name", SEARCHES)
def test_sounds_are_searched_too(name: str) -> None:
    victim = sound_victim()
    with pytest.raises(Finished):
        SEARCHES[name](victim, epsilon=0.03, rng=np.random.default_rng(1))
    assert victim.reached_after
    assert np.abs(victim.best - victim.original).max() <= 0.03 + 1e-6


def test_words_alone_cost_more_questions_than_scores() -> None:
    asked = {}
    for policy in ("score", "word"):
        counts = []
        for seed in range(5):
            victim = picture_victim(policy=policy)
            with contextlib.suppress(Finished):
                searching.search_squares(victim, epsilon=4.0, rng=np.random.default_rng(seed))
            counts.append(victim.reached_after or 400)
        asked[policy] = float(np.mean(counts))
    assert asked["word"] > asked["score"]


def test_the_boundary_is_walked_to_the_original() -> None:
    victim = picture_victim(policy="word", budget=600, most_change=6.0)
    start = scene(40, 20, seed=2).astype(np.float32)  # of another size
    start[:, :24], start[:, 24:] = 40, 220
    with pytest.raises(Finished):
        searching.walk_boundary(victim, rng=np.random.default_rng(1), starts=[start])
    assert victim.reached_after
    assert victim.change(victim.best) <= 6.0 + 1e-3
    assert victim.best.shape == victim.original.shape


def test_a_boundary_without_a_start_is_left() -> None:
    flat = np.full((16, 16, 3), 100, np.float32)
    alarm = replace(make_report(), verdict=Verdict.SYNTHETIC, probability=0.99)
    victim = Victim(flat, lambda signal: alarm, goal=Goal(True), policy="word", budget=50)
    searching.walk_boundary(victim, rng=np.random.default_rng(1))
    assert victim.reached_after is None
    assert victim.queries < 50


def test_chains_try_what_people_do() -> None:
    """A detector of fine grain is passed by any chain that blurs or shrinks."""

    def grain(signal: Floats) -> float:
        return float(np.abs(np.diff(signal[..., 1], axis=1)).mean()) - 6.0

    pixels = np.random.default_rng(0).uniform(0, 255, (64, 64, 3)).astype(np.float32)
    victim = Victim(pixels, partial(judge, grain, 0.2), goal=Goal(True), policy="word", budget=300)
    with contextlib.suppress(Finished):
        searching.try_chains(victim, rng=np.random.default_rng(4))
    assert victim.queries > 1
    assert victim.best.ndim == 3
    assert grain(victim.best) < grain(victim.original)
