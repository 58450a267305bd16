"""Small decoders of our own, trained on genuine photos: a family with different up-samplers.

Each leaves the traces of its own up-sampling (Odena et al. 2016; Frank et al. 2020) in an otherwise
faithful copy, so that a detector meets more up-samplers than that of one published autoencoder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from deepfake.preprocess import Pixels

from ..fitting import fit_once

UPSAMPLERS = ("nearest", "bilinear", "transposed", "shuffle")
WIDTH = 24
LATENTS = 8
FACTOR = 2
CROP_SIDE = 48
BATCH = 8


class DecoderFamily(nn.Module):
    """One encoder to 8 latents at half the size, and a decoder for every up-sampler."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Conv2d(3, WIDTH, 3, padding=1), nn.SiLU()),
            *(nn.Conv2d(WIDTH, 2 * WIDTH, 3, stride=2, padding=1), nn.SiLU()),
            nn.Conv2d(2 * WIDTH, LATENTS, 3, padding=1),
        )
        self.decoders = nn.ModuleDict({name: _decoder(name) for name in UPSAMPLERS})

    def forward(self, pictures: torch.Tensor, *, upsampler: str) -> torch.Tensor:
        """Pictures in -1…1 (n, 3, height, width), sides multiples of 2, through one decoder."""
        decoded: torch.Tensor = self.decoders[upsampler](self.encoder(pictures))
        return decoded

    def reconstruct(self, pixels: Pixels, *, upsampler: str) -> Pixels:
        """RGB ``pixels`` (height, width, 3), any size, after one round."""
        return _decode_pixels(partial(self, upsampler=upsampler), pixels)


def _decoder(upsampler: str) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(LATENTS, 2 * WIDTH, 3, padding=1), nn.SiLU()]
    if upsampler == "transposed":
        layers.append(nn.ConvTranspose2d(2 * WIDTH, WIDTH, 4, stride=2, padding=1))
    elif upsampler == "shuffle":
        layers += [nn.Conv2d(2 * WIDTH, 4 * WIDTH, 3, padding=1), nn.PixelShuffle(2)]
    else:
        layers.append(nn.Upsample(scale_factor=2, mode=upsampler))
        layers.append(nn.Conv2d(2 * WIDTH, WIDTH, 3, padding=1))
    layers += [nn.SiLU(), nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.SiLU()]
    return nn.Sequential(*layers, nn.Conv2d(WIDTH, 3, 3, padding=1))


def train_decoders(photos: Sequence[Pixels], *, path: Path, steps: int, seed: int) -> DecoderFamily:
    """The family trained with an L1 loss on crops of ``photos``; read from ``path`` if there."""
    torch.manual_seed(seed)
    return fit_once(DecoderFamily(), path, partial(_fit_family, photos, steps, seed))


def _fit_family(
    photos: Sequence[Pixels], steps: int, seed: int, family: DecoderFamily
) -> DecoderFamily:
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(family.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 4e-3, total_steps=steps, pct_start=0.05
    )
    progress = tqdm(range(steps), desc="decoders", unit="step", mininterval=5)
    for _ in progress:
        batch = _draw_crops(photos, rng)
        with torch.autocast("cpu", torch.bfloat16):
            latents = family.encoder(batch)
            decoded = [decoder(latents) for decoder in family.decoders.values()]
        losses = [nn.functional.l1_loss(copy.float(), batch) for copy in decoded]
        loss = torch.stack(losses).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        progress.set_postfix(l1=f"{float(loss.detach()) / len(losses):.4f}", refresh=False)
    return family


@torch.inference_mode()
def _decode_pixels(decode: Callable[[torch.Tensor], torch.Tensor], pixels: Pixels) -> Pixels:
    """``pixels`` with mirrored edges up to a multiple, through ``decode``, cut to their size."""
    height, width = pixels.shape[:2]
    edges = ((0, -height % FACTOR), (0, -width % FACTOR), (0, 0))
    decoded = decode(_to_batch([np.pad(pixels, edges, mode="symmetric")]))
    rounded = ((decoded[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    return np.ascontiguousarray(rounded[:height, :width])


def _draw_crops(photos: Sequence[Pixels], rng: np.random.Generator) -> torch.Tensor:
    crops = []
    for _ in range(BATCH):
        pixels = photos[int(rng.integers(len(photos)))]
        top, left = (int(rng.integers(whole - CROP_SIDE + 1)) for whole in pixels.shape[:2])
        crops.append(pixels[top : top + CROP_SIDE, left : left + CROP_SIDE])
    return _to_batch(crops)


def _to_batch(crops: Sequence[Pixels]) -> torch.Tensor:
    stacked = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return stacked.contiguous(memory_format=torch.channels_last)
