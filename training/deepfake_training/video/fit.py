"""Fit one network of the ``video`` slot to a bank of couples; the trunk's part is computed once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from tqdm import tqdm

from deepfake.networks.clips import ClipNet
from deepfake.preprocess import ClipPreprocess

from ..export import compile_graph, export_onnx
from ..files import write_array
from ..fitting import Loop, Losses, couples_at, fit_steps
from ..imagenet import load_mobilenet
from .bank import Bank

TRUNK_BATCH = 4
Stack = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
FindFeatures = Callable[[Stack], Floats]


@dataclass(frozen=True, kw_only=True)
class ClipOptions:
    """The options of a :class:`ClipNet`."""

    look: bool = True
    motion: bool = True
    residual: bool = True
    width: int = 32


@dataclass(frozen=True)
class ClipFitSettings:
    """``contrast`` weighs the loss on the difference between the two logits of a couple, which no
    content can lower; ``average`` is the decay of the running average of the weights that is kept;
    ``generated`` is the share of the couples with a generated clip that is trained on.
    """

    epochs: int
    couples_in_batch: int = 16
    rate: float = 2e-3
    weight_decay: float = 0.05
    smoothing: float = 0.1
    contrast: float = 0.5
    average: float = 0.99
    generated: float = 1.0
    seed: int = 1


class Trunk(nn.Module):
    """The fixed part of a network as one of its own."""

    def __init__(self, network: ClipNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, bursts: torch.Tensor) -> torch.Tensor:
        return self.network.features(bursts)


def new_network(options: ClipOptions, *, weights: Path, seed: int = 1) -> ClipNet:
    """A network with ImageNet weights in its trunk, the rest fresh from ``seed``."""
    torch.manual_seed(seed)
    network = ClipNet(**asdict(options))
    places = {"conv_stem": "low.0", "bn1": "low.1", "blocks.5": "high"}
    places |= {f"blocks.{index}": f"low.{2 + index}" for index in range(3)}
    places |= {f"blocks.{3 + index}": f"middle.{index}" for index in range(2)}
    load_mobilenet(network, weights, places=places)
    for part in (network.low, network.middle, network.high):
        part.requires_grad_(False)
    return network.eval()


def open_trunk(network: ClipNet, *, preprocess: ClipPreprocess, path: Path) -> FindFeatures:
    """What describes bursts (n, frames, side, side, 3) by the trunk (n, frames, features) in
    float32; differences of frames would drown in the rounding of bfloat16. Its graph is kept in
    ``path``.
    """
    side = preprocess.side_pixels
    if not path.exists():
        batch = np.zeros((2, preprocess.frames, 3, side, side), np.float32)
        export_onnx(Trunk(network).eval(), batch, path)
    compiled = compile_graph(path, threads=torch.get_num_threads())

    def find_features(bursts: Stack) -> Floats:
        parts = [
            np.array(compiled(to_batch(bursts[start : start + TRUNK_BATCH]).numpy())["logits"])
            for start in range(0, len(bursts), TRUNK_BATCH)
        ]
        return np.concatenate(parts)

    return find_features


def read_features(bank: Bank, find_features: FindFeatures, *, path: Path) -> Floats:
    """The trunk's features of every burst (couples, 2, frames, features), kept in ``path``."""
    if path.exists():
        stored = np.load(path)
        if len(stored) == len(bank.bursts):
            return np.asarray(stored)
    parts = [find_features(couple) for couple in tqdm(bank.bursts, desc="features", mininterval=5)]
    features = np.stack(parts)
    write_array(path, features)
    return features


def to_batch(bursts: Stack) -> torch.Tensor:
    """Uint8 bursts (n, frames, side, side, 3) as a batch (n, frames, 3, side, side) in -1…1."""
    return (torch.from_numpy(bursts).permute(0, 1, 4, 2, 3).float() / 127.5 - 1).contiguous()


def fit(
    network: ClipNet,
    bank: Bank,
    features: Floats,
    *,
    couples: npt.NDArray[np.int64],
    settings: ClipFitSettings,
    checkpoint: Path,
    name: str = "",
) -> ClipNet:
    """``network`` with all but its trunk fitted to ``couples`` of the bank, in evaluation mode.

    Goes on from ``checkpoint`` if there is one.
    """
    torch.manual_seed(settings.seed)
    size = settings.couples_in_batch
    steps = settings.epochs * (len(couples) // size)
    free = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(free, lr=settings.rate, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.rate, total_steps=max(1, steps), pct_start=0.1
    )
    labels = torch.tensor([0.0, 1.0]).repeat(size)
    targets = labels * (1 - settings.smoothing) + settings.smoothing / 2
    chosen_at = couples_at(couples, size=size, seed=settings.seed)

    def losses_at(step: int) -> Losses:
        chosen = chosen_at(step)
        numbers = torch.from_numpy(features[chosen]).flatten(0, 1)
        bursts = numbers
        if network.residual is not None:
            bursts = to_batch(bank.bursts[chosen].reshape(-1, *bank.bursts.shape[2:]))
        with torch.autocast("cpu", torch.bfloat16, enabled=network.residual is not None):
            logits = network.judge(bursts, numbers).float()
        loss = nn.functional.binary_cross_entropy_with_logits(logits, targets)
        gap = logits[1::2] - logits[::2]
        loss = loss + settings.contrast * nn.functional.softplus(-gap).mean()
        return {"loss": loss, "couples in order": (gap > 0).float().mean()}

    loop = Loop(steps=steps, round_steps=max(1, len(couples) // size), average=settings.average)
    return fit_steps(
        network, losses_at, optimiser, schedule, loop, checkpoint=checkpoint, name=name
    )


@torch.inference_mode()
def judge_bursts(network: ClipNet, bursts: Stack, features: Floats) -> list[float]:
    """Logits of bursts (n, frames, side, side, 3) with their descriptions."""
    made: list[float] = []
    for start in range(0, len(bursts), 16):
        part = slice(start, start + 16)
        numbers = torch.from_numpy(features[part])
        batch = numbers if network.residual is None else to_batch(bursts[part])
        made += [round(float(logit), 5) for logit in network.judge(batch, numbers)]
    return made
