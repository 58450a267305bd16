from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deepfake.errors import ModelError
from deepfake.preprocess import (
    AudioPreprocess,
    Box,
    ImagePreprocess,
    PixelScale,
    Samples,
    mix_channels,
    preprocess_from_dict,
    preprocess_to_dict,
)

IMAGE = ImagePreprocess(side_pixels=64, max_windows=9)
AUDIO = AudioPreprocess(window_seconds=1.0, hop_seconds=0.5)


@pytest.mark.parametrize(
    ("width", "height"), [(64, 64), (65, 200), (1, 1), (30, 90), (6000, 40), (5000, 3000)]
)
def test_crops_are_native_pixels_within_bounds(width: int, height: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    crops = IMAGE(pixels)
    assert crops.batch.shape == (len(crops.boxes), 64, 64, 3)
    assert 1 <= len(crops.boxes) <= 9
    for crop, box in zip(crops.batch, crops.boxes, strict=True):
        own = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
        np.testing.assert_array_equal(crop[: box.height, : box.width], own)
        assert box.left + box.width <= width
        assert box.top + box.height <= height


def test_pixels_are_scaled_by_channel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), np.uint8)
    scale = PixelScale((0.5, 0.4, 0.3), (0.5, 0.2, 0.1))
    seen = scale(pixels)
    assert (seen.shape, seen.dtype) == ((2, 3, 5, 7), np.float32)
    expected = (pixels / 255 - np.array(scale.mean)) / np.array(scale.std)
    np.testing.assert_allclose(seen, expected.transpose(0, 3, 1, 2), atol=1e-5)


def test_crops_reach_every_corner() -> None:
    boxes = IMAGE.boxes(500, 300)
    assert {(0, 0), (436, 0), (0, 236), (436, 236)} <= {(box.left, box.top) for box in boxes}


def test_a_single_crop_is_the_middle_and_few_lie_in_a_row() -> None:
    def corners(width: int, height: int, most: int) -> list[tuple[int, int]]:
        boxes = IMAGE.boxes(width, height, max_windows=most)
        return [(box.left, box.top) for box in boxes]

    assert corners(500, 301, 1) == [(218, 118)]
    assert corners(500, 300, 2) == [(0, 118), (436, 118)]
    assert corners(500, 300, 3) == [(0, 118), (218, 118), (436, 118)]
    assert corners(300, 500, 3) == [(118, 0), (118, 218), (118, 436)]
    assert corners(100, 64, 3) == [(0, 0), (36, 0)]  # which cover it
    assert corners(50, 40, 1) == corners(50, 40, 3) == [(0, 0)]


def test_an_overview_is_the_middle_of_a_large_picture_shrunk_to_a_crop() -> None:
    overview = replace(IMAGE, max_windows=1, overview=True)
    assert len(overview.boxes(500, 96)) == len(IMAGE.boxes(500, 300, max_windows=1)) == 1
    assert overview.boxes(500, 300)[1:] == [Box(100, 0, 300, 300)]
    pixels = np.zeros((128, 256, 3), np.uint8)
    pixels[:, 64:192] = np.arange(128, dtype=np.uint8)[:, None]
    batch, boxes = overview(pixels)
    assert boxes == (Box(96, 32, 64, 64), Box(64, 0, 128, 128))
    rows = np.arange(64, dtype=np.uint8) * 2
    assert np.abs(batch[1].astype(int) - rows[None, :, None]).max() <= 1
    assert preprocess_from_dict(preprocess_to_dict(overview)) == overview
    assert "overview" not in preprocess_to_dict(IMAGE)


def test_small_picture_is_mirrored_not_stretched() -> None:
    pixels = np.arange(4, dtype=np.uint8).reshape(1, 4, 1).repeat(3, axis=2).repeat(2, axis=0)
    padded = IMAGE.fit(pixels)
    assert padded.shape == (64, 64, 3)
    assert padded[0, :9, 0].tolist() == [0, 1, 2, 3, 3, 2, 1, 0, 0]


def tone(seconds: float, *, level: float = 0.1) -> np.ndarray:
    count = int(seconds * 16000)
    return (level * np.sin(np.arange(count) * 0.3)).astype(np.float32)


def test_pauses_at_the_ends_do_not_change_the_windows() -> None:
    silence = np.zeros(16000, np.float32)
    plain, padded = AUDIO(tone(3)), AUDIO(np.concatenate([silence, tone(3), silence]))
    np.testing.assert_allclose(plain.batch, padded.batch, atol=1e-6)
    assert [second + 1.0 for second in plain.seconds] == list(padded.seconds)


@pytest.mark.parametrize("gain", [0.01, 0.5, 8.0])
def test_loudness_does_not_change_the_windows(gain: float) -> None:
    np.testing.assert_allclose(
        AUDIO(tone(2)).batch, AUDIO(tone(2) * np.float32(gain)).batch, atol=1e-5
    )


def test_windows_cover_the_end_and_stay_bounded() -> None:
    windows = AUDIO(tone(3.3))
    assert windows.seconds[-1] == pytest.approx(2.3, abs=0.03)
    bounded = AudioPreprocess(window_seconds=1.0, hop_seconds=0.5, max_windows=10)(tone(60))
    assert len(bounded.seconds) == 10
    assert bounded.seconds[-1] > 58


@pytest.mark.parametrize("count", [1, 10, 700])
def test_short_sound_is_repeated(count: int) -> None:
    windows = AUDIO(tone(1)[:count])
    assert windows.batch.shape == (1, 16000)
    assert np.isfinite(windows.batch).all()


def test_silence_stays_finite() -> None:
    assert np.isfinite(AUDIO(np.zeros(40000, np.float32)).batch).all()


@pytest.mark.parametrize("preprocess", [IMAGE, AUDIO])
def test_survives_a_bundle_file(preprocess: ImagePreprocess | AudioPreprocess) -> None:
    assert preprocess_from_dict(preprocess_to_dict(preprocess)) == preprocess


@pytest.mark.parametrize("values", [{"kind": "smell"}, {"kind": "image", "width": 3}, {}])
def test_unknown_preprocess_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ModelError, match="not understood"):
        preprocess_from_dict(values)


RNG = np.random.default_rng(0)
NOISE = RNG.normal(0, 0.1, (6, 32000)).astype(np.float32)


@pytest.mark.parametrize(
    "channels",
    [
        NOISE[:1],
        NOISE[:2],
        NOISE,
        NOISE[:2] * np.float32([[1], [0]]),
        NOISE * np.float32([[0], [0], [1], [0], [0], [0]]),
        NOISE[:2] - np.float32(0.4) * NOISE[1::-1],
        1e-4 * NOISE[:1] * np.float32([[1], [-1]]),
    ],
    ids=["mono", "stereo", "surround", "one of two", "one of six", "widened", "inaudible"],
)
def test_ordinary_channels_are_averaged(channels: Samples) -> None:
    mixed, warnings = mix_channels(channels, sample_rate=16000)
    assert warnings == ()
    np.testing.assert_array_equal(mixed, channels.mean(axis=0, dtype=np.float32))


def test_where_channels_cancel_the_loudest_is_taken() -> None:
    channels = NOISE[:2].copy()
    channels[1, 8000:16000] = np.float32(-1.1) * channels[0, 8000:16000]
    mixed, warnings = mix_channels(channels, sample_rate=16000)
    assert len(warnings) == 1
    np.testing.assert_array_equal(mixed[8000:16000], channels[1, 8000:16000])
    for rest in (slice(0, 8000), slice(16000, None)):
        np.testing.assert_array_equal(mixed[rest], channels[:, rest].mean(axis=0))


def test_a_sound_that_moves_between_channels_is_followed() -> None:
    """And its sign does not change with each half second in which another is a little louder."""
    channels = np.zeros((4, 16000), np.float32)
    for pair, start in ((0, 0), (2, 8000)):
        channels[pair, start : start + 8000] = NOISE[0, :8000]
        channels[pair + 1, start : start + 8000] = np.float32(-1.01) * NOISE[0, :8000]
    mixed, _ = mix_channels(channels, sample_rate=16000)
    np.testing.assert_array_equal(mixed, np.concatenate([channels[1, :8000], channels[3, 8000:]]))
    swaying = NOISE[0] * np.repeat(np.float32([1, 1.01, 1, 1.01]), 8000)
    steady, _ = mix_channels(np.stack([swaying, -NOISE[0]]), sample_rate=16000)
    np.testing.assert_array_equal(steady, swaying)
