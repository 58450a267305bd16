"""What people do to media: repeatable, of sensible size, and what it says."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from deepfake_training.attacks import clips, laundering, regeneration
from deepfake_training.attacks.distortion import measure_psnr, measure_snr
from PIL import Image

from deepfake.media.opening import open_media
from examples.samples import mp4
from tests.media_files import scene, speech

PIXELS = scene(160, 120, seed=4)


@pytest.mark.parametrize("name", laundering.PICTURES)
def test_pictures_are_washed_alike_each_time(name: str) -> None:
    washing = laundering.PICTURES[name]
    first, again = (washing.change(PIXELS.astype(np.float32)) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.dtype == np.float32
    assert 0 <= first.min() <= first.max() <= 255
    content = laundering.encode_picture(
        first.astype(np.uint8), format=washing.format, quality=washing.quality
    )
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.format == washing.format
        assert picture.size == (first.shape[1], first.shape[0])
    near = cv2.resize(first, (160, 120), interpolation=cv2.INTER_AREA)
    quality = measure_psnr(PIXELS, near.round().astype(np.uint8))
    assert quality is not None
    assert 11 < quality < 60  # changed, and still the same picture


def test_png_keeps_every_pixel() -> None:
    content = laundering.encode_picture(PIXELS)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), PIXELS)


def test_a_screen_leaves_its_raster() -> None:
    """The photo of a flat picture shows stripes that the picture has not."""
    flat = np.full((200, 200, 3), 128, np.uint8)
    photo = laundering.photograph_screen(flat).astype(np.float32)
    middle = photo[40:-40, 40:-40].mean(axis=2)
    smooth = cv2.GaussianBlur(middle, (0, 0), 6)
    assert middle.std() > 1
    assert np.abs(smooth - smooth.mean()).max() > 0.5


def test_skin_is_smoothed_and_the_rest_is_not() -> None:
    rng = np.random.default_rng(1)
    half = np.empty((80, 160, 3), np.uint8)
    half[:, :80], half[:, 80:] = (205, 150, 125), (60, 90, 170)
    noisy = np.clip(half + rng.normal(0, 8, half.shape), 0, 255).astype(np.uint8)
    smooth = laundering.beautify(noisy)
    assert smooth[20:60, 10:60, 1].std() < 0.75 * noisy[20:60, 10:60, 1].std()
    assert np.abs(smooth[20:60, 100:150].astype(int) - noisy[20:60, 100:150]).max() <= 3


@pytest.mark.parametrize("name", laundering.SOUNDS)
def test_sounds_are_washed_alike_each_time(name: str) -> None:
    samples = speech(1.5)
    first, again = (laundering.SOUNDS[name].change(samples) for _ in range(2))
    assert np.array_equal(first, again)
    assert first.dtype == np.float32
    assert np.abs(first).max() <= 1
    assert 0.85 < len(first) / len(samples) < 1.15
    ratio = measure_snr(samples, first)
    assert ratio is None or ratio < 60


@pytest.mark.parametrize("change", [regeneration.denoise, regeneration.halve_and_double])
def test_regenerated_pictures_lose_fine_grain(change: object) -> None:
    made = change(PIXELS)  # type: ignore[operator]
    assert made.shape == PIXELS.shape
    fine = [np.abs(np.diff(one[..., 1].astype(int), axis=1)).mean() for one in (PIXELS, made)]
    assert fine[1] < 0.95 * fine[0]


def test_regenerated_sounds_stay_in_step() -> None:
    samples = speech(1.5)
    for made in (
        regeneration.vocode(samples),
        regeneration.code_parametrically(samples, codec="g723"),
    ):
        assert made.shape == samples.shape
        levels = [np.abs(one).reshape(-1, 800).mean(axis=1) for one in (samples, made)]
        assert np.corrcoef(levels)[0, 1] > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("name", clips.CLIPS)
def test_clips_are_coded_anew(name: str) -> None:
    with open_media(mp4(seconds=1.5)) as media:
        content = clips.CLIPS[name].make(media)
        seconds, width = media.info.seconds, media.info.width
    with open_media(content) as made:
        frames = [*made.frames(most=5)]
        assert frames
        assert made.info.has_audio
        assert seconds is not None
        assert made.info.seconds == pytest.approx(
            seconds / (1.08 if name == "quicker" else 1), abs=0.2
        )
        assert (made.info.width == width) is (name not in ("upright", "messenger-twice")) or (
            name == "messenger-twice"
        )
