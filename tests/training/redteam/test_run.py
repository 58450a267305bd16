"""The whole way: files, attacks, detector, peers, journal, result, page."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import jsonschema
import pytest
from deepfake_training.evaluation.journal import Journal
from deepfake_training.redteam.command import Request, assault
from deepfake_training.redteam.result import REDTEAM_SCHEMA, draw_curve, read_result
from deepfake_training.redteam.run import Trial
from deepfake_training.redteam.suite import FAMILIES, QUICK, choose_attacks, list_attacks
from deepfake_training.redteam.tools import Strength

from deepfake.commands.cli import main
from deepfake.errors import SettingsError
from deepfake.settings import Settings
from deepfake.types import Kind
from examples.samples import mp4
from tests.media_files import image_bytes, scene, speech, wav_bytes
from tests.training.evaluation.labelled import make_folder

from .networks import make_derivable_models


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_derivable_models(tmp_path_factory.mktemp("derivable"))


def redteam(material: Path, output: Path, models: Path, *more: str) -> int:
    return main(
        [
            *("redteam", str(material), "--output", str(output), "--models", str(models)),
            *("--threads", "1", "--draws", "20", *more),
        ]
    )


@pytest.mark.slow
def test_pictures_under_every_family(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    material, output = tmp_path / "mine", tmp_path / "out"
    for label, seed in (("genuine", 0), ("genuine", 1), ("synthetic", 5), ("synthetic", 6)):
        place = material / label / f"source-{seed}"
        place.mkdir(parents=True)
        (place / "<b>a.png").write_bytes(image_bytes(scene(96, 72, seed=seed)))
    more = ["--slot", "image", "--quick", "--backend", "torch", "--device", "cpu", "--peer"]
    more += [f"size=python:{__name__}:count_bytes"]
    assert redteam(material, output, models, *more) == 0
    shown = capsys.readouterr().out
    for words in ("pictures under attack", "raised: ", "At most 12 queries", "4 steps"):
        assert words in shown

    values = json.loads((output / "redteam.json").read_text())
    jsonschema.validate(values, REDTEAM_SCHEMA)
    assert {row["family"] for row in values["rows"]} == {"", *FAMILIES}
    assert values["material"]["files"] == 4
    assert values["versions"]["backend"] == "torch"
    assert values["seconds"] > 0
    rows = {row["attack"]: row for row in values["rows"]}
    assert set(rows) == {"as-is"} | {one.name for one in list_attacks(Kind.IMAGE)} & QUICK
    assert rows["parameters"]["raised"][0] == 1.0
    assert rows["parameters"]["psnr"] == 100.0
    assert rows["parameters"]["synthetic"] == 0
    assert rows["screen-photo"]["psnr"] is None
    for row in values["rows"]:
        assert "peer:size" in row["scores"]
    by_gradients = [
        one for one in values["trials"] if one["attack"] == "apgd-linf" and one["attacked"]
    ]
    assert by_gradients
    before = {one["name"]: one for one in values["trials"] if one["attack"] == "as-is"}
    for one in by_gradients:
        moved = one["scores"]["image"] - before[one["name"]]["scores"]["image"]
        assert (moved < 0) is one["synthetic"]
        assert one["psnr"] > 28
        assert (output / one["kept"]).is_file()
    for one in values["trials"]:
        assert one["queries"] <= 12
        assert one["attack"] in ("square", "hopskipjump") or one["queries"] == 0

    page = (output / "redteam.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 30
    assert "<b>a.png" not in page
    links = re.sub(r"http-equiv|http://www\.w3\.org|data:image[^\"]*", "", page)
    assert "http" not in links

    # The result is shown again from its file, and is the same in every number.
    stored = read_result(output / "redteam.json").to_dict()
    assert json.loads(json.dumps(stored)) == values
    assert main(["redteam", str(output / "redteam.json"), "--markdown"]) == 0
    again = capsys.readouterr().out
    assert "| apgd-linf | 2 + 2 |" in again

    # The same command asks nothing anew, and makes what is missing.
    lines = (output / "journal.jsonl").read_text().splitlines()
    shutil.rmtree(output / "attacked" / "camera")
    assert redteam(material, output, models, *more, "--markdown") == 0
    table = capsys.readouterr().out
    assert "| apgd-linf | 2 + 2 |" in table
    added = (output / "journal.jsonl").read_text().splitlines()[len(lines) :]
    assert len(added) == 3  # two files under one attack, and the time of the processor
    rerun = json.loads((output / "redteam.json").read_text())
    for once, again in zip(values["trials"], rerun["trials"], strict=True):
        # What was made anew was also judged anew, by sums in whatever order memory suggested.
        assert again["scores"] == pytest.approx(once["scores"], abs=1e-4)


def count_bytes(path: Path) -> float:
    """A peer for the test above."""
    return float(path.stat().st_size)


@pytest.mark.slow
def test_sounds_under_every_family(tmp_path: Path, models: Path) -> None:
    material, output = tmp_path / "mine", tmp_path / "out"
    for label, seed in (("genuine", 0), ("synthetic", 1)):
        place = material / label / f"source-{seed}"
        place.mkdir(parents=True)
        (place / "a.wav").write_bytes(wav_bytes(speech(1.6, seed=seed)))
    (material / "genuine" / "source-0" / "b.png").write_bytes(image_bytes(scene()))
    more = ["--slot", "audio", "--quick", "--backend", "torch", "--device", "cpu"]
    assert redteam(material, output, models, *more) == 0
    values = json.loads((output / "redteam.json").read_text())
    jsonschema.validate(values, REDTEAM_SCHEMA)
    assert values["material"]["left_out"] == 1
    assert {row["family"] for row in values["rows"]} == {"", *FAMILIES}
    masked = [one for one in values["trials"] if one["attack"] == "masked" and one["attacked"]]
    assert masked
    assert all(one["snr"] > 5 for one in masked)
    assert (output / "redteam.html").read_text().count("data:image") >= 12


@pytest.mark.slow
def test_clips_are_laundered_and_framed(tmp_path: Path, known_models: Path) -> None:
    material, output = tmp_path / "mine", tmp_path / "out"
    place = material / "genuine" / "phone"
    place.mkdir(parents=True)
    (place / "a.mp4").write_bytes(mp4(seconds=1.2))
    names = "upright,tags,manifest,capture-manifest"
    more = ["--slot", "video", "--attacks", names, "--workers", "1"]
    assert redteam(material, output, known_models, *more) == 0
    values = json.loads((output / "redteam.json").read_text())
    jsonschema.validate(values, REDTEAM_SCHEMA)
    rows = {row["attack"]: row for row in values["rows"]}
    assert rows["tags"]["genuine"] == rows["manifest"]["genuine"] == 1
    assert rows["capture-manifest"]["genuine"] == 0
    for name in ("tags", "manifest"):
        (trial,) = [one for one in values["trials"] if one["attack"] == name]
        assert trial["verdict"] in ("suspicious", "synthetic")


def test_other_backends_are_peers(tmp_path: Path, known_models: Path) -> None:
    material = make_folder(tmp_path / "mine")
    request = Request(
        place=material, output=tmp_path / "out", slot="image", attacks="messenger",
        backends="onnxruntime", limit=1, draws=10, workers=1,
    )  # fmt: skip
    settings = Settings(models_folder=known_models, threads=1, backend="openvino")
    result, samples = assault(request, settings)
    assert len(samples) == 4
    assert set(result.peers) == {"onnxruntime"}
    for trial in result.trials:
        assert trial.scores["peer:onnxruntime"] == pytest.approx(trial.scores["fused"], abs=1e-3)


def test_wrong_wishes_are_told(
    tmp_path: Path, known_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    material = make_folder(tmp_path / "mine")

    def ask(*more: str) -> str:
        assert redteam(material, tmp_path / "out", known_models, *more) == 2
        return capsys.readouterr().err

    assert "attack 'hypnosis': unknown for image" in ask("--slot", "image", "--attacks", "hypnosis")
    assert "has no weights" in ask("--slot", "image", "--attacks", "autoencoder")
    assert "has no model.safetensors" in ask("--slot", "image", "--attacks", "white-box")
    assert "has no audio file" in ask("--slot", "audio", "--attacks", "web")
    assert "option budget 0: too low" in ask("--slot", "image", "--budget", "0")
    assert "epsilon" in ask("--slot", "image", "--epsilon", "300")
    assert "backend 'abacus': unknown" in ask("--slot", "image", "--backends", "abacus")
    assert "slot are missing" in ask()
    assert main(["redteam", "--list"]) == 0
    listed = capsys.readouterr().out
    assert "hopskipjump" in listed


def test_a_broken_file_is_told_and_the_others_go_on(
    tmp_path: Path, known_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    material = make_folder(tmp_path / "mine")
    (material / "genuine" / "camera" / "bad.jpg").write_bytes(b"\xff\xd8\xff broken")
    more = ["--slot", "image", "--attacks", "web", "--workers", "1"]
    assert redteam(material, tmp_path / "out", known_models, *more) == 1
    assert "bad.jpg" in capsys.readouterr().err
    values = json.loads((tmp_path / "out" / "redteam.json").read_text())
    assert [row["synthetic"] + row["genuine"] for row in values["rows"]] == [12, 12]


def test_curves_rise_with_queries() -> None:
    trials = [
        Trial(
            name=str(number), sha256=None, synthetic=True, source="a", group="a", attack="square",
            queries=50, reached_after=reached,
        )
        for number, reached in enumerate([3, 40, None, None])
    ]  # fmt: skip
    curve = draw_curve("square", trials, synthetic=True)
    assert curve is not None
    assert curve.queries == [1, 3, 40, 50]
    assert curve.shares == [0, 0.25, 0.5, 0.5]
    assert draw_curve("square", trials, synthetic=False) is None


def test_a_quick_run_has_every_family() -> None:
    for kind in (Kind.IMAGE, Kind.AUDIO):
        chosen = choose_attacks(kind, "all", quick=True, weights=False)
        assert {one.family for one in chosen} == set(FAMILIES)
        names = [one.name for one in list_attacks(kind)]
        assert len(set(names)) == len(names)
    with pytest.raises(SettingsError):
        Strength(answers="nothing")


def test_two_runs_do_not_share_an_output(tmp_path: Path, known_models: Path) -> None:
    material, output = make_folder(tmp_path / "mine"), tmp_path / "out"
    output.mkdir()
    with Journal(output / "journal.jsonl"):
        request = Request(place=material, output=output, slot="image", attacks="web")
        with pytest.raises(SettingsError, match="another run"):
            assault(request, Settings(models_folder=known_models, threads=1))
