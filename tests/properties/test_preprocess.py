from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepfake.errors import ModelError
from deepfake.preprocess import (
    AudioPreprocess,
    ClipPreprocess,
    FacePreprocess,
    FinderPreprocess,
    ImagePreprocess,
    PixelScale,
    Preprocess,
    preprocess_from_dict,
    preprocess_to_dict,
)

IMAGE = ImagePreprocess(side_pixels=16, max_windows=6)
AUDIO = AudioPreprocess(sample_rate=1000, window_seconds=0.25, hop_seconds=0.1, max_windows=7)
FINDER = FinderPreprocess(canvases=((32, 32), (24, 48), (48, 24)))
FACE = FacePreprocess(side_pixels=24)
CLIP = ClipPreprocess(frames=3, side_pixels=20)

sides = st.integers(1, 90)
extremes = st.sampled_from([0, 1, 127, 128, 254, 255])
pictures = st.builds(
    lambda height, width, fill, seed: (
        np.full((height, width, 3), fill, np.uint8)
        if seed is None
        else np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    ),
    sides,
    sides,
    extremes,
    st.none() | st.integers(0, 9),
)
finite_sounds = hnp.arrays(
    np.float32,
    st.integers(1, 1200),
    elements=st.floats(-1.0, 1.0, width=32) | st.sampled_from([0.0, 1e-38, -1.0, 1.0, 1e9]),
    fill=st.sampled_from([0.0, 0.5]),
)


@given(pictures, st.none() | st.integers(1, 20))
def test_crops_of_any_picture(pixels: np.ndarray, most: int | None) -> None:
    before = pixels.copy()
    crops = IMAGE(pixels, max_windows=most)
    assert crops.batch.dtype == np.uint8
    assert crops.batch.shape == (len(crops.boxes), 16, 16, 3)
    assert 1 <= len(crops.boxes) <= (most or IMAGE.max_windows)
    height, width = pixels.shape[:2]
    for crop, box in zip(crops.batch, crops.boxes, strict=True):
        assert 0 <= box.left <= width - box.width
        assert 0 <= box.top <= height - box.height
        own = pixels[box.top : box.top + box.height, box.left : box.left + box.width]
        np.testing.assert_array_equal(crop[: box.height, : box.width], own)
        assert set(np.unique(crop)) <= set(np.unique(pixels))
    np.testing.assert_array_equal(IMAGE(pixels, max_windows=most).batch, crops.batch)
    np.testing.assert_array_equal(pixels, before)


@given(st.integers(1, 20000), st.integers(1, 20000), st.integers(1, 400), st.integers(1, 40))
def test_places_of_any_size(width: int, height: int, side: int, most: int) -> None:
    """Up to 400 million pixels, without the pixels."""
    boxes = ImagePreprocess(side_pixels=side, max_windows=most).boxes(width, height)
    assert 1 <= len(boxes) <= most
    assert len(set(boxes)) == len(boxes)
    assert {(box.width, box.height) for box in boxes} == {(min(side, width), min(side, height))}
    assert all(0 <= b.left <= width - b.width and 0 <= b.top <= height - b.height for b in boxes)
    if len({b.left for b in boxes}) > 1:
        assert min(b.left for b in boxes) == 0
        assert max(b.left + b.width for b in boxes) == width


triples = st.tuples(*[st.floats(0.0, 1.0)] * 3)
spreads = st.tuples(*[st.floats(0.01, 1.0)] * 3)


@given(pictures, triples, spreads)
def test_pixels_enter_within_the_range_of_their_scale(
    pixels: np.ndarray, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> None:
    seen = PixelScale(mean, std)(pixels[None])
    assert (seen.dtype, seen.shape) == (np.float32, (1, 3, *pixels.shape[:2]))
    for channel in range(3):
        low, high = -mean[channel] / std[channel], (1 - mean[channel]) / std[channel]
        assert seen[:, channel].min() >= low - 1e-4
        assert seen[:, channel].max() <= high + 1e-4


@given(pictures)
def test_any_picture_lands_on_a_canvas(pixels: np.ndarray) -> None:
    found = FINDER(pixels)
    assert found.batch.dtype == np.uint8
    assert found.batch.shape[1:3] in FINDER.canvases
    assert found.zoom >= 1
    height, width = pixels.shape[:2]
    assert height <= found.zoom * found.batch.shape[1] * (1 + 1e-9)
    assert width <= found.zoom * found.batch.shape[2] * (1 + 1e-9)
    np.testing.assert_array_equal(FINDER(pixels).batch, found.batch)
    if found.zoom == 1:
        np.testing.assert_array_equal(found.batch[0, :height, :width], pixels)


places = st.floats(-500.0, 500.0)
faces = hnp.arrays(np.float64, (5, 2), elements=places, fill=st.just(3.0))


@given(pictures, faces)
def test_a_face_anywhere_gives_a_crop(pixels: np.ndarray, landmarks: np.ndarray) -> None:
    """Landmarks come from a network that a hostile picture steers."""
    crop = FACE.crop(pixels, landmarks)
    assert (crop.shape, crop.dtype) == ((24, 24, 3), np.uint8)
    assert crop.min() >= pixels.min()
    assert crop.max() <= pixels.max()
    np.testing.assert_array_equal(FACE.crop(pixels, landmarks), crop)


@given(pictures, st.integers(1, 5))
def test_any_burst_fills_a_clip(pixels: np.ndarray, count: int) -> None:
    square = CLIP.square(pixels)
    assert (square.shape, square.dtype) == ((20, 20, 3), np.uint8)
    assert square.min() >= pixels.min()
    assert square.max() <= pixels.max()
    assert CLIP([square] * count).shape == (1, 3, 20, 20, 3)


@given(finite_sounds, st.none() | st.integers(1, 9))
def test_windows_of_any_sound(samples: np.ndarray, most: int | None) -> None:
    windows = AUDIO(samples, max_windows=most)
    assert windows.batch.dtype == np.float32
    assert windows.batch.shape == (len(windows.seconds), AUDIO.window_samples)
    assert 1 <= len(windows.seconds) <= (most or AUDIO.max_windows)
    assert np.isfinite(windows.batch).all()
    power = np.sqrt(np.mean(np.square(windows.batch, dtype=np.float64), axis=1))
    assert (power <= 10 ** (AUDIO.level_dbfs / 20) * 1.001).all()
    assert list(windows.seconds) == sorted(set(windows.seconds))
    assert 0 <= windows.seconds[0] <= windows.seconds[-1] <= len(samples) / AUDIO.sample_rate
    np.testing.assert_array_equal(AUDIO(samples, max_windows=most).batch, windows.batch)


@given(st.integers(0, 500), st.integers(0, 5000))
def test_windows_cover_what_is_heard(first: int, length: int) -> None:
    last = first + length
    starts = AUDIO.starts(first, last)
    assert starts[0] == first
    assert starts[-1] + AUDIO.window_samples >= last
    assert all(start + AUDIO.window_samples <= last for start in starts[1:])
    hop = round(AUDIO.hop_seconds * AUDIO.sample_rate)
    assert all(0 < b - a <= hop for a, b in pairwise(starts))


@pytest.mark.parametrize("made", [IMAGE, AUDIO, FINDER, FACE, CLIP], ids=lambda made: made.kind)
@given(data=st.data())
def test_bundle_files_say_anything(made: Preprocess, data: st.DataObject) -> None:
    """A field of any JSON type is read or refused, never another error."""
    values: dict[str, Any] = preprocess_to_dict(made)
    assert preprocess_from_dict(values) == made
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    anything = scalars | st.lists(scalars, max_size=3)
    values[data.draw(st.sampled_from([*values, "surplus"]))] = data.draw(anything)
    with suppress(ModelError):
        preprocess_from_dict(values)
