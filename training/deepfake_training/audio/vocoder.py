"""Three small neural resynthesisers, trained here on bona fide speech to make fakes from it.

``MelVocoder`` goes from a mel spectrogram to samples through an inverse-STFT head (Siuzdak 2023,
Vocos), ``MelGenerator`` through transposed convolutions (Kong et al. 2020, HiFi-GAN), ``WaveCodec``
through strided and transposed convolutions around a quantised bottleneck (Zeghidour et al. 2021,
SoundStream; Mentzer et al. 2023, finite scalar quantisation). None is meant to sound good: they
leave the traces that this family of decoders leaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import librosa
import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from deepfake.preprocess import Samples

from ..fitting import Loop, Losses, fit_once, fit_steps

SAMPLE_RATE = 16000
FFT, HOP, MELS = 1024, 256, 80
STEPS_PER_ROUND = 200


def mel_filters(*, bands: int, fft: int) -> npt.NDArray[np.float32]:
    """Triangular filters (bands, fft // 2 + 1) on the mel scale of O'Shaughnessy (1987)."""
    filters = librosa.filters.mel(
        sr=SAMPLE_RATE, n_fft=fft, n_mels=bands, htk=True, norm=None, dtype=np.float32
    )
    return np.asarray(filters)


class LogMel(nn.Module):
    """Samples (sounds, samples) to their log mel spectrogram (sounds, 80, samples // 256 + 1)."""

    filters: torch.Tensor
    window: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        filters = mel_filters(bands=MELS, fft=FFT)
        self.register_buffer("filters", torch.from_numpy(filters), persistent=False)
        self.register_buffer("window", torch.hann_window(FFT), persistent=False)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        spectrum = torch.stft(
            samples, FFT, HOP, window=self.window, return_complex=True, pad_mode="reflect"
        )
        return torch.log(self.filters @ spectrum.abs() + 1e-4) / 4 + 1


class MelVocoder(nn.Module):
    """Samples (sounds, samples) to their 80-band mel spectrogram and back to samples."""

    window: torch.Tensor

    def __init__(self, *, width: int = 192, layers: int = 4) -> None:
        super().__init__()
        self.mel = LogMel()
        self.register_buffer("window", torch.hann_window(FFT), persistent=False)
        self.enter = nn.Conv1d(MELS, width, 7, padding=3)
        self.blocks = nn.ModuleList(_Mixer(width) for _ in range(layers))
        self.leave = nn.Conv1d(width, 3 * (FFT // 2 + 1), 1)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        hidden = self.enter(self.mel(samples))
        for block in self.blocks:
            hidden = block(hidden)
        magnitude, real, imaginary = self.leave(hidden).chunk(3, dim=1)
        magnitude = torch.exp(magnitude.clamp(max=5))
        scale = magnitude * torch.rsqrt(real**2 + imaginary**2 + 1e-6)
        return torch.istft(
            torch.complex(scale * real, scale * imaginary),
            FFT,
            HOP,
            window=self.window,
            length=samples.shape[-1],
        )


class MelGenerator(nn.Module):
    """Samples (sounds, samples) to their 80-band mel spectrogram and back to samples."""

    strides = (8, 8, 4)

    def __init__(self, *, width: int = 192) -> None:
        super().__init__()
        self.mel = LogMel()
        layers: list[nn.Module] = [nn.Conv1d(MELS, width, 7, padding=3)]
        for stride in self.strides:
            layers += [_upsampler(width, width // 2, stride), _Fusion(width // 2)]
            width //= 2
        layers += [nn.LeakyReLU(0.1), nn.Conv1d(width, 1, 7, padding=3), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.layers(self.mel(samples)[:, :, :-1])
        return functional.pad(made[:, 0], (0, samples.shape[-1] - made.shape[-1]))


class WaveCodec(nn.Module):
    """Samples (sounds, samples) through a bottleneck of ``dimensions`` × 125 symbols a second."""

    strides = (4, 4, 8)

    def __init__(self, *, width: int = 16, dimensions: int = 16, levels: int = 7) -> None:
        super().__init__()
        self.levels = levels
        widths = [width * 2**i for i in range(len(self.strides) + 1)]
        encoder: list[nn.Module] = [nn.Conv1d(1, width, 7, padding=3)]
        decoder: list[nn.Module] = [nn.Conv1d(dimensions, widths[-1], 3, padding=1)]
        for narrow, wide, stride in zip(widths, widths[1:], self.strides, strict=False):
            encoder += [_Residual(narrow), _resampler(nn.Conv1d, narrow, wide, stride)]
        for narrow, wide, stride in list(zip(widths, widths[1:], self.strides, strict=False))[::-1]:
            decoder += [_resampler(nn.ConvTranspose1d, wide, narrow, stride), _Residual(narrow)]
        encoder += [nn.ELU(), nn.Conv1d(widths[-1], dimensions, 3, padding=1)]
        decoder += [nn.ELU(), nn.Conv1d(width, 1, 7, padding=3)]
        self.encoder, self.decoder = nn.Sequential(*encoder), nn.Sequential(*decoder)

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        missing = -samples.shape[-1] % 128
        code = torch.tanh(self.encoder(functional.pad(samples, (0, missing))[:, None]))
        half = (self.levels - 1) / 2
        code = code + ((code * half).round() / half - code).detach()
        made: torch.Tensor = self.decoder(code)
        return made[:, 0, : samples.shape[-1]]


class _Fusion(nn.Module):
    """The mean of residual stacks with receptive fields of several sizes."""

    def __init__(self, width: int, *, kernels: Sequence[int] = (3, 7)) -> None:
        super().__init__()
        self.stacks = nn.ModuleList(
            nn.ModuleList(
                nn.Conv1d(width, width, kernel, padding=kernel // 2 * dilation, dilation=dilation)
                for dilation in (1, 3)
            )
            for kernel in kernels
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        total = torch.zeros_like(hidden)
        for stack in self.stacks:
            own = hidden
            for layer in stack:  # type: ignore[attr-defined]
                own = own + layer(functional.leaky_relu(own, 0.1))
            total = total + own
        return total / len(self.stacks)


class _Mixer(nn.Module):
    """A ConvNeXt block over time (Liu et al. 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spread = nn.Conv1d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 3 * width)
        self.narrow = nn.Linear(3 * width, width)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        mixed = self.norm(self.spread(hidden).transpose(1, 2))
        added: torch.Tensor = self.narrow(functional.gelu(self.widen(mixed))).transpose(1, 2)
        return hidden + added


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ELU(),
            nn.Conv1d(width, width, 5, padding=6, dilation=3),
            nn.ELU(),
            nn.Conv1d(width, width, 1),
        )

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = self.layers(hidden)
        return hidden + added


def _upsampler(entering: int, leaving: int, stride: int) -> nn.Module:
    widen = nn.ConvTranspose1d(entering, leaving, 2 * stride, stride=stride, padding=stride // 2)
    return nn.Sequential(nn.LeakyReLU(0.1), widen)


def _resampler(layer: Any, entering: int, leaving: int, stride: int) -> nn.Module:
    convolution = layer(entering, leaving, 2 * stride, stride=stride, padding=stride // 2)
    return nn.Sequential(nn.ELU(), convolution)


class SpectrumCritic(nn.Module):
    """Tells bona fide from made, region by region, on two log spectrograms (Jang et al. 2021)."""

    resolutions = (512, 1024)

    def __init__(self, *, width: int = 12) -> None:
        super().__init__()
        self.critics = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(1, width, (7, 3), stride=(3, 1), padding=(3, 1)),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, 2 * width, 3, stride=2, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(2 * width, 2 * width, 3, stride=2, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(2 * width, 1, 3, padding=1),
            )
            for _ in self.resolutions
        )

    def forward(self, samples: torch.Tensor) -> list[torch.Tensor]:
        views = []
        for fft, critic in zip(self.resolutions, self.critics, strict=True):
            window = torch.hann_window(fft)
            spectrum = torch.stft(samples, fft, fft // 4, window=window, return_complex=True)
            views.append(critic(torch.log(spectrum.abs() + 1e-3)[:, None]))
        return views


def resynthesis_loss(made: torch.Tensor, target: torch.Tensor, *, aligned: bool) -> torch.Tensor:
    """Multi-resolution STFT loss (Yamamoto et al. 2020); ``aligned`` adds the waveform itself."""
    loss = 10 * (made - target).abs().mean() if aligned else made.new_zeros(())
    for fft in (256, 512, 1024):
        window = torch.hann_window(fft)
        one, two = (
            torch.stft(x, fft, fft // 4, window=window, return_complex=True).abs()
            for x in (made, target)
        )
        loss = loss + (one - two).norm() / two.norm().clamp(min=1e-3)
        loss = loss + (torch.log(one + 1e-3) - torch.log(two + 1e-3)).abs().mean()
    return loss


def train_resynthesiser(
    network: nn.Module,
    sounds: Sequence[Samples],
    *,
    path: Path,
    steps: int,
    seed: int,
    sounds_per_step: int = 12,
    samples_per_sound: int = 8192,
) -> nn.Module:
    """Train on random crops of ``sounds``, or read ``path`` when it is already there.

    The last two thirds of the steps add a critic (least-squares GAN, Mao et al. 2017). Every 200
    steps are kept beside ``path`` as ``.checkpoint``, from which an interrupted run goes on.
    """

    def tune(network: nn.Module) -> nn.Module:
        aligned = isinstance(network, WaveCodec)
        critic = SpectrumCritic()
        optimiser, opponent = (
            torch.optim.AdamW(part.parameters(), lr=rate, betas=(0.8, 0.95))
            for part, rate in ((network, 1e-3), (critic, 4e-4))
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1.5e-3, total_steps=steps)

        def losses_at(step: int) -> Losses:
            rng = np.random.default_rng((seed, step))
            target = _draw_crops(sounds, count=sounds_per_step, samples=samples_per_sound, rng=rng)
            made = network(target)
            loss = resynthesis_loss(made, target, aligned=aligned)
            if step > steps // 3:
                _train_critic(critic, opponent, made=made.detach(), target=target)
                loss = loss + 0.5 * sum(((view - 1) ** 2).mean() for view in critic(made))
            return {"loss": loss}

        loop = Loop(
            steps=steps,
            round_steps=STEPS_PER_ROUND,
            most_gradient=3.0,
            beside={"critic": critic, "opponent": opponent},
        )
        checkpoint = path.with_suffix(".checkpoint")
        return fit_steps(
            network, losses_at, optimiser, schedule, loop, checkpoint=checkpoint, name=path.stem
        )

    return fit_once(network, path, tune)


def _draw_crops(
    sounds: Sequence[Samples], *, count: int, samples: int, rng: np.random.Generator
) -> torch.Tensor:
    """Random crops (count, samples), each at a random level."""
    crops = []
    for index in rng.integers(len(sounds), size=count):
        sound = np.resize(sounds[index], max(samples, len(sounds[index])))
        start = int(rng.integers(len(sound) - samples + 1))
        crop = sound[start : start + samples]
        crops.append(crop * (rng.uniform(0.05, 0.15) / max(1e-3, float(crop.std()))))
    return torch.from_numpy(np.stack(crops).astype(np.float32))


def _train_critic(
    critic: SpectrumCritic,
    optimiser: torch.optim.Optimizer,
    *,
    made: torch.Tensor,
    target: torch.Tensor,
) -> None:
    optimiser.zero_grad()
    views = zip(critic(target), critic(made), strict=True)
    loss = torch.stack([((real - 1) ** 2).mean() + (fake**2).mean() for real, fake in views]).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
