"""The recipe of both tiers of the frame slot on made clips, and the parts that keep it honest."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from deepfake_training.clips.faces import FaceTierRecipe
from deepfake_training.clips.families import tabulate_families
from deepfake_training.clips.features import Frame, change, load_one_scale
from deepfake_training.clips.frames import Shots, crop_part, cut, keep_shots, load_shots
from deepfake_training.clips.material import WHOLE, Clip, Part, read_clips
from deepfake_training.clips.recipe import FrameRecipe
from deepfake_training.manifests import Item, list_labelled
from deepfake_training.records import FileLogits, read_records
from deepfake_training.runs import make_bundle
from safetensors.numpy import load_file

from deepfake import networks
from deepfake.bundle import HEAD, WEIGHTS, Bundle
from deepfake.commands.cli import main
from tests.bundles import paint_face
from tests.media_files import video_bytes
from tests.training.clip_material import (
    FACES,
    SETTINGS,
    frames,
    write_large_pictures,
    write_material,
    write_recipe,
)
from tests.training.recipes import recipe

pytestmark = pytest.mark.usefixtures("shallow_trunk")
SOURCES = {"phone": 0, "webcam": 0, "first": 1, "second": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``video`` with a manifest: four repositories of three clips, one of them not readable, and a
    clip whose left half is genuine and whose right half is not.
    """
    folder, clips = tmp_path_factory.mktemp("clips"), []
    for place, (source, label) in enumerate(SOURCES.items()):
        note = ("camera", "text-to-video; 8 fps", "talking-head")[label + (source == "second")]
        for number in range(3):
            content = video_bytes(frames(label, 10 * place + number), rate=8)
            clips.append((f"{source}-{number}.mp4", content, label, source, note))
    broken = video_bytes(frames(0, 99), rate=8)[:300]
    pairs = zip(frames(0, 1), frames(1, 2), strict=True)
    both = video_bytes([np.concatenate(pair, axis=1) for pair in pairs], rate=8)
    clips.append(("broken.mp4", broken, 0, "phone", "camera"))
    clips.append(("both.mp4", both, 1, "pair#split", "face-swap"))
    write_material(folder / "video", clips)
    (folder / "boxes.tsv").write_text(
        "# repo\tregex\tx0\ty0\tx1\ty1\tlabel\tsystem\tkind\tnote\n"
        "some/pair\tdemo/\t0.5\t0\t1\t1\tfake\tSwap\tface-swap\tright half\n"
        "some/pair\tdemo/\t0\t0\t0.5\t1\treal\tSwap-input\tcamera\tleft half\n"
        "some/other\t.\t0\t0\t1\t1\tfake\tOther\tvideo-edit\tno clip of it\n"
    )
    return folder


def read(data: Path, *, folds: int = 2) -> list[Clip]:
    return read_clips([data / "video"], boxes=data / "boxes.tsv", folds=folds)


def test_side_by_side_clips_are_their_parts(data: Path) -> None:
    clips = {clip.name: clip for clip in read(data)}
    swap, genuine = clips["both.mp4#0.50,0.00"], clips["both.mp4#0.00,0.00"]
    assert (swap.label, swap.source, swap.family) == (1, "Swap", "face swap")
    assert (genuine.label, genuine.source, genuine.family) == (0, "Swap-input", "")
    assert swap.group == genuine.group
    assert swap.fold == genuine.fold
    assert clips["second-0.mp4"].family == "talking head"
    assert clips["second-0.mp4"].part == WHOLE
    assert len(clips) == 3 * len(SOURCES) + 1 + 2


def test_frames_of_a_part_show_that_part(data: Path, tmp_path: Path) -> None:
    clips = read(data)
    keep_shots(clips, folder=tmp_path, workers=1)
    by_name = {clip.name: load_shots(tmp_path, number) for number, clip in enumerate(clips)}
    part, whole = by_name["both.mp4#0.50,0.00"], by_name["first-0.mp4"]
    assert by_name["broken.mp4"] is None
    assert part is not None
    assert whole is not None
    assert part.bursts.shape[1:] == whole.bursts.shape[1:] == (4, 144, 176, 3)
    assert abs(float(part.bursts.mean()) - 110) < 40


def test_short_clips_repeat_their_last_frame(tmp_path: Path) -> None:
    path = tmp_path / "two.mp4"
    path.write_bytes(video_bytes(frames(0, 1, count=2), rate=8))
    clip = Clip(Item(path, 0, "phone", {"path": path.name}), "g", 0, WHOLE, "")
    assert cut(clip).bursts.shape == (1, 4, 144, 176, 3)


def test_changed_frames_differ_and_are_the_same_for_the_same_seed() -> None:
    shots = Shots(np.stack([np.stack(frames(0, 1, count=4))]))
    plain = Frame(burst=2, changed=False)(shots, np.random.default_rng(1))
    assert np.array_equal(plain, shots.bursts[0][0])
    look = Frame(burst=0, changed=True)
    once, again = (look(shots, np.random.default_rng(5)) for _ in range(2))
    assert np.array_equal(once, again)
    sizes = {change(list(shots.bursts[0]), np.random.default_rng(s))[0].shape for s in range(8)}
    assert len(sizes) >= 3
    assert min(size[0] for size in sizes) >= 127


def test_of_two_scales_a_frame_is_seen_at_one(picture_models: Path, tmp_path: Path) -> None:
    quick = Bundle.read(picture_models / "image-7")
    assert load_one_scale(quick)[0] is quick
    bundle = write_large_pictures(tmp_path, scales=2)
    one, network = load_one_scale(bundle)
    assert one.preprocess == replace(bundle.preprocess, side_pixels=224, overview=False)
    alike = networks.create(one.network, **one.network_options)
    assert alike.state_dict().keys() == network.state_dict().keys()
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, 224, 224)).shape == (2,)


def test_odd_parts_are_cut_to_even_sides() -> None:
    pixels = np.zeros((101, 203, 3), np.uint8)
    assert crop_part(pixels, Part(0.1, 0.1, 0.9, 0.9)).shape == (80, 162, 3)
    assert crop_part(pixels, Part(0.5, 0.5, 0.5, 0.5)).shape == (2, 2, 3)


def test_parts_become_files_beside_links(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = write_recipe(tmp_path / "frame-7.toml", SETTINGS), tmp_path / "out"
    command = ["recipe", "parts", str(config), "--data", str(data), "--output", str(out)]
    assert main(command) == 0
    assert "wrote 15 clips" in capsys.readouterr().out
    items = list_labelled(out)
    assert {item.source for item in items} >= {"Swap", "Swap-input", "phone", "first"}
    (swap,) = [item for item in items if item.source == "Swap"]
    with av.open(swap.path) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == (176, 144)
        assert sum(1 for _ in container.decode(video=0)) == 14
    (first, *_) = [item for item in items if item.source == "first"]
    assert first.path.is_symlink()
    assert first.facts["fold"] in "01"
    assert main(command) == 0  # a second run makes the same


def test_parts_are_of_clips_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = Path(__file__).parents[2] / "training/configs/image-3.toml"
    command = ["recipe", "parts", str(config), "--data", str(tmp_path), "--output", str(tmp_path)]
    assert main(command) == 2
    assert "take training/configs/frame-2.toml" in capsys.readouterr().err


def test_families_are_compared_with_all_genuine_clips() -> None:
    def record(path: str, label: int, logit: float, view: str = "clean") -> FileLogits:
        return FileLogits(path, label, "s", "g", 0, view, (logit,))

    records = [
        *(record(f"r{n}", 0, n / 10) for n in range(10)),
        record("a", 1, 5.0),
        record("b", 1, 0.45),
        record("b", 1, 9.0, view="changed"),
    ]
    rows = tabulate_families(records, {"a": "generation", "b": "face swap"})
    assert [(row.family, row.files) for row in rows] == [("generation", 1), ("face swap", 1)]
    assert rows[0].auc == 1.0
    assert rows[1].auc == pytest.approx(0.5)


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``faces`` with a manifest: two clips of each of five sources with a face that the known
    finder sees, one of them generated as a whole, and one without a face.
    """
    folder, clips = tmp_path_factory.mktemp("people"), []
    sources = {"phone": "camera", "webcam": "camera", "first": "talking-head"}
    sources |= {"second": "face-swap", "third": "text-to-video", "empty": "camera"}
    for place, (source, note) in enumerate(sources.items()):
        label = int(note != "camera")
        for number in range(1 + (source != "empty")):
            made = frames(label, 10 * place + number)
            for pixels in made if source != "empty" else ():
                paint_face(pixels)
            clips.append((f"{source}-{number}.mp4", video_bytes(made, rate=8), label, source, note))
    write_material(folder / "faces", clips)
    (folder / "boxes.tsv").write_text("# repo\tregex\n")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, picture_models: Path) -> Path:
    return Path(shutil.copytree(picture_models, tmp_path_factory.mktemp("models") / "all"))


@pytest.mark.usefixtures("traced_graphs")
@pytest.mark.slow
def test_the_recipe_makes_both_tiers_from_those_of_pictures(
    data: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = recipe(FrameRecipe, SETTINGS)
    quick = make_bundle(made, data=data, weights=tmp_path, models=models, runs=tmp_path / "runs")
    full = Bundle.read(models / "frame-7-large")
    assert "The full tier" in capsys.readouterr().out
    assert (quick.slot, full.slot) == ("frame", "frame-large")
    assert quick.frames_calibration is not None
    assert full.frames_calibration is not None
    assert full.frames_calibration.quick is not None
    assert full.frames_calibration.quick.sha256 == quick.logit_sha256
    for bundle in (quick, full):
        bundle.verify()
        assert "face swap" in (bundle.folder / "README.md").read_text()
        (views,) = [bundle.metrics["views"]]
        assert {row["view"] for row in views} == {"clean", "changed"}
    stored = (full.folder / WEIGHTS).read_bytes()
    assert stored == (models / "image-7-large" / WEIGHTS).read_bytes()
    assert set(load_file(full.folder / HEAD)) == {"decide.weight", "decide.bias"}


@pytest.mark.usefixtures("traced_graphs")
@pytest.mark.slow
def test_the_recipe_of_faces_learns_from_faces_that_were_made(
    people: Path, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = recipe(FaceTierRecipe, FACES)
    bundle = make_bundle(made, data=people, weights=tmp_path, models=models, runs=tmp_path / "runs")
    assert "| clean |" in capsys.readouterr().out
    assert bundle.slot == "face-large"
    bundle.verify()
    records = read_records(tmp_path / "runs" / bundle.name / "out_of_fold.jsonl")
    assert {record.source for record in records} == {"phone", "webcam", "first", "second"}
    assert {record.view for record in records} == {"clean", "changed"}
    assert {len(record.logits) for record in records} == {3}
    stored = (bundle.folder / WEIGHTS).read_bytes()
    assert stored == (models / "image-7-large" / WEIGHTS).read_bytes()
    assert [row["family"] for row in bundle.metrics["families"]] == ["talking head", "face swap"]
