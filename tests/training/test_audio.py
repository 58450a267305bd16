"""The audio recipe end to end on a few synthetic sounds, and the rules that make it honest."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from deepfake_training.audio import recipe as audio
from deepfake_training.audio.families import family_of, tabulate_families
from deepfake_training.audio.judging import VIEWS, Judged
from deepfake_training.audio.material import corpus_of, heard_corpora, read_recordings, system_of
from deepfake_training.audio.recordings import MOST_SECONDS, build_recordings
from deepfake_training.audio.shortcuts import measure_shortcuts
from deepfake_training.audio.tier import SpeechTierRecipe, count_quick, settle
from deepfake_training.audio.tuned import Batches
from deepfake_training.export import Trained
from deepfake_training.imagenet import FILE
from deepfake_training.known import Known
from deepfake_training.manifests import Item
from deepfake_training.perturb import limit_band
from deepfake_training.records import FileLogits, read_records, unheard, write_records
from deepfake_training.runs import make_bundle
from safetensors.torch import load_file, save_file
from scipy.io import wavfile

from deepfake.bundle import HEAD, SIGNATURE, WEIGHTS, Bundle
from deepfake.commands.cli import main
from deepfake.preprocess import AudioPreprocess
from tests.media_files import speech
from tests.shallow import traced
from tests.training.audio_material import (
    PAGES,
    RATE,
    TIER,
    known,
    make_first_models,
    write_recordings,
)
from tests.training.clip_material import write_recipe
from tests.training.recipes import recipe

pytestmark = pytest.mark.usefixtures("shallow_trunk", "traced_graphs")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    write_recordings(data / "audio")
    (data / "weights").mkdir()
    torch.manual_seed(0)
    trunk = timm.create_model("mobilenetv2_100", pad_type="same")
    save_file(trunk.state_dict(), data / "weights" / FILE)
    return data


def settings(**changed: Any) -> audio.AudioRecipe:
    values = {
        "threads": 1,
        "workers": 1,
        "material": ["audio"],
        "by_band": False,
        "preprocess": {"window_seconds": 1.0, "hop_seconds": 1.0},
        "limits": {"min_seconds": 0.5},
        "tuned": [{"pieces": 8, "batch": 4, "seed": 3}, {"pieces": 8, "batch": 4, "seed": 5}],
        "final": {"pieces": 8, "batch": 4, "seed": 4},
        "judging": {"genuine": 1, "synthetic": 1, "seed": 3},
    }
    return recipe(audio.AudioRecipe, values | changed)


@pytest.fixture(scope="module")
def run(material: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Trained, Path]:
    output = tmp_path_factory.mktemp("run")
    with traced(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("deepfake_training.audio.minutes.RECORDINGS_PER_FOLD", 2)
        patch.setattr("deepfake_training.audio.shortcuts.PIECES", 30)
        trained = audio.train(
            settings(), data=material, weights=material / "weights", output=output
        )
    return trained, output


def test_pages_of_one_corpus_are_left_out_together_and_singing_is_no_speech(
    material: Path,
) -> None:
    files = read_recordings([material / "audio"], folds=2)
    assert len(files) == len({file.item.facts["sha256"] for file in files}) == 56
    assert not any("singing" in file.source for file in files)
    groups = {file.item.facts["repo"]: file.group for file in files}
    assert groups == {
        "one/page": "ljspeech",
        "two/page": "ljspeech",
        "three/page": "three/page",
        "four/page": "four/page",
    }
    for group in groups.values():
        assert len({file.fold for file in files if file.group == group}) == 1
    assert {file.fold for file in files} == {0, 1}


def test_a_network_hears_no_corpus_that_is_mostly_in_the_half_left_out(material: Path) -> None:
    files = read_recordings([material / "audio"], folds=2)
    home = next(file.fold for file in files if file.group == "ljspeech")
    assert heard_corpora(files, without=home) == set()
    assert heard_corpora(files, without=1 - home) == {"ljspeech"}
    seen = audio.known_files(files, without=home)
    for file, allowed in zip(files, seen, strict=True):
        corpus = "" if file.label else corpus_of(file.source)
        assert allowed == (file.fold != home and corpus != "ljspeech")


@pytest.mark.parametrize(
    ("source", "corpus", "system"),
    [
        ("gt-libri-lj-vctk@quickvc", "ljspeech", "gtlibriljvctk"),
        ("gt-vctk-16k@yangai", "vctk", "gtvctk16k"),
        ("LibriSpeech-test-other@x/y", "librispeech", "librispeechtestother"),
        ("Glow-TTS@page", "", "glowtts"),
        ("jlj@page", "", "jlj"),
    ],
)
def test_names_of_corpora_and_systems(source: str, corpus: str, system: str) -> None:
    assert corpus_of(source) == corpus
    assert system_of(source) == system


def test_recordings_begin_where_they_are_loud_and_are_not_long(tmp_path: Path) -> None:
    quiet = np.zeros(RATE)
    sounds = {
        "silence around": np.concatenate([quiet, speech(1.0, seed=1), quiet]),
        "long": speech(MOST_SECONDS + 2, seed=2),
        "short": speech(0.2, seed=3),
        "silent": quiet,
    }
    files = []
    for name, samples in sounds.items():
        wavfile.write(tmp_path / f"{name}.wav", RATE, np.round(samples * 32767).astype(np.int16))
        files.append(Known(Item(tmp_path / f"{name}.wav", 0, name), name, 0))
    made = build_recordings(files, tmp_path / "kept", workers=1)
    assert len(made[0]) == pytest.approx(RATE, abs=2 * RATE // 50)
    assert np.abs(made[0]).max() == pytest.approx(np.abs(sounds["silence around"]).max(), abs=1e-3)
    assert len(made[1]) == MOST_SECONDS * RATE
    assert made.readable.tolist() == [True, True, False, False]
    for file in files:
        file.item.path.unlink()
    again = build_recordings(files, tmp_path / "kept", workers=1)
    assert (again[0] == made[0]).all()


def test_batches_hold_both_classes_of_what_is_chosen_and_repeat(
    material: Path, tmp_path: Path
) -> None:
    files = read_recordings([material / "audio"], folds=2)
    recordings = build_recordings(files, tmp_path, workers=1)
    preprocess = AudioPreprocess(window_seconds=1.0)
    chosen = np.array([file.group == "ljspeech" for file in files])
    arguments: dict[str, Any] = {"chosen": chosen, "preprocess": preprocess, "seed": 1}
    batches = Batches(files, recordings, **arguments)
    windows, labels = batches.draw(3, 6)
    assert windows.shape == (6, RATE)
    assert labels.tolist() == [0, 1, 0, 1, 0, 1]
    levels = 20 * torch.log10(windows.square().mean(dim=1).sqrt())
    torch.testing.assert_close(levels, torch.full((6,), -26.0), atol=0.1, rtol=0)
    again, _ = Batches(files, recordings, **arguments).draw(3, 6)
    torch.testing.assert_close(again, windows, rtol=0, atol=0)
    for some in batches._classes:
        assert chosen[some].all()


def test_every_recording_is_judged_in_every_view_by_the_network_that_left_it_out(
    run: tuple[Trained, Path], material: Path
) -> None:
    trained, output = run
    keys = [(record.path, record.view) for record in trained.records]
    assert {record.source for record in trained.records if record.label} == set(PAGES)
    genuine = {record.source for record in trained.records if not record.label}
    assert genuine == {"ljspeech", "phones@three", "radio@four", "phone@four"}
    assert len(keys) == len(set(keys))
    assert {view for _, view in keys} == set(VIEWS)
    assert sum(view == "clean" for _, view in keys) == 6 + 5
    files = read_recordings([material / "audio"], folds=2)
    home = next(file.fold for file in files if file.group == "ljspeech")
    for record in trained.records:
        assert record.heard == (record.source == "ljspeech" and record.fold != home)
    together = next(file.fold for file in files if file.group == "four/page") == home
    assert (unheard(trained.records) == trained.records) == together
    assert {one.fold for one in trained.recordings} == {0, 1}
    kept = {path.stem for path in output.glob("tuned-*.safetensors")}
    assert kept == {"tuned-0-0", "tuned-0-1", "tuned-1-0", "tuned-1-1", "tuned-all"}
    assert trained.facts["genuine sources"] == 6
    shortcuts = trained.facts["AUC of shortcuts alone, by half of the pages"]
    assert set(shortcuts) == {"bandwidth", "pauses", "level", "all"}


def test_a_second_run_reads_everything_back(
    run: tuple[Trained, Path], material: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, output = run

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("done again")

    for place in (
        "judging.read_samples",
        "recordings.read_samples",
        "minutes.chain",
        "shortcuts.describe",
    ):
        monkeypatch.setattr(f"deepfake_training.audio.{place}", fail)
    monkeypatch.setattr("deepfake_training.tuning.fit_steps", fail)
    again = audio.train(settings(), data=material, weights=material / "weights", output=output)
    assert again.records == trained.records
    assert again.recordings == trained.recordings
    taken = {"wall_seconds": again.facts["wall_seconds"]}
    assert again.facts == trained.facts | taken
    for one, two in zip(again.network.parameters(), trained.network.parameters(), strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize(
    ("file", "family"),
    [
        (known(1, "copy-hifigan@page"), "vocoder copy"),
        (known(1, "melgan@page", note="en 2021 copy-synthesis"), "vocoder copy"),
        (known(1, "encodec@page", note="codec 2024"), "codec"),
        (known(1, "voicecraft-edit@page"), "editing"),
        (known(1, "vqmivc@page", note="en 2020 VC"), "voice conversion"),
        (known(1, "hierspeech++-vc@page"), "voice conversion"),
        (known(1, "vits@page", note="en 2021"), "text to speech"),
    ],
)
def test_families_are_told_from_names_and_notes(file: Known, family: str) -> None:
    assert family_of(file) == family


def test_families_are_compared_with_genuine_recordings_of_their_own_fold() -> None:
    files = [
        known(0, "a", fold=0),
        known(0, "b", fold=1),
        known(0, "heard", fold=1),
        known(1, "vits@one", fold=0, note="en 2021", path="1"),
        known(1, "vits@two", fold=1, note="de 2021", path="2"),
        known(1, "encodec@two", fold=1, note="codec", path="3"),
    ]
    logits = [0.0, 2.0, 9.0, 1.0, 1.0, 3.0]
    judged = [Judged(number, "clean", (logit,)) for number, logit in enumerate(logits)]
    judged += [Judged(number, "noise_20db", (-logit,)) for number, logit in enumerate(logits)]
    rows = tabulate_families(files, judged, heard=[file.source == "heard" for file in files])
    told = {row.family: (row.files, row.auc) for row in rows}
    assert told == {
        "text to speech": (2, 0.5),
        "codec": (1, 1.0),
        "English": (1, 1.0),
        "others": (1, 0.0),
        "systems of one half only": (1, 1.0),
    }


def test_a_network_starts_from_imagenet_weights(run: tuple[Trained, Path], material: Path) -> None:
    from deepfake_training.imagenet import load_mobilenet

    from deepfake.networks import create

    whole = timm.create_model("mobilenetv2_100", pad_type="same")
    torch.manual_seed(0)
    network = create("mobile_speech")
    load_mobilenet(
        network, material / "weights", places={"conv_stem": "trunk.conv_stem", "bn1": "trunk.bn1"}
    )
    torch.manual_seed(0)
    whole = timm.create_model("mobilenetv2_100", pad_type="same")
    torch.testing.assert_close(network.trunk.conv_stem.weight, whole.conv_stem.weight)


def test_a_shortcut_is_found_where_there_is_one_and_is_gone_once_equalised(
    tmp_path: Path,
) -> None:
    """Fakes are 20 dB louder and end at 3 kHz; a level and a random band hide the most of it."""
    files, numbers = [], iter(range(100))
    for label in (0, 1):
        for fold in (0, 1):
            for number in range(6):
                samples = speech(1.5, seed=next(numbers))
                if label:
                    samples = limit_band(samples, low_hz=0, high_hz=3000)
                path = tmp_path / f"{label}{fold}{number}.wav"
                levels = np.round(samples * (20000 if label else 2000)).astype(np.int16)
                wavfile.write(path, RATE, levels)
                files.append(Known(Item(path, label, f"{label}{fold}"), f"{label}{fold}", fold))
    recordings = build_recordings(files, tmp_path / "kept", workers=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("deepfake_training.audio.shortcuts.PIECES", 120)
        told = measure_shortcuts(
            files,
            recordings,
            preprocess=AudioPreprocess(window_seconds=1.0),
            path=tmp_path / "told.jsonl",
            seed=1,
        )
    assert told["level"]["as they are"] == told["bandwidth"]["as they are"] == 1.0
    assert told["level"]["equalised"] < 0.7
    assert told["bandwidth"]["equalised"] < 0.95


@pytest.fixture(scope="module")
def first_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    with traced():
        make_first_models(folder)
    return folder


@pytest.fixture
def models(first_models: Path, tmp_path: Path) -> Path:
    """A copy of these, which a test may change."""
    return Path(shutil.copytree(first_models, tmp_path / "models"))


@pytest.mark.slow
def test_the_full_tier_hears_with_the_trunk_of_pictures_and_counts_the_quick_one_in(
    material: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = recipe(SpeechTierRecipe, TIER)
    runs = tmp_path / "runs"
    (runs / "audio-7").mkdir(parents=True)
    files = read_recordings([material / "audio"], folds=2)
    told = [
        FileLogits(
            path=file.item.facts["path"],
            label=file.label,
            source=file.source,
            group=file.group,
            fold=file.fold,
            view=view,
            logits=(3.0 * file.label - 1.5 + number % 2,),
        )
        for number, file in enumerate(files)
        for view in ("clean", "mulaw_8k")
    ]
    write_records(runs / "audio-7" / "out_of_fold.jsonl", told)
    bundle = make_bundle(made, data=material, weights=tmp_path, models=models, runs=runs)
    assert "| clean |" in capsys.readouterr().out
    bundle.verify()
    assert bundle.slot == "audio-large"
    stored = (bundle.folder / WEIGHTS).read_bytes()
    assert stored == (models / "image-7-large" / WEIGHTS).read_bytes()
    apart = {"mean", "deviation", "decide.weight", "decide.bias"}
    assert set(load_file(bundle.folder / HEAD)) == apart
    records = read_records(runs / made.name / "out_of_fold.jsonl")
    assert Counter(record.view for record in records) == {"clean": 6 * 2 + 5, "mulaw_8k": 8}
    counted = bundle.calibration.quick
    assert counted is not None
    assert counted.slope > 0
    quick = Bundle.read(models / "audio-7")
    assert counted.sha256 == quick.logit_sha256
    facts = json.loads((bundle.folder / "bundle.json").read_text())["provenance"]
    assert set(facts["AUC by view"]["clean"]) == {"alone", "quick", "both"}
    assert not (quick.folder / SIGNATURE).exists(), "which was of what it did not say yet"
    assert quick.settled is not None, "the quick tier knows from now on where it asks the full one"
    tokens = runs / made.name / "tokens" / "tokens.bin"
    written = tokens.stat().st_mtime_ns
    config = write_recipe(tmp_path / "audio-7-large.toml", TIER)
    command = ["recipe", "ablate", str(config), "--data", str(material), "--models", str(models)]
    assert main([*command, "--runs", str(runs), "--quick"]) == 0
    printed = capsys.readouterr().out
    assert "audio-7-large, a last layer without each of 2 folds, on 55 pieces of 56" in printed
    assert "| all | " in printed
    assert "| the quick network | " in printed
    assert tokens.stat().st_mtime_ns == written, "what the run left is taken"
    assert main([*command, "--runs", str(runs), "--limit", "4"]) == 2
    assert "are of 56 files, not of 45" in capsys.readouterr().err


def some_records(
    rng: np.random.Generator, *, count: int, sources: int, apart: float, spread: float
) -> list[FileLogits]:
    """Every second of them synthetic; the middles of both classes lie so far apart."""
    return [
        FileLogits(
            path=str(number),
            label=number % 2,
            source=f"{number % sources}",
            group=f"{number % sources}",
            fold=0,
            view="clean",
            logits=(apart * (number % 2 - 0.5) + rng.normal(0, spread),),
            heard=number % 16 == 0,
        )
        for number in range(count)
    ]


def test_the_quick_tier_counts_where_its_run_judged_the_same(models: Path, tmp_path: Path) -> None:
    quick = Bundle.read(models / "audio-7")
    rng = np.random.default_rng(1)

    def records(spread: float) -> list[FileLogits]:
        return some_records(rng, count=200, sources=4, apart=2.0, spread=spread)

    own = records(1.0)
    assert count_quick(own, quick, run=tmp_path / "none") == (own, [], 0.0)
    beside = records(0.7)
    beside[1] = replace(beside[1], heard=True)
    write_records(tmp_path / "out_of_fold.jsonl", beside[:-1])
    joined, same, share = count_quick(own, quick, run=tmp_path)
    assert [(one.path, one.view) for one in same] == [(one.path, one.view) for one in joined]
    assert share > 1, "the surer of the two counts for more"
    assert [one.path for one in joined] == [one.path for one in own[:-1]]
    assert [int(one.path) for one in joined if one.heard][:3] == [0, 1, 16], "either heard 1"
    for one, first, second in zip(joined, own[:-1], beside[:-1], strict=True):
        assert one.logits[0] == pytest.approx(first.logits[0] + share * second.logits[0], abs=1e-3)


def test_a_quick_tier_that_is_as_good_settles_what_it_is_sure_of(models: Path) -> None:
    quick, rng = Bundle.read(models / "audio-7"), np.random.default_rng(2)
    points = quick.calibration.points

    def records(spread: float) -> list[FileLogits]:
        return some_records(rng, count=400, sources=8, apart=8.0, spread=spread)

    good = settle(quick, records(1.0), records(1.0)).settled
    assert good is not None
    assert 0 < good.low < points.authentic
    assert good.holds([0.0])
    assert not good.holds([0.5])
    assert Bundle.read(quick.folder).settled == good
    assert settle(replace(quick, settled=good), [], records(1.0)).settled is None
    assert Bundle.read(quick.folder).settled is None, "as long as nothing lies beside the full tier"
