"""Pictures of the training material, and the published autoencoder that copies them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from deepfake_training.image.autoencoder import Autoencoder, load_autoencoder
from deepfake_training.image.data import decode
from deepfake_training.image.decoders import UPSAMPLERS, train_decoders
from PIL import Image
from safetensors.torch import save_file

from deepfake.errors import ModelError
from tests.media_files import scene


@pytest.mark.parametrize("quality", [30, 60, 75, 92, 99])
def test_jpeg_quality_is_read_from_the_file(quality: int) -> None:
    stream = io.BytesIO()
    Image.fromarray(scene(136, 120, seed=1)).save(stream, "JPEG", quality=quality)
    pixels, found = decode(stream.getvalue())
    assert abs(found - quality) <= 1
    assert pixels.shape == (120, 136, 3)
    png = io.BytesIO()
    Image.fromarray(scene(136, 120, seed=1)).save(png, "PNG")
    assert decode(png.getvalue())[1] == 0


def test_autoencoder_keeps_odd_sizes_and_refuses_other_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "taef2.safetensors"
    save_file(Autoencoder().state_dict(), path)
    pixels = scene(50, 35, seed=1)
    copy = load_autoencoder(path).reconstruct(pixels)
    assert copy.shape == pixels.shape
    assert copy.dtype == np.uint8
    save_file({"encoder.0.bias": torch.zeros(64)}, path)
    with pytest.raises(ModelError, match=r"taef2\.safetensors: cannot be loaded"):
        load_autoencoder(path)


def test_decoders_learn_to_copy_and_are_trained_once(tmp_path: Path) -> None:
    photos = [scene(96, 80, seed=seed) for seed in range(2)]
    pixels = scene(51, 35, seed=5)

    def gaps(steps: int) -> list[float]:
        path = tmp_path / f"{steps}.safetensors"
        family = train_decoders(photos, path=path, steps=steps, seed=1)
        copies = [family.reconstruct(pixels, upsampler=name) for name in UPSAMPLERS]
        assert all(copy.shape == pixels.shape for copy in copies)
        return [float(np.abs(copy.astype(float) - pixels).mean()) for copy in copies]

    fresh, trained = gaps(1), gaps(8)
    assert sum(trained) < sum(fresh)
    stamp = (tmp_path / "8.safetensors").stat().st_mtime_ns
    assert gaps(8) == trained
    assert (tmp_path / "8.safetensors").stat().st_mtime_ns == stamp
