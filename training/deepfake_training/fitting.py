"""What every fit shares: the process, weights that are fitted once and then read, and the one loop
with its checkpoints, its running average, its early end and its progress.
"""

from __future__ import annotations

import ctypes
import platform
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from deepfake.files import replaced

Net = TypeVar("Net", bound=nn.Module)
Numbers = npt.NDArray[np.int64]
Losses = Mapping[str, torch.Tensor]
"""What is made smaller, under ``loss``, and other numbers that are told beside it."""

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of malloc.h


def prepare_process(threads: int) -> None:
    """So many threads for torch and OpenCV, no crawling through denormal numbers, and memory that
    is kept: giving the activations of every step back to the system costs a third of its time.
    """
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


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


def fold_file(output: Path, fold: int | None) -> Path:
    """Where a run keeps the network that never saw ``fold`` (None: that saw all data)."""
    return output / f"network-{'all' if fold is None else fold}.safetensors"


@dataclass(frozen=True, kw_only=True)
class Loop:
    """How a fit runs: ``steps`` steps, in rounds of ``round_steps``.

    After every round all states are kept, among them those of the parts ``beside`` the network, so
    that a fit that was stopped goes on as if it had not been. ``average`` is the decay of the
    running average of the weights, which is what is kept (0: the last weights); with ``warm_up`` it
    forgets faster in the first steps. With ``judge`` the averaged network is judged after every
    round: the best one is kept, and ``patience`` rounds without a better one end the fit.
    """

    steps: int
    round_steps: int
    average: float = 0.0
    warm_up: bool = False
    most_gradient: float = 5.0
    judge: Callable[[nn.Module], float] | None = None
    patience: int = 3
    beside: Mapping[str, Any] = field(default_factory=dict)


def fit_steps(
    network: Net,
    losses_at: Callable[[int], Losses],
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    loop: Loop,
    *,
    checkpoint: Path,
    name: str,
) -> Net:
    """The averaged network in evaluation mode; goes on from ``checkpoint`` if there is one.

    ``losses_at`` gives the losses of a step by its number alone, whichever steps came before in
    this process. Parts of the network that are fixed altogether stay in evaluation mode.
    """
    average, state = average_weights(network, decay=loop.average, warm_up=loop.warm_up), _State()
    parts = {"network": network, "average": average, "optimiser": optimiser, "schedule": schedule}
    parts |= {"state": state, **loop.beside}
    done = read_checkpoint(checkpoint, parts)
    for first in range(done, loop.steps, loop.round_steps):
        if state.idle >= loop.patience:
            break
        _train(network)
        started, told = time.monotonic(), []
        last = min(loop.steps, first + loop.round_steps)
        for step in (bar := tqdm(range(first, last), desc=name, mininterval=5)):
            losses = losses_at(step)
            optimiser.zero_grad(set_to_none=True)
            losses["loss"].backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), loop.most_gradient)
            optimiser.step()
            schedule.step()
            average.update_parameters(network)
            told.append([float(value.detach()) for value in losses.values()])
            bar.set_postfix(loss=f"{np.mean([row[0] for row in told[-50:]]):.3f}", refresh=False)
        if loop.judge is not None:
            state.note(loop.judge(average.module.eval()), average.module)
        state.seconds += time.monotonic() - started
        save_checkpoint(checkpoint, parts, done=last)
        means = zip(losses, np.mean(told, axis=0), strict=True)
        text = ", ".join(f"{part} {mean:.4f}" for part, mean in means)
        tqdm.write(f"{name}, step {last} of {loop.steps}: {text}, {state.seconds:.0f} s")
    if state.best:
        average.module.load_state_dict(state.best)
    result = average.module.eval()
    assert isinstance(result, type(network))
    return result


@dataclass
class _State:
    """What a fit that goes on must know beside its parts; ``idle`` counts rounds without a better
    score, ``best`` are the weights of the best one.
    """

    seconds: float = 0.0
    score: float = float("-inf")
    idle: int = 0
    best: dict[str, torch.Tensor] = field(default_factory=dict)

    def note(self, score: float, network: nn.Module) -> None:
        self.idle += 1
        if score > self.score:
            self.score, self.idle = score, 0
            self.best = {key: value.clone() for key, value in network.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        return {**asdict(self), "random": torch.get_rng_state()}

    def load_state_dict(self, values: dict[str, Any]) -> None:
        torch.set_rng_state(values.pop("random"))
        for key, value in values.items():
            setattr(self, key, value)


def _train(network: nn.Module) -> None:
    network.train()
    for part in network.modules():
        parameters = list(part.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            part.eval()


def save_checkpoint(path: Path, parts: Mapping[str, Any], *, done: int) -> None:
    """The states of all parts (networks, optimisers, schedules) after ``done`` steps."""
    states = {name: part.state_dict() for name, part in parts.items()}
    with replaced(path) as partial:
        torch.save({"done": done, **states}, partial)


def read_checkpoint(path: Path, parts: Mapping[str, Any]) -> int:
    """Give all parts their stored states; how many steps are done, 0 for none."""
    if not path.exists():
        return 0
    states = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(states[name])
    return int(states["done"])


def average_weights(network: nn.Module, *, decay: float, warm_up: bool = False) -> AveragedModel:
    """A running average of weights and buffers, which starts at the first update; with ``warm_up``
    its decay grows from a tenth.
    """

    def average(kept: Any, new: Any, count: torch.Tensor | int) -> None:
        most = (1 + int(count)) / (10 + int(count)) if warm_up else 1.0
        update = get_ema_multi_avg_fn(min(decay, most))  # type: ignore[no-untyped-call]
        update(kept, new, count)

    return AveragedModel(network, multi_avg_fn=average, use_buffers=True)


def mean_state(networks: Sequence[nn.Module]) -> dict[str, torch.Tensor]:
    """The mean of the weights and running statistics of networks of one form."""
    states = [network.state_dict() for network in networks]
    return {
        key: torch.stack([state[key].float() for state in states]).mean(0).to(value.dtype)
        for key, value in states[0].items()
    }


def couples_at(couples: Numbers, *, size: int, seed: int) -> Callable[[int], Numbers]:
    """From the number of a step to the couples of its batch, epoch after epoch."""

    @lru_cache(maxsize=1)
    def batches(epoch: int) -> list[Numbers]:
        return list(draw_batches(couples, size=size, seed=seed, epoch=epoch))

    per_epoch = max(1, len(couples) // size)
    return lambda step: batches(step // per_epoch)[step % per_epoch]


def draw_batches(couples: Numbers, *, size: int, seed: int, epoch: int) -> Iterator[Numbers]:
    """The numbers of couples in random order, ``size`` at a time; a last part is left out."""
    order = np.random.default_rng([seed, epoch]).permutation(couples)
    for start in range(0, len(order) - size + 1, size):
        yield np.sort(order[start : start + size])
