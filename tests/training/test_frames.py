from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from deepfake_training.__main__ import main
from deepfake_training.video.views import recompress_video

from deepfake.bundle import Bundle
from deepfake.media.opening import open_media
from tests.media_files import scene, video_bytes


def clip(seed: int, *, bright: bool) -> bytes:
    frames = [scene(96, 64, seed=seed + n) // 4 + (150 if bright else 20) for n in range(6)]
    return video_bytes([frame.astype(np.uint8) for frame in frames])


def test_recompression_keeps_times_and_limits_the_height() -> None:
    frames = [scene(160, 120, seed=n) for n in range(10)]
    seconds = [0.0, 0.1, 0.2, 0.6, 0.7, 0.8, 0.9, 1.5, 1.6, 1.7]
    content = recompress_video(video_bytes(frames, seconds=seconds), crf=32, most_height=60)
    with open_media(content) as media:
        assert (media.info.width, media.info.height) == (80, 60)
        seen = [frame.seconds for frame in media.frames(most=1000)]
    assert seen == pytest.approx(seconds, abs=0.01)


def test_command_calibrates_the_bundle_and_tells_so_in_the_card(
    tmp_path: Path, known_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = Path(shutil.copytree(known_models, tmp_path / "models"))
    folder = tmp_path / "data" / "video"
    folder.mkdir(parents=True)
    rows = ["path\tsha256\tlabel\tsystem"]
    for number in range(8):
        label, system = ("fake", "real")[number % 2], f"{'rf'[number % 2]}{number // 4}"
        (folder / f"{number}.mp4").write_bytes(clip(10 * number, bright=label == "fake"))
        rows.append(f"{number}.mp4\t{number:064}\t{label}\t{system}")
    (folder / "cut.mp4").write_bytes(clip(1, bright=True)[:300])
    rows.append(f"cut.mp4\t{9:064}\tfake\tr0")
    (folder / "manifest.tsv").write_text("\n".join(rows) + "\n")
    arguments = ["frames", "--data", str(tmp_path / "data"), "--models", str(models)]
    assert main([*arguments, "--runs", str(tmp_path / "runs")]) == 0
    captured = capsys.readouterr()
    assert "| clean |" in captured.out
    assert "left out" in captured.out
    records = (tmp_path / "runs" / "frames" / "frames.jsonl").read_text().splitlines()
    assert len(records) == 8 * 3
    assert {json.loads(line)["view"] for line in records} == {"clean", "crf_32", "crf_40_360p"}
    calibration = Bundle.read(models / "frame-1").frames_calibration
    assert calibration is not None
    assert calibration.slope > 0
    card = (models / "frame-1" / "README.md").read_text()
    assert card.count("## Video frames") == 1
    assert card.startswith("# frame-1")
