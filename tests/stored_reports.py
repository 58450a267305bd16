"""Writes the reports under ``tests/golden/``, with the code of whichever release is on the path:

    PYTHONPATH=CHECKOUT python tests/stored_reports.py tests/golden/NAME

One folder for each form that reports have had; written once, and never again. The known bundles of
``tests/bundles.py`` judge small media, so that faces, tracks, segments, timelines, heat maps,
claims and failures are all there.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, PngImagePlugin

from deepfake.detector import Detector
from deepfake.settings import DetectOptions, Settings
from tests.bundles import keys_of_tests, make_models, make_rough_models, paint_face, roughen
from tests.media_files import image_bytes, scene, speech, video_bytes, wav_bytes
from tests.scans import run_scan

Pixels = npt.NDArray[np.uint8]


def room(brightness: int, *columns: int) -> Pixels:
    """A textured picture with faces in these columns of a grid of 32 pixels."""
    texture = np.random.default_rng(1).integers(-18, 19, (24, 44, 1)).repeat(4, 0).repeat(4, 1)
    pixels = np.clip(brightness + texture, 0, 255).repeat(3, axis=2).astype(np.uint8)
    for column in columns:
        paint_face(pixels, row=1, column=column)
    return pixels


def claiming(pixels: Pixels, path: Path) -> bytes:
    """A PNG that names the program that made it."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("parameters", "a dog\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1")
    Image.fromarray(pixels).save(path, pnginfo=texts)
    return path.read_bytes()


def screenshot() -> Pixels:
    """A photo on an even ground, as screens show it."""
    shot = np.full((240, 320, 3), 8, np.uint8)
    shot[:20] = (30, 60, 90)
    for line in range(30, 235, 6):
        shot[line : line + 1, 5:65] = 180
    shot[60:200, 80:260] = np.minimum(255, scene(180, 140).astype(int) + 90).astype(np.uint8)
    return shot


def make_media(folder: Path) -> dict[str, bytes]:
    frames = [room(90, 1, 4)] * 16 + [room(235, 1, 4)] * 16 + [room(90, 1)] * 16
    sound = np.concatenate([speech(9.0), roughen(speech(3.0)), speech(6.0)])
    return {
        "picture.png": claiming(room(180, 1, 4), folder / "picture.png"),
        "screen.png": image_bytes(screenshot()),
        "sound.wav": wav_bytes(sound),
        "video.mp4": video_bytes(frames, rate=8, sound=speech(6.0), sample_rate=16000),
    }


def write_reports(out: Path, work: Path) -> None:
    os.chdir(work)  # so that no report names a folder of the machine that wrote it
    os.environ["DEEPFAKE_TRUSTED_KEYS"] = str(keys_of_tests())
    models, lacking = make_models(Path("models")), Path("lacking")
    shutil.rmtree(models / "audio-1")
    make_rough_models(models, span_windows=2, length_penalty=0.1)
    shutil.copytree(models, lacking)
    shutil.rmtree(lacking / "face-1")
    media = make_media(Path())
    options = DetectOptions(heatmap=True)
    for name, folder in (dict.fromkeys(media, models) | {"failed.png": lacking}).items():
        content = media.get(name, media["picture.png"])
        with Detector(Settings(models_folder=folder, threads=1, backend="onnxruntime")) as detector:
            report = detector.detect(content, options, name=name)
        text = json.dumps(report.to_dict(), separators=(",", ":")) + "\n"
        (out / name).with_suffix(".json").write_text(text, encoding="utf-8")
    write_results(out, media, models)


def write_results(out: Path, media: dict[str, bytes], models: Path) -> None:
    """A scan of the media and of files that cannot be examined."""
    Path("media").mkdir()
    broken = {"broken.jpg": b"\xff\xd8\xff\xe0 no picture", "notes.txt": b"not media"}
    for name, content in (media | broken).items():
        Path("media", name).write_bytes(content)
    run_scan("media", output=Path("results.jsonl"), models=models)
    shutil.copy("results.jsonl", out)


if __name__ == "__main__":
    target = Path(sys.argv[1]).resolve()
    target.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as temporary:
        write_reports(target, Path(temporary))
