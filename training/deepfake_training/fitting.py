"""What every fit shares: the process, weights that are fitted once and then read, checkpoints, the
running average and the batches of couples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .files import replaced

Net = TypeVar("Net", bound=nn.Module)
Numbers = npt.NDArray[np.int64]


def prepare_process(threads: int) -> None:
    """So many threads for torch and OpenCV, and no crawling through denormal numbers."""
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def fit_once(network: Net, path: Path, fit: Callable[[Net], Net]) -> Net:
    """``network`` in evaluation mode with the weights of ``path``, or as ``fit`` returns it, whose
    weights then stay there and whose ``.checkpoint`` beside them goes.
    """
    if path.exists():
        network.load_state_dict(load_file(path))
        return network.eval()
    network = fit(network)
    with replaced(path) as partial:
        save_file({k: v.contiguous() for k, v in network.state_dict().items()}, partial)
    path.with_suffix(".checkpoint").unlink(missing_ok=True)
    return network.eval()


def save_checkpoint(path: Path, parts: Mapping[str, Any], *, done: int) -> None:
    """The states of all parts (networks, optimisers, schedules) after ``done`` steps or epochs."""
    states = {name: part.state_dict() for name, part in parts.items()}
    with replaced(path) as partial:
        torch.save({"done": done, **states}, partial)


def read_checkpoint(path: Path, parts: Mapping[str, Any]) -> int:
    """Give all parts their stored states; how many steps or epochs are done, 0 for none."""
    if not path.exists():
        return 0
    states = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(states[name])
    return int(states["done"])


def average_weights(network: nn.Module, *, decay: float) -> AveragedModel:
    """A running average of weights and buffers, which starts at the first update."""
    average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)


def draw_batches(couples: Numbers, *, size: int, seed: int, epoch: int) -> Iterator[Numbers]:
    """The numbers of couples in random order, ``size`` at a time; a last part is left out."""
    order = np.random.default_rng([seed, epoch]).permutation(couples)
    for start in range(0, len(order) - size + 1, size):
        yield np.sort(order[start : start + size])
