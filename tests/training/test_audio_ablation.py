"""What the material of the full tier of speech is worth: what is left out, and how it is judged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from deepfake_training.audio import ablation
from deepfake_training.audio.ablation import Variant
from deepfake_training.audio.material import (
    corpus_of,
    heard_genuine,
    is_own_copy,
    page_of,
    read_recordings,
)
from deepfake_training.audio.tier import SpeechTierRecipe
from deepfake_training.known import Known
from deepfake_training.records import FileLogits, write_records
from deepfake_training.wide.tokens import Tokens

from deepfake.commands.cli import main
from tests.training.audio_material import TIER, known, write_recordings
from tests.training.clip_material import write_recipe

FOLDS = 4
COUNTS = ((2, 5), (3, 8))


@pytest.fixture(autouse=True)
def few_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ablation, "GENUINE", COUNTS[0])
    monkeypatch.setattr(ablation, "SYNTHETIC", COUNTS[1])


def make_files() -> list[Known]:
    """Three recordings of two genuine sources and three systems on each of eight pages, of genuine
    speech of a corpus on one page and a little on another, and of our own copies of it.
    """
    found: list[Known] = []

    def add(
        label: int, source: str, page: str, *, group: str, fold: int, repo: bool = True
    ) -> None:
        for _ in range(3):
            path, where = f"{page}/{len(found)}.wav", page if repo else ""
            found.append(known(label, source, group=group, fold=fold, path=path, repo=where))

    for number in range(8):
        page = f"some/page-{number}"
        for one in range(5):
            source = f"{'system' if one > 1 else 'speaker'}-{number}-{one}@{number}"
            add(int(one > 1), source, page, group=page, fold=number % FOLDS)
    add(0, "LibriSpeech@corpus", "the/corpus", group="librispeech", fold=0)
    add(0, "LibriSpeech-more@corpus", "the/corpus", group="librispeech", fold=0)
    add(0, "gt-libritts@1", "some/page-1", group="some/page-1", fold=1)
    add(1, "WORLD", "fake/world-copy", group="librispeech", fold=0, repo=False)
    return found


def make_tokens(files: list[Known], *, seed: int = 1) -> Tokens:
    """Every file as it is and changed; a feature for every group and class, and one of noise."""
    names = sorted({(file.group, file.label) for file in files})
    rng, rows = np.random.default_rng(seed), []
    numbers = np.repeat(np.arange(len(files)), 2)
    for number in numbers.tolist():
        file = files[number]
        own = [float((file.group, file.label) == name) for name in names]
        rows.append([*own, rng.normal()])
    changed = np.arange(len(numbers)) % 2 == 1
    return Tokens(np.array(rows, np.float16), numbers, changed)


@pytest.fixture(scope="module")
def files() -> list[Known]:
    return make_files()


@pytest.fixture(scope="module")
def tokens(files: list[Known]) -> Tokens:
    return make_tokens(files)


def variants_of(files: list[Known], tokens: Tokens, *, seed: int = 1) -> dict[str, Variant]:
    listed = ablation.list_variants(files, tokens, folds=FOLDS, seed=seed, draws=3)
    return {one.name: one for one in listed}


@pytest.fixture
def variants(files: list[Known], tokens: Tokens) -> dict[str, Variant]:
    return variants_of(files, tokens)


def each(variant: Variant) -> Iterator[tuple[int, int, np.ndarray]]:
    """Draw, fold and the pieces that are chosen."""
    for draw, folds in enumerate(variant.chosen):
        for fold, own in enumerate(folds):
            yield draw, fold, own


def sources_of(files: list[Known], tokens: Tokens, own: np.ndarray, label: int) -> set[str]:
    learnt = [files[number] for number in tokens.files[own].tolist()]
    return {file.source for file in learnt if file.label == label}


def test_a_variant_changes_one_thing(variants: dict[str, Variant]) -> None:
    drawn = {name: len(one.chosen) for name, one in variants.items()}
    assert drawn == {
        "all": 1,
        "2 genuine sources": 3,
        "5 genuine sources": 3,
        "3 synthetic sources": 3,
        "8 synthetic sources": 3,
        "3 synthetic, 2 genuine sources": 3,
        "without pairs": 3,
        "the first quarter of the pieces": 1,
        "the first half": 1,
        "without channels": 1,
        "as many pieces by chance": 3,
        "without our own copies": 1,
    }
    for variant in variants.values():
        assert variant.chosen.shape[1:] == variants["all"].chosen.shape[1:]
        assert not (variant.chosen & ~variants["all"].chosen).any()
        assert (variant.chosen != variants["all"].chosen).any() == (variant.name != "all")


def test_no_recording_is_judged_by_a_layer_that_knew_its_group_or_its_corpus(
    files: list[Known], tokens: Tokens, variants: dict[str, Variant]
) -> None:
    heard = heard_genuine(files, folds=FOLDS)
    assert {file.source for file, one in zip(files, heard, strict=True) if one} == {"gt-libritts@1"}
    for variant in variants.values():
        for _, fold, own in each(variant):
            learnt = [files[number] for number in tokens.files[own].tolist()]
            out = [
                file
                for file, one in zip(files, heard, strict=True)
                if file.fold == fold and not one
            ]
            assert learnt
            assert out
            assert not {file.group for file in learnt} & {file.group for file in out}
            corpora = {corpus_of(file.source) for file in learnt if not file.label} - {""}
            assert not corpora & {corpus_of(file.source) for file in out if not file.label}


def test_fewer_sources_are_the_same_and_more_each_time_and_the_other_class_stays_whole(
    files: list[Known], tokens: Tokens, variants: dict[str, Variant]
) -> None:
    for label, kind in enumerate(("genuine", "synthetic")):
        few, more = (variants[f"{count} {kind} sources"] for count in COUNTS[label])
        for draw, fold, own in each(few):
            everything = variants["all"].chosen[0, fold]
            first = sources_of(files, tokens, own, label)
            second = sources_of(files, tokens, more.chosen[draw, fold], label)
            assert (len(first), len(second)) == COUNTS[label]
            assert first < second < sources_of(files, tokens, everything, label)
            labels = np.array([file.label for file in files])[tokens.files]
            assert (own[labels != label] == everything[labels != label]).all()
            sources = np.array([file.source for file in files])[tokens.files]
            whole = everything & np.isin(sources, list(first)) & (labels == label)
            assert (own[labels == label] == whole[labels == label]).all()
        assert (few.chosen[0] != few.chosen[1]).any(), "each draw is another one"
    both = variants["3 synthetic, 2 genuine sources"].chosen
    one, other = (variants[name].chosen for name in ("3 synthetic sources", "2 genuine sources"))
    assert (both == one & other).all()


def test_what_is_drawn_depends_on_the_seed_alone(
    files: list[Known], tokens: Tokens, variants: dict[str, Variant]
) -> None:
    again, others = variants_of(files, tokens), variants_of(files, tokens, seed=2)
    for name, variant in variants.items():
        assert (variant.chosen == again[name].chosen).all()
        assert (variant.chosen == others[name].chosen).all() == (len(variant.chosen) == 1)


def test_without_pairs_a_page_keeps_one_class(
    files: list[Known], tokens: Tokens, variants: dict[str, Variant]
) -> None:
    def classes(own: np.ndarray) -> dict[str, set[int]]:
        told: dict[str, set[int]] = {}
        for number in tokens.files[own].tolist():
            told.setdefault(page_of(files[number].item), set()).add(files[number].label)
        return told

    for _, fold, own in each(variants["without pairs"]):
        before, after = classes(variants["all"].chosen[0, fold]), classes(own)
        assert set(before) == set(after)
        paired = [page for page, labels in before.items() if len(labels) == 2]
        assert len(paired) == 6
        assert sorted(next(iter(after[page])) for page in paired) == [0, 0, 0, 1, 1, 1]
        assert all(len(after[page]) == 1 for page in paired)
        for page in set(before) - set(paired):
            assert after[page] == before[page]


def test_channels_and_copies_are_left_out(
    files: list[Known], tokens: Tokens, variants: dict[str, Variant]
) -> None:
    everything = variants["all"].chosen[0]
    plain = variants["without channels"].chosen[0]
    assert (plain == everything & ~tokens.changed).all()
    for draw in variants["as many pieces by chance"].chosen:
        assert (draw.sum(axis=1) == plain.sum(axis=1)).all()
        assert (draw & tokens.changed).any(axis=1).all()
        assert (draw & ~tokens.changed).any(axis=1).all()
    copies = np.array([is_own_copy(file.item) for file in files])[tokens.files]
    assert copies.sum() == 2 * 3
    kept = variants["without our own copies"].chosen[0]
    assert (kept == everything & ~copies).all()
    assert (kept != everything).any()
    others = [file for file in files if not is_own_copy(file.item)]
    assert "without our own copies" not in variants_of(others, make_tokens(others))


def test_what_only_a_groups_own_recordings_teach_is_worth_nothing(
    files: list[Known], tokens: Tokens, variants: dict[str, Variant]
) -> None:
    """The tokens tell the group and the class, which helps a layer that knew the group alone."""
    heard = heard_genuine(files, folds=FOLDS)
    blind = Tokens(tokens.values.copy(), tokens.files, tokens.changed)
    blind.values[:, -1] = 0

    def row(chosen: np.ndarray) -> list[object]:
        ticks: list[int] = []
        said = ablation.judge_pieces(
            files, blind, chosen, penalty=0.01, tick=lambda: ticks.append(1)
        )
        assert len(ticks) == FOLDS
        variant = Variant("one", chosen[None])
        return ablation.tell(variant, files, blind, [said], heard=heard)

    told = dict(zip(("name", *ablation.COLUMNS), row(variants["all"].chosen[0]), strict=True))
    assert told["recordings"] == len(files) - sum(heard)
    assert told["mean over systems"] == 0.5
    assert told["genuine sources"] == round((12 + 3 * (12 + 2) + 2) / FOLDS)
    leaked = dict(
        zip(("name", *ablation.COLUMNS), row(np.ones_like(variants["all"].chosen[0])), strict=True)
    )
    assert leaked["mean over systems"] == leaked["AUC"] == leaked["AUC, channels"] == 1.0
    one_class = variants["all"].chosen[0] & (np.array([f.label for f in files])[tokens.files] == 1)
    assert np.isnan(row(one_class)[4:]).all()  # type: ignore[call-overload]


def test_a_file_has_the_mean_logit_of_its_pieces_of_a_kind() -> None:
    tokens = Tokens(
        np.zeros((6, 1), np.float16),
        np.array([4, 1, 4, 1, 2, 0]),
        np.array([False, False, False, True, True, False]),
    )
    logits = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0])
    heard = [True, False, False, False, False]
    assert ablation.join_pieces(tokens, logits, changed=False, heard=heard) == {1: 2.0, 4: 2.5}
    assert ablation.join_pieces(tokens, logits, changed=True, heard=heard) == {1: 8.0, 2: 16.0}


def test_statistics_of_all_blocks_are_left_out_one_by_one() -> None:
    values = np.arange(2 * 12, dtype=np.float16).reshape(2, 12)
    tokens = Tokens(values, np.array([0, 1]), np.array([False, True]))
    narrowed = ablation.list_narrowed(tokens, blocks=2)
    assert [one.values[0].tolist() for one in narrowed.values()] == [
        [2, 3, 4, 5, 8, 9, 10, 11],
        [0, 1, 4, 5, 6, 7, 10, 11],
        [0, 1, 2, 3, 6, 7, 8, 9],
    ]
    assert all((one.files == tokens.files).all() for one in narrowed.values())


def test_systems_count_alike_and_against_the_genuine_of_their_folds() -> None:
    files = [
        *(known(0, f"speaker@{fold}", fold=fold) for fold in (0, 0, 1, 1)),
        *(known(1, "VITS@one", fold=0) for _ in range(2)),
        known(1, "vits@two", fold=0),
        *(known(1, "other@two", fold=1) for _ in range(3)),
        *(known(1, "rare@two", fold=1) for _ in range(2)),
    ]
    logits = [0.0, 0.0, 4.0, 4.0, 1.0, 1.0, 1.0, 3.0, 3.0, 5.0, 9.0, 9.0]
    mean, *others = ablation.rate(files, np.array(logits))
    assert mean == pytest.approx((1 + 1 / 3) / 2)
    assert others[0] == pytest.approx((2 * 8 + 2 * 3) / 32)
    assert np.isnan(ablation.rate(files, np.array([*logits[:-1], np.nan]))).all()


def test_the_command_prints_a_row_for_every_variant_and_the_quick_network_where_it_is(
    known_models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def pieces(recipe: SpeechTierRecipe, some: list[Known], **_: Path) -> SimpleNamespace:
        asked.append((recipe.pieces, len(some)))
        made = make_tokens(some)
        there = np.array([some[n].source != "broken@four" for n in made.files.tolist()])
        parts = (np.repeat(made.values, 3, axis=1), made.files, made.changed)
        return SimpleNamespace(tokens=Tokens(*(part[there] for part in parts)))

    monkeypatch.setattr(ablation, "make_pieces", pieces)
    monkeypatch.setattr(ablation, "GENUINE", (1,))
    monkeypatch.setattr(ablation, "SYNTHETIC", (1,))
    data, runs = tmp_path / "data", tmp_path / "runs"
    write_recordings(data / "audio")
    settings = {**TIER, "pieces": 100, "quick": "audio-1"}
    config = write_recipe(tmp_path / "audio-7-large.toml", settings)
    command = ["recipe", "ablate", str(config), "--data", str(data), "--runs", str(runs)]
    command += ["--models", str(known_models), "--limit", "4"]
    assert main([*command, "--quick"]) == 0
    assert asked == [(90, 45)], "two pieces of each recording are enough"
    printed = capsys.readouterr().out
    assert "on 88 pieces of 45 recordings; draws by chance: 1" in printed
    rows = [line.strip("| ").split(" | ") for line in printed.splitlines() if "| 40 |" in line]
    assert [row[0] for row in rows] == [
        "all",
        "1 genuine sources",
        "1 synthetic sources",
        "1 synthetic, 1 genuine sources",
        "without pairs",
        "the first quarter of the pieces",
        "the first half",
        "without channels",
        "as many pieces by chance",
        "without class tokens",
        "without means",
        "without spreads",
    ]
    assert [row[2:4] for row in rows[1:4]] == [["1", "2"], ["2", "1"], ["1", "1"]]
    assert "the quick network |" not in printed
    (runs / "audio-1").mkdir()
    told = [
        FileLogits(
            path=file.item.facts["path"],
            label=file.label,
            source=file.source,
            group=file.group,
            fold=file.fold,
            view="clean",
            logits=(3.0 * file.label - 1.5,),
            heard=file.source == "phones@three",
        )
        for file in read_recordings([data / "audio"], folds=2)
    ]
    write_records(runs / "audio-1" / "out_of_fold.jsonl", told)
    assert main(command) == 0
    again = capsys.readouterr().out
    assert "on 88 pieces of 45 recordings; draws by chance: 3" in again
    assert again.splitlines()[4] == printed.splitlines()[4] == "| " + " | ".join(rows[0]) + " |"
    assert "| the layer | 36 |" in again
    assert "| the quick network | 36 | 1.000 | 1.000 | 0.000 | 1.000 |" in again
    assert "| both, the quick one counted" in again


def test_recipes_of_which_nothing_tells_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(write_recipe(tmp_path / "audio-7-large.toml", TIER))
    place = ["--data", str(tmp_path), "--runs", str(tmp_path)]
    assert main(["recipe", "ablate", config, config, *place]) == 2
    said = capsys.readouterr().err
    assert "recipes audio-7-large, audio-7-large: are of audio-large and audio-large" in said
    assert "frame and face-large or audio-large" in said
    assert main(["recipe", "ablate", config, *place, "--limit", "-1"]) == 2
    assert "option limit -1: too low" in capsys.readouterr().err
