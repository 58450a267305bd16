"""Bundles of every fold, the clips of each through the product, and what evidence is worth."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from deepfake_training.clips.ablation import check_alike, choose_known, judge
from deepfake_training.clips.faces import FaceTierRecipe
from deepfake_training.clips.layers import fit_heads
from deepfake_training.clips.material import WHOLE, Clip
from deepfake_training.clips.recipe import FrameRecipe
from deepfake_training.evaluation.result import read_result
from deepfake_training.manifests import Item
from deepfake_training.records import FileLogits, read_records

from deepfake.bundle import Bundle
from deepfake.commands.cli import main
from deepfake.errors import SettingsError
from tests.bundles import paint_face
from tests.media_files import speech, video_bytes
from tests.training.clip_material import (
    FACES,
    SETTINGS,
    frames,
    write_material,
    write_recipe,
)
from tests.training.recipes import recipe

pytestmark = pytest.mark.usefixtures("shallow_trunk", "traced_graphs")
SYSTEMS = 4


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``video``: a talking clip with a face of each of four genuine and four synthetic sources, and
    another one of the first of them.
    """
    folder, clips = tmp_path_factory.mktemp("data"), []
    for number in range(2 * SYSTEMS + 1):
        label, place = number % 2, number % (2 * SYSTEMS)
        source, note = f"{'maker' if label else 'camera'}-{place}", "face-swap" if label else ""
        made = frames(label, number)
        for pixels in made:
            paint_face(pixels)
        sound = speech(1.75, seed=number, sample_rate=16000)
        content = video_bytes(made, rate=8, sound=sound, sample_rate=16000)
        clips.append((f"{number}.mp4", content, label, source, note))
    write_material(folder / "video", clips)
    (folder / "boxes.tsv").write_text("# repo\tregex\n")
    return folder


@pytest.fixture(scope="module")
def models(
    tmp_path_factory: pytest.TempPathFactory, picture_models: Path, known_models: Path
) -> Path:
    folder = Path(shutil.copytree(picture_models, tmp_path_factory.mktemp("models") / "all"))
    for name in ("audio-1", "video-1"):
        shutil.copytree(known_models / name, folder / name)
    shutil.copytree(known_models / "face-1", folder / "face-7")
    replace(Bundle.read(folder / "face-7"), name="face-7").write(folder / "face-7")
    return folder


@pytest.mark.slow
def test_every_clip_is_judged_by_bundles_that_saw_nothing_of_its_group(
    data: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configs = [
        str(write_recipe(tmp_path / "frame-7.toml", SETTINGS)),
        str(write_recipe(tmp_path / "face-7-large.toml", {**FACES, "material": ["video"]})),
    ]
    places = ["--data", str(data), "--models", str(models), "--runs", str(tmp_path / "runs")]
    output = tmp_path / "folds"
    command = ["recipe", "folds", *configs, *places, "--output", str(output), "--workers", "1"]
    command += ["--limit", "1"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "| genuine | 4 |" in printed
    assert "| face swap | 4 |" in printed
    assert "| all, fitted | 8 |" in printed
    known: list[set[str]] = []
    seen: list[set[str]] = []
    for fold in (0, 1):
        folder = output / "models" / f"fold-{fold}"
        bundles = {path.name: Bundle.read(path) for path in folder.iterdir() if path.is_dir()}
        assert set(bundles) == {
            *("frame-7", "frame-7-large", "face-7", "face-7-large"),
            *("face-finder-1", "audio-1", "video-1"),
        }
        assert bundles["frame-7"].provenance["fold left out"] == fold
        result = read_result(output / f"fold-{fold}" / "evaluation.json")
        assert result.bundles["frame"]["sha256"] == bundles["frame-7"].sha256
        known.append(set())
        for name in ("frame-7", "face-7-large"):
            place = folder.parent / f"{folder.name}.{name}" / "out_of_fold.jsonl"
            known[fold] |= {record.group for record in read_records(place)}
        seen.append({outcome.group for outcome in result.outcomes})
        assert not known[fold] & seen[fold]
    assert len(seen[0] | seen[1]) == 2 * SYSTEMS
    assert len([*(output / "parts" / "clips").iterdir()]) == 2 * SYSTEMS
    made = (output / "models" / "fold-0" / "active.json").stat().st_mtime_ns
    assert main(command) == 0
    assert capsys.readouterr().out == printed, "what is done is not done again"
    assert (output / "models" / "fold-0" / "active.json").stat().st_mtime_ns == made
    assert main(["recipe", "ablate", *configs, *places, "--quick"]) == 0
    printed = capsys.readouterr().out
    assert "image-7-large on 1 frames of a clip" in printed
    for name in ("frames", "faces", "motion", "sound"):
        assert f"| {name} alone | 9 |" in printed
    assert "| genuine | 0 | 5 |" in printed


def clip(number: int, *, label: int, fold: int = 0) -> Clip:
    source = f"{'maker' if label else 'camera'}-{number}"
    item = Item(Path(source), label, source, {"path": f"{number}.mp4"})
    return Clip(item, source, fold, WHOLE, "editing" if label else "")


def test_fewer_synthetic_clips_are_drawn_by_chance_and_all_genuine_ones_kept() -> None:
    clips = [clip(number, label=number % 2) for number in range(20)]
    labels = np.array([one.label for one in clips], bool)
    known = choose_known(clips, most=3, seed=1)
    assert known[labels].sum() == 3
    assert known[~labels].all()
    assert (known == choose_known(clips, most=3, seed=1)).all()
    assert (known != choose_known(clips, most=3, seed=2)).any()
    assert choose_known(clips, most=None, seed=1).all()


def test_heads_are_near_to_pictures_and_not_to_an_earlier_fit() -> None:
    rng = np.random.default_rng(2)
    clips = [clip(number, label=number % 2, fold=number // 2 % 2) for number in range(24)]
    values = {n: rng.normal(one.label, 1, 6).astype(np.float16) for n, one in enumerate(clips)}
    decide = torch.nn.Linear(6, 1)
    network = SimpleNamespace(mean=torch.zeros(6), deviation=torch.ones(6), decide=decide)
    seen = {"clean": [values]}
    heads = fit_heads(network, clips, seen, penalty=0.01)
    assert set(heads) == {0, 1, -1}
    few = np.array([number % 3 > 0 for number in range(24)])
    fewer = fit_heads(network, clips, seen, penalty=0.01, known=few)
    kept = [one for one, own in zip(clips, few, strict=True) if own]
    apart = {n: values[number] for n, number in enumerate(np.flatnonzero(few).tolist())}
    alone = fit_heads(network, kept, {"clean": [apart]}, penalty=0.01)
    assert all(fewer[fold][2] == pytest.approx(alone[fold][2], abs=1e-3) for fold in heads)
    assert fewer[-1][2] != pytest.approx(heads[-1][2], abs=1e-3)
    again = fit_heads(network, clips, seen, penalty=0.01)
    assert all(np.array_equal(again[fold][2], heads[fold][2]) for fold in heads)
    far = fit_heads(network, clips, seen, penalty=1e6)
    assert far[-1][2] == pytest.approx(decide.weight.detach().numpy()[0], abs=1e-3)


def test_in_the_present_rule_others_count_where_they_are_suspicious() -> None:
    clips = [clip(number, label=number % 2, fold=number // 2 % 3) for number in range(60)]
    rng = np.random.default_rng(5)

    def records(kind: str, *, apart: float) -> list[FileLogits]:
        return [
            FileLogits(
                path=one.name,
                label=one.label,
                source=one.source,
                group=one.group,
                fold=one.fold,
                view="clean",
                logits=(apart * (2 * one.label - 1) + float(rng.normal()),),
            )
            for one in clips
            if kind != "sound" or int(one.name.partition(".")[0]) % 4 < 2
        ]

    said = {"frames": records("frames", apart=0.5), "sound": records("sound", apart=1.0)}
    said["motion"] = records("motion", apart=3.0)
    files = judge(clips, said, each_source=False)
    assert len(files) == 60
    raised = [file for file in files if file.present > file.odds["frames"]]
    assert raised
    assert all(file.present == file.odds["sound"] for file in raised)
    quiet = [f for f in files if "sound" in f.odds and f.present == f.odds["frames"]]
    least = min(file.odds["sound"] for file in raised)
    assert any(file.odds["frames"] < file.odds["sound"] < least for file in quiet)


def test_recipes_of_other_clips_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frames_of = recipe(FrameRecipe, SETTINGS)
    with pytest.raises(SettingsError, match=r"material .* is not"):
        check_alike(frames_of, recipe(FaceTierRecipe, FACES))
    config = write_recipe(tmp_path / "frame-7.toml", SETTINGS)
    place = ["--data", str(tmp_path), "--runs", str(tmp_path)]
    assert main(["recipe", "ablate", str(config), str(config), *place]) == 2
    assert "recipes frame-7, frame-7: are of frame and frame" in capsys.readouterr().err
    of_faces = str(write_recipe(tmp_path / "face-7-large.toml", {**FACES, "material": ["video"]}))
    output = ["--output", str(tmp_path)]
    assert main(["recipe", "folds", of_faces, str(config), *place, *output]) == 2
    assert "recipes face-7-large, frame-7: are of face-large and frame" in capsys.readouterr().err
