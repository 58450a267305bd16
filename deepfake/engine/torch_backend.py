"""PyTorch, for CUDA and for comparison; needs the ``gpu`` extra.

On a CUDA device a batch goes, as bytes, through pinned memory to the device, is scaled there, and
runs as a captured graph, nothing returning before the logits. ``precision`` ``auto`` runs pictures
in fp16 with channels last; bf16 has too few bits for the residuals that they are judged by, and
spectra of sound stay in fp32.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from safetensors.torch import load
from torch import nn

from .. import networks
from ..bundle import HEAD, WEIGHTS, Bundle, Logits
from ..errors import BackendError
from ..preprocess import Batch, PixelScale
from ..settings import Settings


def _fp16() -> torch.autocast:
    """Graphs are captured without autocast's cache of weights, which would belong to no graph."""
    return torch.autocast("cuda", torch.float16, cache_enabled=False)


_WARM_RUNS = 3
"""Runs before a graph is captured, in which cuDNN chooses its kernels."""


def widen(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state dict with the weights of linear layers that are stored in int8 (in, out), with a
    scale for each output, as float32 (out, in), as the layers have them.
    """
    stored = {name for name in state if name.endswith(networks.INT8)}
    scales = {name.removesuffix(networks.INT8) + networks.SCALE for name in stored}
    wide = {name: value for name, value in state.items() if name not in stored | scales}
    for name in stored:
        plain = name.removesuffix(networks.INT8)
        wide[plain] = state[name].T.float() * state[plain + networks.SCALE][:, None]
    return wide


def load_network(bundle: Bundle) -> nn.Module:
    """The network of a bundle with its weights, verified, in float32 and evaluation mode.

    Where its head lies apart, the other file is shared and may hold blocks that this network lacks.
    """
    network = networks.create(bundle.network, **bundle.network_options)
    state = load(bundle.file_bytes(WEIGHTS))
    if HEAD in bundle.files:
        state |= load(bundle.file_bytes(HEAD))
    state = widen(state)
    if HEAD in bundle.files:
        own = network.state_dict()
        state = {name: value for name, value in state.items() if name in own}
    network.load_state_dict(state)
    return network.float().eval()


class ScaledNetwork(nn.Module):
    """A network with the scaling of its pixels before it: uint8 (windows, …, height, width, 3)."""

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: nn.Module, scale: PixelScale | None) -> None:
        super().__init__()
        self.network, self.takes_pixels = network, scale is not None
        if scale is not None:
            self.register_buffer("mean", torch.tensor(scale.mean)[:, None, None])
            self.register_buffer("std", torch.tensor(scale.std)[:, None, None])

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        if self.takes_pixels:  # moving the axis is free: pixels lie with the channels last already
            batch = (batch.movedim(-1, -3).float() / 255 - self.mean) / self.std
        logits: torch.Tensor = self.network(batch)
        return logits.float()


class TorchBackend:
    """One bundle on the CPU or on one CUDA device."""

    name = "torch"

    def __init__(self, bundle: Bundle, *, settings: Settings, device: str = "cpu") -> None:
        network = load_network(bundle)
        self._bundle, self.device = bundle, device
        self._module = ScaledNetwork(network, bundle.preprocess.scale).to(device)
        on_cuda = device.startswith("cuda")
        halved = on_cuda and settings.precision == "auto" and self._module.takes_pixels
        self.precision = "fp16" if halved else "fp32"
        if on_cuda and self._module.takes_pixels:
            network.to(memory_format=torch.channels_last)
        self._graphs = _Graphs(self._forward, device, settings.max_batch) if on_cuda else None

    def run(self, batch: Batch) -> Logits:
        try:
            with torch.inference_mode():
                if self._graphs is not None:
                    return self._graphs.run(batch)
                logits: Logits = self._forward(
                    torch.from_numpy(np.ascontiguousarray(batch))
                ).numpy()
        except RuntimeError as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise BackendError(
                f"bundle {self._bundle.name}: torch failed on {self.device} ({first[:160]})",
                hint="try --device cpu",
            ) from error
        return logits

    def close(self) -> None:
        self._graphs = None
        del self._module

    def _forward(self, batch: torch.Tensor) -> torch.Tensor:
        narrow = self.precision == "fp16"
        with _fp16() if narrow else nullcontext():
            logits: torch.Tensor = self._module(batch)
        return logits


class _Graphs:
    """A captured CUDA graph for every shape of a batch, with the buffers that it reads and writes.

    Batches are filled up to the next power of two, so that few graphs are captured.
    """

    def __init__(self, forward: Any, device: str, max_batch: int) -> None:
        self._forward, self._device, self._max_batch = forward, torch.device(device), max_batch
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._captured: dict[tuple[int, ...], _Captured] = {}

    def run(self, batch: Batch) -> Logits:
        count = len(batch)
        size = min(1 << (count - 1).bit_length(), max(self._max_batch, count))
        shape = (size, *batch.shape[1:])
        if shape not in self._captured:
            self._captured[shape] = self._capture(shape, torch.from_numpy(batch[:1]).dtype)
        one = self._captured[shape]
        one.pinned[:count].copy_(torch.from_numpy(np.ascontiguousarray(batch)))
        with torch.cuda.stream(self._stream):
            one.entering.copy_(one.pinned, non_blocking=True)
            one.graph.replay()
            one.answer.copy_(one.leaving, non_blocking=True)
        self._stream.synchronize()
        return np.array(one.answer[:count].numpy())

    def _capture(self, shape: tuple[int, ...], dtype: torch.dtype) -> _Captured:
        entering = torch.zeros(shape, dtype=dtype, device=self._device)
        torch.cuda.synchronize(self._device)
        with torch.cuda.device(self._device):
            with torch.cuda.stream(self._stream):
                for _ in range(_WARM_RUNS):
                    self._forward(entering)
            self._stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            # Other threads may use other devices meanwhile.
            with torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"):
                leaving = self._forward(entering)
        pinned = torch.zeros(shape, dtype=dtype).pin_memory()
        answer = torch.zeros(leaving.shape, dtype=torch.float32).pin_memory()
        return _Captured(graph, pinned, entering, leaving, answer)


class _Captured:
    """One graph, its pinned input and output on the host and their images on the device."""

    def __init__(
        self,
        graph: torch.cuda.CUDAGraph,
        pinned: torch.Tensor,
        entering: torch.Tensor,
        leaving: torch.Tensor,
        answer: torch.Tensor,
    ) -> None:
        self.graph, self.pinned, self.entering = graph, pinned, entering
        self.leaving, self.answer = leaving, answer
