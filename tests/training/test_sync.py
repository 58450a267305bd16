from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from deepfake_training.studies import lips as sync
from deepfake_training.studies.lips import Clip, SyncProbability, Trial

from deepfake.content import lips as lipsync
from deepfake.content.faces import Face
from deepfake.preprocess import FacePreprocess, Pixels
from tests.content.test_lips import face
from tests.media_files import scene, speech, video_bytes

SIDE = 96


class FixedFinder:
    """Finds the drawn face where it always is, and none in other pictures."""

    name = "fixed"

    def __init__(self) -> None:
        points = np.array([[-0.5, 0], [0.5, 0], [0, 0.56], [-0.41, 1.15], [0.41, 1.15]])
        points = points * SIDE / lipsync.SPAN
        points += SIDE / 2 - points[2]
        self._face = Face((16, 16, 80, 90), tuple((float(x), float(y)) for x, y in points), 0.9)

    def find(self, pixels: Pixels) -> list[Face]:
        return [self._face] if pixels.shape[0] == SIDE else []


def words(seconds: float, *, seed: int) -> npt.NDArray[np.float32]:
    """Drawn speech with words of uneven loudness and short pauses."""
    rng = np.random.default_rng(seed)
    gain = np.concatenate(
        [
            np.concatenate([np.full(int(rng.uniform(3000, 9000)), rng.uniform(0.3, 1)), quiet])
            for quiet in [np.full(2500, 0.02)] * 40
        ]
    )
    samples = speech(seconds, seed=seed)
    return (samples * gain[: len(samples)]).astype(np.float32)


def talking(seconds: float, *, seed: int) -> bytes:
    samples = words(seconds, seed=seed)
    loudness = lipsync.find_envelope(samples, steps=round(25 * seconds))
    rng = np.random.default_rng(seed)
    frames = [face(float(o / loudness.max()), rng).astype(np.uint8) for o in loudness]
    return video_bytes(frames, sound=np.repeat(samples, 3), sample_rate=48000)


def test_the_finder_of_these_tests_leaves_the_crop_as_drawn() -> None:
    finder = FixedFinder()
    pixels = scene(SIDE, SIDE)
    align = FacePreprocess(side_pixels=SIDE, span=lipsync.SPAN)
    crop = align.crop(pixels, finder.find(pixels)[0].points)
    assert np.abs(crop.astype(int) - pixels).max() <= 1


def test_run_prints_what_own_and_wrong_sounds_give(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data" / "video"
    folder.mkdir(parents=True)
    rows = ["path\tsha256\tlabel\tsystem"]
    for number, (label, system) in enumerate([("real", "one"), ("real", "two"), ("fake", "heads")]):
        (folder / f"{number}.mp4").write_bytes(talking(5.0, seed=number))
        rows.append(f"{number}.mp4\t{number:x}{0:063}\t{label}\t{system}")
    (folder / "silent.mp4").write_bytes(video_bytes([scene(64, 48)] * 5))
    rows.append(f"silent.mp4\t{9:x}{0:063}\treal\ttwo")
    (folder / "cut.mp4").write_bytes((folder / "0.mp4").read_bytes()[:300])
    rows.append(f"cut.mp4\t{8:x}{0:063}\treal\ttwo")
    (folder / "manifest.tsv").write_text("\n".join(rows) + "\n")
    monkeypatch.setattr(sync, "CLIP_VIEWS", ("clean", "crf_40_360p"))
    monkeypatch.setattr(sync, "every_set", lambda: (("openness",), ("motion",)))
    output = tmp_path / "out"
    sync.run(tmp_path / "data", output, finder=FixedFinder())
    printed = capsys.readouterr().out
    lines = [line for line in printed.splitlines() if line.startswith("| clean | 3.0 |")]
    assert len(lines) == 1
    cells = [cell.strip() for cell in lines[0].split("|")[1:-1]]
    assert float(cells[3]) > 0.8
    assert "| crf_40_360p | 3.0 |" in printed
    assert "USED = ('openness',)" in printed
    assert "| fake | heads | 2 |" in printed
    stored = [path.stat().st_mtime_ns for path in sorted(output.glob("*.npz"))]
    assert len(stored) == 2 * 4
    sync.run(tmp_path / "data", output, finder=FixedFinder())
    assert [path.stat().st_mtime_ns for path in sorted(output.glob("*.npz"))] == stored


def made_clip(name: str, *, follows: bool, steps: int = 300, seed: int = 0) -> Clip:
    rng = np.random.default_rng(seed)
    envelope = np.convolve(rng.normal(0, 1, steps + 4), np.ones(5), "valid")
    signals = rng.normal(0, 1, (steps, len(lipsync.FEATURES)))
    if follows:
        signals[:, 0] += 2 * envelope
    return Clip(name, name[0], 0, signals, envelope, np.ones(steps, np.bool_))


def test_the_feature_that_follows_is_chosen() -> None:
    clips = [made_clip(f"a{seed}", follows=True, seed=seed) for seed in range(3)]
    windows = [w for s in sync.CHOICE_SECONDS for w in sync.cut_windows(clips, seconds=s)]
    assert "openness" in sync.choose_features(windows)
    assert sync.separation(sync.make_trials(windows, ("openness",)), against="shifted") > 0.95
    assert sync.separation(sync.make_trials(windows, ("depth",)), against="other") < 0.8


def test_windows_lie_in_speech_and_meet_other_clips_only() -> None:
    clips = [made_clip("a", follows=True), made_clip("b", follows=True, seed=1)]
    clips[1].inside[:200] = False
    windows = sync.cut_windows(clips, seconds=3.0)
    assert [window.source for window in windows] == ["a"] * 4 + ["b"]
    assert all(window.own.shape == (1, 75, len(lipsync.FEATURES)) for window in windows)
    assert [len(window.others) for window in windows] == [1, 1, 1, 1, 4]


def test_every_set_of_features_is_tried() -> None:
    sets = sync.every_set()
    assert len(sets) == len(set(sets)) == 2 ** len(lipsync.FEATURES) - 1


def test_the_fit_parts_own_from_wrong_sounds_by_length() -> None:
    rng = np.random.default_rng(0)
    trials = [
        Trial("s", seconds, kind, float(rng.normal(3 if kind == "own" else 1, 0.7)))
        for kind, seconds in itertools.product(("own", "shifted", "other"), [1.4, 5.0, 8.0] * 20)
    ]
    fit = sync.fit_probability(trials)
    assert fit(Trial("s", 8.0, "own", 6.0)) < 0.1
    assert fit(Trial("s", 8.0, "other", 0.5)) > 0.9
    shipped = SyncProbability(
        lipsync.INTERCEPT, lipsync.OF_PROMINENCE, lipsync.OF_LENGTH, lipsync.OF_BOTH
    )
    assert shipped(trials[0]) == lipsync.out_of_sync(trials[0].prominence, trials[0].seconds)
