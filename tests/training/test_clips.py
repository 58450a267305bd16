"""The video recipe on small clips of moving patterns, and the rules that make it honest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from deepfake_training.image.autoencoder import Autoencoder
from deepfake_training.image.decoders import DecoderFamily
from deepfake_training.manifests import Item, balance
from deepfake_training.video import material as clips_material
from deepfake_training.video import recipe as clips
from deepfake_training.video.bank import Bank, Take, draw_moments
from deepfake_training.video.camera import move_camera
from deepfake_training.video.fakes import (
    animate,
    flicker,
    freeze,
    interpolate,
    make_makers,
    region_mask,
    splice,
    wobble,
)
from deepfake_training.video.fit import ClipFitSettings, ClipOptions, fit, new_network
from deepfake_training.video.footage import (
    TAKE_FRAMES,
    TAKE_SIDE,
    Clip,
    cut_takes,
    follow_face,
    read_clip,
    read_moments,
    starts,
)
from deepfake_training.video.held_out import (
    ClipLogits,
    draw_pseudo_bursts,
    join_minutes,
    pseudo_auc,
    to_record,
)
from deepfake_training.video.history import History, code_burst
from deepfake_training.video.views import CLIP_VIEWS
from PIL import Image
from safetensors.torch import save_file

from deepfake.content import footage
from deepfake.content.faces import Face
from deepfake.detector import Detector
from deepfake.preprocess import ClipPreprocess, Pixels
from tests.media_files import gif_bytes, scene, video_bytes
from tests.training.recipes import recipe

pytestmark = pytest.mark.usefixtures("shallow_trunk")
FOLDS = [["camera-a", "maker-a"], ["camera-b", "maker-b"]]
SIDE = 64


class SquareFinder:
    """Finds a pure red square as a face."""

    name = "square"

    def find(self, pixels: Pixels) -> list[Face]:
        red = (pixels[..., 0] > 200) & (pixels[..., 1:].max(axis=2) < 80)
        if red.sum() < 100:
            return []
        rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
        left, top = float(columns[0]), float(rows[0])
        size = float(columns[-1] - columns[0] + 1)
        marks = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))
        points = tuple((left + x * size, top + y * size) for x, y in marks)
        return [Face((left, top, left + size, top + size), points, 0.9)]

    def find_all(self, pictures: Sequence[Pixels]) -> list[list[Face]]:
        return [self.find(pixels) for pixels in pictures]


def panned(count: int, *, size: tuple[int, int] = (96, 72), seed: int = 0) -> list[Pixels]:
    """Frames of a slow pan over a scene."""
    width, height = size
    wide = scene(width + 2 * count, height, seed=seed)
    return [np.ascontiguousarray(wide[:, 2 * t : 2 * t + width]) for t in range(count)]


def numbered(count: int) -> list[Pixels]:
    """Grey frames whose level tells their number."""
    return [np.full((48, 64, 3), 10 * number, np.uint8) for number in range(count)]


def with_face(frames: Sequence[Pixels], *, step: int = 0) -> list[Pixels]:
    made = []
    for number, pixels in enumerate(frames):
        drawn, left = pixels.copy(), 20 + step * number
        drawn[10:64, left : left + 54] = (250, 20, 20)
        made.append(drawn)
    return made


def burst_of(seed: int = 0, *, side: int = TAKE_SIDE, count: int = 8) -> np.ndarray:
    return np.stack(panned(count, size=(side, side), seed=seed))


@pytest.mark.parametrize(("rate", "every"), [(8, 1), (24, 3)])
def test_moments_are_the_same_time_apart_whatever_the_rate(rate: int, every: int) -> None:
    content = video_bytes(numbered(24), rate=rate, options={"crf": "5"})
    frames = read_moments(content, step_seconds=0.125, most_seconds=60)
    levels = [round(float(pixels.mean()) / 10) for pixels in frames]
    assert levels == list(range(0, 24, every))


def test_first_frame_at_or_after_a_moment_is_taken_and_long_ones_repeat() -> None:
    content = gif_bytes(numbered(6), milliseconds=250)
    frames = read_moments(content, step_seconds=0.125, most_seconds=60)
    levels = [round(float(pixels.mean()) / 10) for pixels in frames]
    assert levels == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_damaged_end_keeps_the_frames_before_it() -> None:
    content = video_bytes(panned(40), rate=8, format="matroska", options={"g": "4"})
    frames = read_moments(content[: len(content) // 2], step_seconds=0.125, most_seconds=9)
    assert len(frames) > 4


def test_bursts_start_every_second_and_the_last_ends_with_the_clip() -> None:
    assert starts(20, 8, 8) == [0, 8, 12]
    assert starts(17, 8, 8) == [0, 8]
    assert starts(3, 8, 8) == [0]
    assert len(starts(800, 8, 8)) == 12


def test_no_take_spans_a_cut_and_a_face_has_one_of_its_own() -> None:
    preprocess = ClipPreprocess(side_pixels=SIDE)
    calm = with_face(panned(48))
    takes = cut_takes(calm, SquareFinder(), preprocess=preprocess)
    assert takes.kinds.tolist() == [0, 1, 0, 1]
    assert takes.frames.shape == (4, TAKE_FRAMES, TAKE_SIDE, TAKE_SIDE, 3)
    black = np.zeros_like(calm[0])
    broken = [*calm[:12], *[black] * 15, *calm[27:]]
    assert not len(cut_takes(broken, SquareFinder(), preprocess=preprocess).frames)
    assert not len(cut_takes([], SquareFinder(), preprocess=preprocess).frames)


def test_bursts_are_those_that_the_detector_judges(
    known_detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(video_bytes(with_face(panned(20), step=1), rate=8))
    monkeypatch.setattr(footage, "is_graphic", lambda pixels: False)  # the painted face is one
    judge = known_detector.engine.bundle("video")
    bursts = read_clip(path.read_bytes(), SquareFinder(), judge)
    report = known_detector.detect(path)
    video = next(one for one in report.evidence if one.source == "video")
    motion = next(line for line in video.timelines if line.name.startswith("motion"))
    side = judge.preprocess.side_pixels
    whole = bursts.kinds == 0
    assert bursts.seconds[whole].tolist() == pytest.approx(list(motion.seconds))
    assert bursts.frames.shape == (2 * len(motion.seconds), 8, side, side, 3)
    scores = [
        known_detector.engine.score(judge, frames[None]).score for frames in bursts.frames[whole]
    ]
    assert scores == pytest.approx(list(motion.scores), abs=1e-4)


def test_face_that_is_lost_is_not_judged() -> None:
    face, empty = with_face(panned(8)), panned(8)
    assert follow_face(SquareFinder(), face) is not None
    assert follow_face(SquareFinder(), [*face[:4], *empty[4:]]) is None


def test_clip_of_a_source_in_no_fold_is_refused(material: Path) -> None:
    with pytest.raises(ValueError, match="'maker-b': in no fold"):
        clips_material.read_clips(material / "video", folds=[["camera-a", "camera-b", "maker-a"]])


def test_every_maker_changes_a_burst_and_keeps_its_shape() -> None:
    torch.manual_seed(0)
    makers = make_makers(DecoderFamily().eval(), Autoencoder().eval())
    burst = burst_of(side=32)
    for name, make in makers.items():
        for face in (False, True):
            made = make(burst, np.random.default_rng(1), face=face)
            assert made.shape == burst.shape, name
            assert made.dtype == np.uint8, name
            assert (made != burst).any(), name
            again = make(burst, np.random.default_rng(1), face=face)
            np.testing.assert_array_equal(made, again, err_msg=name)


def test_flicker_jumps_where_the_burst_stood_still() -> None:
    still = np.repeat(burst_of()[:1], 8, axis=0)
    made = flicker(still, np.random.default_rng(3), face=True).astype(int)
    assert np.abs(np.diff(made, axis=0))[:, 64:96, 64:96].mean() > 0.5
    assert np.abs(np.diff(made, axis=0))[:, :8, :8].max() == 0


def test_frozen_part_holds_while_the_rest_moves() -> None:
    burst = burst_of()
    held = 0
    for seed in range(12):
        made = freeze(burst, np.random.default_rng(seed), face=True).astype(int)
        middle = np.abs(np.diff(made, axis=0))[:, 72:88, 72:88].mean(axis=(1, 2, 3))
        edge = np.abs(np.diff(made, axis=0))[:, :10].mean(axis=(1, 2, 3))
        held += int((middle < 0.01).any())
        assert edge.min() > 0.5
    assert held >= 6


def test_interpolated_frame_is_the_mean_of_its_neighbours() -> None:
    burst = burst_of()
    made = interpolate(burst, np.random.default_rng(4), face=False)
    kept = [t for t in range(8) if (made[t] == burst[t]).all()]
    assert 2 <= len(kept) < 8
    before = next(t for t, after in pairwise(kept) if after - t >= 2)
    after = kept[kept.index(before) + 1]
    share = 1 / (after - before)
    mixed = burst[before] * (1 - share) + burst[after] * share
    np.testing.assert_allclose(made[before + 1], mixed, atol=1)


def test_splice_leaves_the_other_frames_untouched() -> None:
    burst = burst_of()
    for seed in range(6):
        made = splice(burst, np.random.default_rng(seed), face=False)
        same = [bool((a == b).all()) for a, b in zip(made, burst, strict=True)]
        assert 0 < sum(same) < 8


def test_animated_still_has_motion_and_wobble_stays_small() -> None:
    still = np.repeat(burst_of()[:1], 8, axis=0)
    moved = animate(still, np.random.default_rng(1), face=False).astype(int)
    assert np.abs(np.diff(moved, axis=0)).mean() > 0.3
    shaken = wobble(still, np.random.default_rng(1), face=False).astype(int)
    assert 0.05 < np.abs(shaken - still).mean() < 25


def test_region_mask_is_full_in_its_middle_and_empty_outside() -> None:
    shape = np.array([0.5, 0.5, 0.2, 0.2])
    mask = region_mask(shape, side=80, rng=np.random.default_rng(0))
    assert mask[40, 40] == 1
    assert mask[:5].max() == mask[:, -5:].max() == 0


def test_history_is_one_for_both_bursts_of_a_couple_and_for_all_frames() -> None:
    preprocess = ClipPreprocess(side_pixels=SIDE)
    burst = np.repeat(burst_of(seed=5)[:1], 8, axis=0)
    for seed in range(10):
        history = History.draw(
            np.random.default_rng(seed), face=seed % 2 > 0, preprocess=preprocess
        )
        made = history(burst)
        assert made.shape == (8, SIDE, SIDE, 3)
        np.testing.assert_array_equal(made, history(burst.copy()))
        if not history.grain and not history.crf:
            assert (made == made[:1]).all()


def test_round_of_h264_keeps_odd_sizes_and_costs_detail() -> None:
    frames = [pixels[:61, :75] for pixels in panned(8)]
    fine, coarse = (np.stack(code_burst(frames, crf=crf)).astype(int) for crf in (10, 40))
    assert fine.shape == coarse.shape == (8, 61, 75, 3)
    errors = [np.abs(made - np.stack(frames)).mean() for made in (fine, coarse)]
    assert errors[0] < errors[1]


def test_camera_moves_alike_over_any_still() -> None:
    stills = [scene(240, 200, seed=1, noise=0), scene(240, 200, seed=2, noise=0)]
    for seed in range(8):
        first = move_camera(stills[0], 8, seed=seed)
        assert first.shape == (8, TAKE_SIDE, TAKE_SIDE, 3)
        np.testing.assert_array_equal(first, move_camera(stills[0], 8, seed=seed))
        both = [move_camera(still, 8, seed=seed) for still in stills]
        still_holds = [bool((made == made[:1]).all()) for made in both]
        assert still_holds[0] == still_holds[1]


def test_moments_of_a_burst_keep_their_order_within_the_take() -> None:
    rng = np.random.default_rng(0)
    drawn = np.stack([draw_moments(rng, ClipPreprocess()) for _ in range(300)])
    assert drawn.min() >= 0
    assert drawn.max() < TAKE_FRAMES
    steps = np.diff(drawn, axis=1)
    assert steps.min() >= 0
    assert (steps == 0).any()
    assert (steps >= 5).any()


def test_a_source_counts_by_its_files_and_a_file_not_by_its_takes() -> None:
    places = [("a", "1")] * 6 + [("a", "2")] * 2 + [("b", "3")]
    weights = balance(places, power=1.0)
    assert weights[:6].sum() == pytest.approx(weights[6:8].sum()) == pytest.approx(1 / 3)
    assert balance(places, power=0.0)[8] == pytest.approx(1 / 2)


def test_bank_leaves_out_a_fold() -> None:
    bank = Bank(
        bursts=np.zeros((4, 2, 1, 1, 1, 3), np.uint8),
        folds=np.array([[0, 1], [1, 1], [-1, -1], [1, 1]]),
        methods=("maker-a", "frozen", "still", "flicker"),
    )
    assert bank.without(None).tolist() == [0, 1, 2, 3]
    assert bank.without(0).tolist() == [1, 2, 3]
    assert bank.without(1).tolist() == [2]
    assert bank.kinds.tolist() == ["generated", "pseudo", "still", "pseudo"]
    assert bank.without(None, generated=0.0).tolist() == [1, 2, 3]


def judged(source: str, label: int, fold: int, logits: Sequence[float]) -> ClipLogits:
    item = Item(Path(source), label, source, {"path": f"{source}.mp4"})
    seconds = np.repeat(np.arange(len(logits), dtype=float), 2)
    both = np.array([value for logit in logits for value in (logit, logit + 2)])
    kinds = np.tile([0, 1], len(logits))
    return ClipLogits(Clip(item, fold, f"fold {fold}"), "clean", both, seconds, kinds)


def test_moment_is_the_mean_of_picture_and_face() -> None:
    one = judged("a", 0, 0, [1.0, 3.0])
    assert one.moments() == (2.0, 4.0)
    alone = replace(one, kinds=one.kinds[::2], logits=one.logits[::2], seconds=one.seconds[::2])
    assert alone.moments() == (1.0, 3.0)
    record = to_record(one)
    assert record.logits == (2.0, 4.0)
    assert (record.path, record.group, record.fold) == ("a.mp4", "fold 0", 0)


def test_minutes_hold_three_seconds_of_a_left_out_system_where_they_say_so() -> None:
    clips_judged = [
        judged("camera", 0, 0, [-1.0] * 5),
        judged("maker", 1, 0, [5.0] * 2),
        judged("elsewhere", 1, 1, [9.0] * 5),
    ]
    minutes = join_minutes(clips_judged, fold=0, seed=1)
    assert {one.system for one in minutes} == {"", "maker"}
    for one in minutes:
        raised = [second for second, logit in enumerate(one.logits) if logit > 0]
        assert len(one.logits) == 60
        assert max(one.logits) < 9
        expected = [int(one.insert) + second for second in range(3)] if one.system else []
        assert raised == expected


def test_pseudo_fakes_are_ranked_against_their_own_clips() -> None:
    clips_logits = [
        {"genuine": [0.0, 1.0], "frozen": [2.0, 3.0], "wobble": [0.0, 1.0]},
        {"genuine": [0.5], "frozen": [4.0], "wobble": [0.5]},
    ]
    assert pseudo_auc(clips_logits) == {"frozen": 1.0, "wobble": 0.5}


def test_fit_finds_a_flicker_and_leaves_the_trunk(weights: Path, tmp_path: Path) -> None:
    network = new_network(ClipOptions(look=False, residual=False, width=8), weights=weights)
    rng = np.random.default_rng(0)
    described = rng.normal(0, 1, (64, 2, 8, 800)).astype(np.float32)
    described[:, 1, :, 300:340] += 2
    bank = Bank(np.zeros((64, 2, 8, 1, 1, 3), np.uint8), np.zeros((64, 2), int), ("x",) * 64)
    before = {key: value.clone() for key, value in network.low.state_dict().items()}
    settings = ClipFitSettings(epochs=8, couples_in_batch=8, rate=5e-3, average=0.8)
    fitted = fit(
        network,
        bank,
        described,
        couples=np.arange(48),
        settings=settings,
        checkpoint=tmp_path / "fit.checkpoint",
    )
    for key, value in fitted.low.state_dict().items():
        torch.testing.assert_close(value, before[key])
    numbers = torch.from_numpy(described[48:]).flatten(0, 1)
    with torch.inference_mode():
        logits = fitted.judge(numbers, numbers)
    assert float((logits[1::2] > logits[::2]).float().mean()) > 0.9


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_file(Autoencoder().state_dict(), folder / "taef2.safetensors")
    trunk = timm.create_model("mobilenetv2_100", pad_type="same")
    save_file(trunk.state_dict(), folder / "mobilenetv2_100_imagenet1k.safetensors")
    return folder


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = tmp_path_factory.mktemp("data")
    rows = {"video": ["path\tsha256\tlabel\tsystem"], "image": ["path\tsha256\tlabel\tsource"]}

    def keep(kind: str, name: str, content: bytes, label: int, source: str) -> None:
        path = data / kind / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        rows[kind].append(f"{name}\t{digest}\t{'fake' if label else 'real'}\t{source}")

    for number, source in enumerate(sorted(source for fold in FOLDS for source in fold)):
        label = int(source.startswith("maker"))
        frames = panned(20, seed=number)
        content = video_bytes(frames if label else with_face(frames), rate=10 if label else 12)
        keep("video", f"{source}.mp4", content, label, source)
    for label in (0, 1):
        path = data / "still.png"
        Image.fromarray(scene(190, 180, seed=label)).save(path)
        keep("image", f"{label}/still.png", path.read_bytes(), label, f"stills-{label}")
    for kind, lines in rows.items():
        (data / kind / "manifest.tsv").write_text("\n".join(lines) + "\n")
    return data


def test_recipe_scores_every_clip_by_a_network_that_never_saw_its_source(
    material: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clips_material, "YunetFinder", lambda path: SquareFinder())
    quick: Callable[..., dict[str, Any]] = lambda *_: {"flicker": flicker, "frozen": freeze}  # noqa: E731
    monkeypatch.setattr(clips_material, "make_makers", quick)
    config: dict[str, Any] = {
        "threads": 1,
        "folds": FOLDS,
        "preprocess": {"side_pixels": SIDE},
        "limits": {"min_side_pixels": 48},
        "fakes": {"decoder_steps": 1},
        "bank": {"couples": 10, "seed": 2, "stills": 0.3},
        "network": {"width": 8, "residual": True},
        "fit": {"epochs": 1, "couples_in_batch": 2},
    }
    run = partial(
        clips.train,
        recipe(clips.VideoRecipe, config),
        data=material,
        weights=weights,
        output=tmp_path,
    )
    trained = run()
    keys = [(record.path, record.view) for record in trained.records]
    assert len(keys) == len(set(keys)) == 4 * len(CLIP_VIEWS)
    for record in trained.records:
        assert record.source in FOLDS[record.fold]
        assert record.group == "+".join(FOLDS[record.fold])
        assert record.label == int(record.source.startswith("maker"))
    assert not trained.network.training
    assert sum(trained.facts["couples"].values()) == 10
    assert set(trained.facts["AUC on pseudo-fakes of left-out clips"]) == {"flicker", "frozen"}
    assert {one.fold for one in trained.recordings} == {0, 1}
    stamps = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*.npz")}
    assert stamps
    assert list(run().records) == list(trained.records)
    for path, stamp in stamps.items():
        assert path.stat().st_mtime_ns == stamp, f"{path.name} was made again"


def test_takes_of_a_clip_are_read_once(material: Path, tmp_path: Path, weights: Path) -> None:
    read = 0

    def frames() -> np.ndarray:
        nonlocal read
        read += 1
        return burst_of(count=TAKE_FRAMES)

    item = Item(Path("a"), 0, "camera-a", {"path": "a"})
    take = Take(frames, Clip(item, 0), face=False)
    bursts = draw_pseudo_bursts([take], {"frozen": freeze}, preprocess=ClipPreprocess(), seed=1)
    assert read == 1
    assert {name: made.shape for name, made in bursts.items()} == {
        "genuine": (1, 8, 128, 128, 3),
        "frozen": (1, 8, 128, 128, 3),
    }
