"""Small decoders of our own, trained on genuine photos: a family with different up-samplers, and
one that is trained against a discriminator, as the last stage of latent diffusion is.

Each leaves the traces of its own up-sampling (Odena et al. 2016; Frank et al. 2020) in an otherwise
faithful copy, so that a detector meets more up-samplers than that of one published autoencoder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from tqdm import tqdm

from deepfake.preprocess import Pixels

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
        return _decode_pixels(partial(self, upsampler=upsampler), pixels, multiple=FACTOR)


class AdversarialAutoencoder(nn.Module):
    """Pictures in -1…1 (n, 3, height, width), sides multiples of 4, through 16 latents at a quarter
    of the size and nearest up-sampling. Its decoder invents texture to please a discriminator.
    """

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            *(nn.Conv2d(3, WIDTH, 3, padding=1), nn.SiLU()),
            *(nn.Conv2d(WIDTH, 48, 3, stride=2, padding=1), nn.SiLU()),
            *(nn.Conv2d(48, 64, 3, stride=2, padding=1), nn.SiLU()),
            nn.Conv2d(64, 16, 3, padding=1),
        )
        self.decoder = nn.Sequential(
            *(nn.Conv2d(16, 64, 3, padding=1), nn.SiLU(), nn.Conv2d(64, 64, 3, padding=1)),
            *(nn.SiLU(), nn.Upsample(scale_factor=2), nn.Conv2d(64, 40, 3, padding=1)),
            *(nn.SiLU(), nn.Upsample(scale_factor=2), nn.Conv2d(40, WIDTH, 3, padding=1)),
            *(nn.SiLU(), nn.Conv2d(WIDTH, 3, 3, padding=1)),
        )

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        decoded: torch.Tensor = self.decoder(self.encoder(pictures))
        return decoded

    def reconstruct(self, pixels: Pixels) -> Pixels:
        """RGB ``pixels`` (height, width, 3), any size, after one round."""
        return _decode_pixels(self, pixels, multiple=4)


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
    family = DecoderFamily()
    if path.exists():
        family.load_state_dict(load_file(path))
        return family.eval()
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(family.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 4e-3, total_steps=steps, pct_start=0.05
    )
    started = time.monotonic()
    progress = tqdm(range(steps), desc="decoders", unit="step", mininterval=5)
    for _ in progress:
        batch = _to_batch(
            [
                _random_crop(photos[int(rng.integers(len(photos)))], rng, CROP_SIDE)
                for _ in range(BATCH)
            ]
        )
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
    unfinished = path.with_suffix(".partial")
    save_file(family.state_dict(), unfinished)
    unfinished.replace(path)
    print(f"decoders trained in {time.monotonic() - started:.0f} s")
    return family.eval()


def train_adversarial(
    photos: Sequence[Pixels], *, path: Path, steps: int, seed: int
) -> AdversarialAutoencoder:
    """The autoencoder on crops of ``photos``, or read from ``path`` if there: an L1 loss, from two
    fifths of the steps on also against a patch discriminator with a hinge loss (Isola et al. 2017;
    Lim and Ye 2017).
    """
    torch.manual_seed(seed)
    network = AdversarialAutoencoder()
    if path.exists():
        network.load_state_dict(load_file(path))
        return network.eval()
    rng = np.random.default_rng(seed)
    judge = _make_discriminator()
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, betas=(0.5, 0.99))
    opponent = torch.optim.AdamW(judge.parameters(), lr=1e-3, betas=(0.5, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 2e-3, total_steps=steps, pct_start=0.05
    )
    started = time.monotonic()
    for step in tqdm(range(steps), desc="adversarial decoder", unit="step", mininterval=5):
        crops = [
            _random_crop(photos[int(rng.integers(len(photos)))], rng, 64) for _ in range(BATCH)
        ]
        batch = _to_batch(crops)
        copy = network(batch)
        loss = nn.functional.l1_loss(copy, batch)
        if step > 0.4 * steps:
            loss = loss - 0.02 * judge(copy).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
        if step > 0.35 * steps:
            opponent.zero_grad(set_to_none=True)
            genuine, synthetic = judge(batch), judge(copy.detach())
            hinge = torch.relu(1 - genuine).mean() + torch.relu(1 + synthetic).mean()
            hinge.backward()  # type: ignore[no-untyped-call]
            opponent.step()
    unfinished = path.with_suffix(".partial")
    save_file(network.state_dict(), unfinished)
    unfinished.replace(path)
    print(f"adversarial decoder trained in {time.monotonic() - started:.0f} s")
    return network.eval()


def _make_discriminator() -> nn.Sequential:
    layers: list[nn.Module] = [nn.Conv2d(3, 24, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    layers += [nn.Conv2d(24, 48, 4, stride=2, padding=1), nn.BatchNorm2d(48), nn.LeakyReLU(0.2)]
    layers += [nn.Conv2d(48, 64, 4, padding=1), nn.BatchNorm2d(64), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Conv2d(64, 1, 4, padding=1))


@torch.inference_mode()
def _decode_pixels(
    decode: Callable[[torch.Tensor], torch.Tensor], pixels: Pixels, *, multiple: int
) -> Pixels:
    """``pixels`` with mirrored edges up to a multiple, through ``decode``, cut to their size."""
    height, width = pixels.shape[:2]
    edges = ((0, -height % multiple), (0, -width % multiple), (0, 0))
    decoded = decode(_to_batch([np.pad(pixels, edges, mode="symmetric")]))
    rounded = ((decoded[0].clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).numpy()
    return np.ascontiguousarray(rounded[:height, :width])


def _random_crop(pixels: Pixels, rng: np.random.Generator, crop_side: int) -> Pixels:
    top, left = (int(rng.integers(side - crop_side + 1)) for side in pixels.shape[:2])
    return pixels[top : top + crop_side, left : left + crop_side]


def _to_batch(crops: Sequence[Pixels]) -> torch.Tensor:
    stacked = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return stacked.contiguous(memory_format=torch.channels_last)
