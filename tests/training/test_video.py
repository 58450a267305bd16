from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from deepfake_training.records import FileLogits, write_records
from deepfake_training.studies.clips import join_clips, tabulate_clips

from deepfake.bundle import Bundle
from deepfake.commands.cli import main
from deepfake.types import Verdict

SYSTEMS = ("one", "two", "three")
CAMERAS = ("phone", "studio", "street")


def records(slot: str, *, gain: float, seed: int) -> list[FileLogits]:
    """Clips of three systems and three cameras, told apart by ``gain``; faces by frame."""
    rng = np.random.default_rng(seed)
    made = []
    for label, sources in ((1, SYSTEMS), (0, CAMERAS)):
        for fold, source in enumerate(sources):
            for number in range(20):
                logits = rng.normal(gain * (label - 0.5), 1.0, 4)
                paths = [f"{source}/{number}.mp4"]
                if slot == "face":
                    paths = [f"{paths[0]}#{frame}.0" for frame in range(3)] if number < 15 else []
                for path in paths:
                    for view in ("clean", "crf_32"):
                        made.append(
                            FileLogits(
                                path,
                                label,
                                source,
                                f"group {fold}",
                                fold,
                                view,
                                tuple(logits),
                                pixels=80.0,
                            )
                        )
    return made


def all_records(*, face_gain: float = 6.0) -> dict[str, list[FileLogits]]:
    faces = records("face", gain=face_gain, seed=3)
    return {
        "frames": records("frames", gain=0.0, seed=1),
        "motion": records("motion", gain=2.0, seed=2),
        "faces": faces,
        "known_faces": [record for record in faces if record.source != "three"],
    }


def test_every_clip_is_told_once_a_view_with_the_scores_that_it_has() -> None:
    rows, _ = join_clips(**all_records())
    assert len(rows) == 2 * 120
    assert {len(row.scores) for row in rows if row.path.endswith("/19.mp4")} == {3}
    assert {len(row.scores) for row in rows if row.path.endswith("/3.mp4")} == {4}
    assert all(0 < row.probability < 1 for row in rows)


def test_tables_follow_the_scores() -> None:
    sources, fused = tabulate_clips(join_clips(**all_records())[0])
    assert [row.view for row in fused] == ["clean", "crf_32"]
    clean = {row.source: row for row in sources if row.view == "clean"}
    for system in SYSTEMS:
        assert clean[system].auc["face"] > 0.97
        assert 0.3 < clean[system].auc["frames"] < 0.7
        assert clean[system].auc["fused"] > 0.8
        assert clean[system].flagged > 0.5
    for camera in CAMERAS:
        assert np.isnan(clean[camera].auc["fused"])
        assert clean[camera].flagged_synthetic <= 0.15
    blind, _ = tabulate_clips(join_clips(**all_records(face_gain=0.0))[0])
    assert max(row.auc["face"] for row in blind if row.label) < 0.75


def test_a_clear_face_decides_as_in_the_detector() -> None:
    told, _ = join_clips(**all_records(face_gain=12.0))
    rows = [row for row in told if "face" in row.scores]
    caught = [row.verdict in (Verdict.SYNTHETIC, Verdict.SUSPICIOUS) for row in rows if row.label]
    assert np.mean(caught) > 0.95


def test_command_prints_the_tables_and_keeps_them(
    tmp_path: Path, known_models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = Path(shutil.copytree(known_models, tmp_path / "models"))
    places = {
        "frames": "frames/frames",
        "motion": "video-1/out_of_fold",
        "faces": "face-1/fold-0",
        "known_faces": "face-1/out_of_fold",
    }
    for slot, inside in all_records().items():
        path = tmp_path / f"{places[slot]}.jsonl"
        path.parent.mkdir(exist_ok=True)
        write_records(path, inside)
    command = ["recipe", "clips", "--runs", str(tmp_path), "--bundles", "face-1", "video-1"]
    command += ["--models", str(models)]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "| clean | one | 20 |" in shown
    assert "| crf_32 | studio | 20 |" in shown
    bundle = Bundle.read(models / "video-1")
    assert bundle.frames_calibration is not None
    assert bundle.frames_calibration.slope > 0
    assert len(bundle.metrics["clips"]) == 12
    assert all(
        (row["auc"]["fused"] is None) == (row["label"] == 0) for row in bundle.metrics["clips"]
    )
    card = (models / "video-1" / "README.md").read_text(encoding="utf-8")
    assert main(command) == 0
    assert (models / "video-1" / "README.md").read_text(encoding="utf-8") == card
    assert "| clean | one | 20 |" in card
    (tmp_path / "face-1" / "out_of_fold.jsonl").unlink()
    assert main(command) == 2
