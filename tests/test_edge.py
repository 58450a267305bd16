from __future__ import annotations

import re
import struct
import subprocess
import sys
import wave
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from deepfake import DetectOptions, Settings
from deepfake.analyzers.image import Image
from deepfake.engine.engine import Engine
from deepfake.export.bundles import ExportOptions, export_bundle
from deepfake.media.opening import open_media
from deepfake.preprocess import AudioPreprocess, ImagePreprocess
from examples import edge
from tests.media_files import image_bytes, scene, speech, wav_bytes

SCRIPT = Path(edge.__file__)
BLOCKER = """
import sys
from importlib.abc import MetaPathFinder

class Blocker(MetaPathFinder):
    allowed = {*sys.stdlib_module_names, "numpy", "onnxruntime"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in self.allowed:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
import runpy
script = sys.argv[1]
sys.argv = sys.argv[1:]
runpy.run_path(script, run_name="__main__")
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = Engine(Settings(threads=1, backend="onnxruntime"))
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory, engine: Engine) -> Path:
    folder = tmp_path_factory.mktemp("exports")
    for slot in ("image", "audio", "face"):
        export_bundle(engine.bundle(slot), engine=engine, folder=folder, options=ExportOptions())
    return folder


def run_alone(model: Path, file: Path) -> tuple[float, str]:
    """The score and the word that the script prints where nothing else can be imported."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", BLOCKER, str(SCRIPT), str(model), str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = re.match(r"score (\d\.\d+): (.*)\n\d+ windows in [\d.]+ ms, \w+-\d\n$", done.stdout)
    assert found, done.stdout
    return float(found[1]), found[2]


def test_what_the_blocker_blocks() -> None:
    code = BLOCKER.replace('runpy.run_path(script, run_name="__main__")', "import rich")
    done = subprocess.run([sys.executable, "-I", "-c", code, "x"], capture_output=True, check=False)
    assert b"No module named 'rich'" in done.stderr


@pytest.mark.parametrize(("width", "height"), [(500, 375), (1300, 420), (110, 200)])
def test_the_score_of_a_picture_is_that_of_detect(
    exports: Path, engine: Engine, tmp_path: Path, width: int, height: int
) -> None:
    pixels = scene(width, height)
    path = tmp_path / "photo.png"
    path.write_bytes(image_bytes(pixels))
    with open_media(path) as media:
        options = DetectOptions(stability=False, effort="quick")
        (expected,) = Image().analyze(media, engine, options)
    score, word = run_alone(exports / "image-3.onnx", path)
    assert score == pytest.approx(expected.score, abs=1e-4)
    assert expected.claim.lower().startswith(word[:20])
    plain = tmp_path / "photo.ppm"
    plain.write_bytes(b"P6\n# made here\n%d %d\n255\n" % (width, height) + pixels.tobytes())
    assert edge.judge(exports / "image-3.onnx", plain)["score"] == pytest.approx(score, abs=1e-6)


def test_the_score_of_speech_is_that_of_the_engine(
    exports: Path, engine: Engine, tmp_path: Path
) -> None:
    path = tmp_path / "speech.wav"
    path.write_bytes(wav_bytes(np.concatenate([np.zeros(8000, np.float32), speech(5.3)])))
    bundle = engine.bundle("audio")
    assert isinstance(bundle.preprocess, AudioPreprocess)
    batch = bundle.preprocess(edge.read_sound(path, 16000)).batch
    score, _ = run_alone(exports / "audio-3.onnx", path)
    assert score == pytest.approx(engine.score(bundle, batch).score, abs=1e-4)


@pytest.mark.parametrize(
    ("width", "height", "most"),
    [(640, 480, 12), (90, 70, 12), (4000, 200, 6), (129, 400, 1), (500, 900, 3)],
)
def test_crops_are_those_of_the_bundle(width: int, height: int, most: int) -> None:
    preprocess = ImagePreprocess(side_pixels=128, max_windows=most)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    crops = edge.cut_crops(pixels, 128, most)
    assert np.array_equal(crops, preprocess(pixels).batch)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGB", "RGBA"])
def test_png_of_every_colour_type_is_read(tmp_path: Path, mode: str) -> None:
    import PIL.Image

    image = PIL.Image.fromarray(scene(61, 47)).convert(mode)
    path = tmp_path / "x.png"
    path.write_bytes(image_bytes(image))
    assert np.array_equal(edge.read_picture(path), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", range(5))
def test_every_filter_of_png_is_undone(kind: int) -> None:
    pixels = scene(23, 9)
    assert np.array_equal(edge.read_png(filtered_png(pixels, kind)), pixels)


def filtered_png(pixels: np.ndarray, kind: int) -> bytes:
    """A PNG of which every row has one filter, by the definition of ISO/IEC 15948."""
    height, width, _ = pixels.shape
    wide = np.zeros((height + 1, width + 1, 3), int)
    wide[1:, 1:] = pixels
    left, up, corner = wide[1:, :-1], wide[:-1, 1:], wide[:-1, :-1]
    distances = np.stack([abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)])
    paeth = np.choose(distances.argmin(axis=0), [left, up, corner])
    guess = [0 * left, left, up, (left + up) // 2, paeth][kind]
    rows = ((pixels - guess) & 255).astype(np.uint8).reshape(height, -1)
    return make_png(b"".join(bytes([kind]) + row.tobytes() for row in rows), width, height)


def make_png(raw: bytes, width: int, height: int, *, tail: bytes = b"\x08\x02\0\0\0") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        check = zlib.crc32(kind + body).to_bytes(4, "big")
        return len(body).to_bytes(4, "big") + kind + body + check

    head = struct.pack(">II", width, height) + tail
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("width_bytes", [1, 2, 3, 4])
def test_pcm_of_every_width_is_read_and_mixed(tmp_path: Path, width_bytes: int) -> None:
    voice = speech(1.5)
    full = 2 ** (8 * width_bytes - 1)
    levels = np.rint(np.stack([voice, voice / 2], axis=1).astype(np.float64) * (full - 1))
    whole = levels.astype(np.int64) + (128 if width_bytes == 1 else 0)
    path = tmp_path / "x.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((2, width_bytes, 16000, 0, "NONE", ""))
        little = whole.astype("<i8").view(np.uint8).reshape(*whole.shape, 8)
        file.writeframes(little[..., :width_bytes].tobytes())
    assert edge.read_sound(path, 16000) == pytest.approx(0.75 * voice, abs=2 / full + 1e-6)


BAD = {
    "nothing": (b"", "neither"),
    "cut off": (image_bytes(scene())[:300], "cut off"),
    "too large": (make_png(b"", 50_000, 50_000), "50000×50000 pixels"),
    "bomb": (make_png(bytes(10_000_000), 4, 2), None),
    "too little": (make_png(b"\0" * 5, 200, 200), "cut off"),
    "deep": (make_png(b"\0" * 99, 4, 2, tail=b"\x10\x02\0\0\0"), "8 bits"),
    "no filter": (make_png(b"\x07" * 100, 4, 2), "filter"),
    "short ppm": (b"P6 200 200 255\n123", "cut off"),
    "ppm without numbers": (b"P6 # \n x", "damaged"),
    "small": (image_bytes(scene(60, 60)), "under 96 pixels"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_pictures_are_one_line(
    exports: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    data, message = BAD[name]
    path = tmp_path / "x"
    path.write_bytes(data)
    assert edge.main([str(exports / "image-3.onnx"), str(path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert ascii(message or "under")[1:-1] in error


def test_other_models_and_sounds_are_named(
    exports: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wav, text = tmp_path / "x.wav", tmp_path / "x.txt"
    wav.write_bytes(wav_bytes(speech(2.0), sample_rate=8000))
    text.write_text("no model")
    for model, file, message in (
        ("audio-3.onnx", wav, "8000 Hz; bring it to 16000 Hz"),
        ("audio-3.onnx", text, "not a WAV file with plain PCM"),
        ("face-1.onnx", wav, "no exported image or audio bundle"),
        (str(text), wav, "cannot be loaded"),
        ("nowhere.onnx", wav, "No such file"),
    ):
        assert edge.main([str(exports / model), str(file)]) == 1
        assert message in capsys.readouterr().err
