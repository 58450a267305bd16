"""The tiny FLUX.2 autoencoder (``taef2.safetensors``): decode(encode(photo)) is an aligned fake.

The layout is that of TAESD (madebyollin, MIT): a sequence of convolutions and residual blocks whose
indices are the keys of the weights file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

from deepfake.errors import ModelError
from deepfake.preprocess import Pixels

CHANNELS = 64
LATENT_CHANNELS = 32
FACTOR = 8


class Block(nn.Module):
    """Three 3×3 convolutions with a shortcut; ``context`` first mixes normalised 1×1 features."""

    def __init__(self, *, context: bool = False) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(3):
            layers += [nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.ReLU()]
        self.conv = nn.Sequential(*layers[:-1])
        if context:
            self.pool = nn.Sequential(
                nn.Conv2d(CHANNELS, 4 * CHANNELS, 1, bias=False),
                nn.GroupNorm(4, 4 * CHANNELS),
                nn.ReLU(),
                nn.Conv2d(4 * CHANNELS, CHANNELS, 1, bias=False),
            )
        self.context = context

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        if self.context:
            hidden = hidden + self.pool(hidden)
        return torch.relu(self.conv(hidden) + hidden)


class SoftClamp(nn.Module):
    """Latents held within ±3: ``3 · tanh(x / 3)``."""

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return 3 * torch.tanh(latents / 3)


class Autoencoder(nn.Module):
    """RGB in 0…1 (pictures, 3, height, width), sides multiples of 8, to the same through 32 latents
    at an eighth of the size.
    """

    def __init__(self) -> None:
        super().__init__()
        down: list[nn.Module] = [nn.Conv2d(3, CHANNELS, 3, padding=1), Block()]
        up: list[nn.Module] = [SoftClamp(), nn.Conv2d(LATENT_CHANNELS, CHANNELS, 3, padding=1)]
        up += [nn.ReLU(), *(Block(context=True) for _ in range(3))]
        for stage in range(3):
            down.append(nn.Conv2d(CHANNELS, CHANNELS, 3, stride=2, padding=1, bias=False))
            down += [Block(context=stage == 2) for _ in range(3)]
            up += [
                nn.Upsample(scale_factor=2),
                nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False),
            ]
            up += [Block() for _ in range(3 if stage < 2 else 1)]
        self.encoder = nn.Sequential(*down, nn.Conv2d(CHANNELS, LATENT_CHANNELS, 3, padding=1))
        self.decoder = nn.Sequential(*up, nn.Conv2d(CHANNELS, 3, 3, padding=1))

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """The last convolution stays in float32, since bfloat16 would quantise the pixels."""
        with torch.autocast("cpu", torch.bfloat16):
            hidden = self.decoder[:-1](self.encoder(pictures))
        decoded: torch.Tensor = self.decoder[-1](hidden.float())
        return decoded

    @torch.inference_mode()
    def reconstruct(self, pixels: Pixels) -> Pixels:
        """RGB ``pixels`` (height, width, 3), any size, after one round through the latents."""
        height, width = pixels.shape[:2]
        padded = np.pad(
            pixels, ((0, -height % FACTOR), (0, -width % FACTOR), (0, 0)), mode="symmetric"
        )
        batch = torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 255
        decoded = self(batch.contiguous(memory_format=torch.channels_last))[0]
        rounded = (decoded.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        return np.ascontiguousarray(rounded[:height, :width])


def load_autoencoder(path: Path) -> Autoencoder:
    """The autoencoder with the weights of ``path``; raises ``ModelError`` when they do not fit."""
    network = Autoencoder()
    try:
        network.load_state_dict({key: value.float() for key, value in load_file(path).items()})
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"weights {path.name}: cannot be loaded ({error})",
            hint="give the folder that holds taef2.safetensors as --weights",
        ) from error
    return network.eval().to(memory_format=torch.channels_last)
