"""The shipped network of a slot with its last layer open: what enters them are the features.

Every network of the detectors ends in one linear layer with one output, so that a head fitted to
its inputs goes back into the same architecture.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
from safetensors.torch import load
from torch import nn

from deepfake import networks
from deepfake.bundle import Bundle, scale_batch
from deepfake.files import replaced
from deepfake.preprocess import Batch, Floats

from ..export import export_onnx

Vector = npt.NDArray[np.float64]
MOST_GAP = 0.02
"""Largest difference of a logit between the head by itself and the network."""


@dataclass(frozen=True)
class Linear:
    """``weights`` (features,) and ``bias``: a logit from features (…, features)."""

    weights: Vector
    bias: float

    def __call__(self, features: npt.NDArray[np.floating]) -> Vector:
        return np.asarray(features.astype(np.float64) @ self.weights + self.bias)


class OpenNetwork(nn.Module):
    """Batches to features and, as the last column, the network's own logit."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.float()
        self.eval()
        self.last = [
            layer
            for layer in self.network.modules()
            if isinstance(layer, nn.Linear) and layer.out_features == 1
        ][-1]

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        seen: list[torch.Tensor] = []
        hook = self.last.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
        logits = self.network(batch)
        hook.remove()
        return torch.cat([*seen, logits[:, None]], dim=1)

    def head(self) -> Linear:
        """The head that the network has."""
        weights = self.last.weight[0].detach().numpy().astype(np.float64)
        return Linear(weights, float(self.last.bias[0].detach()))

    def with_head(self, head: Linear) -> nn.Module:
        """The network with another head in place of its own."""
        with torch.no_grad():
            self.last.weight.copy_(torch.from_numpy(head.weights)[None])
            self.last.bias.fill_(head.bias)
        return self.network

    def check(self, batch: Floats) -> None:
        """Raise ``RuntimeError`` where its head gives other logits than the network for a batch."""
        with torch.inference_mode():
            rows = self(torch.from_numpy(batch)).numpy()
        gap = float(np.abs(self.head()(rows[:, :-1]) - rows[:, -1]).max())
        if gap > MOST_GAP:
            raise RuntimeError(
                f"network: its logit is not that of its last linear layer (off by {gap:.3f})"
            )


def open_network(bundle: Bundle) -> OpenNetwork:
    """The network of a bundle; raises ``ModelError`` for files that are not as recorded."""
    network = networks.create(bundle.network, **bundle.network_options)
    network.load_state_dict(load(bundle.file_bytes("model.safetensors")))
    return OpenNetwork(network)


class FeatureGraph:
    """The open network in ONNX Runtime, which is several times quicker than torch on a CPU."""

    def __init__(self, bundle: Bundle, *, folder: Path, threads: int) -> None:
        self._preprocess = bundle.preprocess
        path = folder / f"graph-{bundle.sha256[:12]}.onnx"
        if not path.exists():
            network = open_network(bundle)
            example = golden(bundle)
            network.check(example)
            with replaced(path) as partial:
                export_onnx(network, np.concatenate([example, example]), partial)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            path.read_bytes(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, batch: Batch) -> Floats:
        """Features and logits (windows, features + 1) of a batch."""
        rows = self._session.run(None, {"batch": scale_batch(batch, self._preprocess)})[0]
        return np.asarray(rows, np.float32)


def golden(bundle: Bundle) -> Floats:
    """The golden input of a bundle as its network sees it."""
    return scale_batch(bundle.golden()[0], bundle.preprocess)


def measure_golden(bundle: Bundle) -> Vector:
    """The mean (features + 1,) of what the network sees in the golden input of its bundle, with its
    logit last: what anybody may know about its features.
    """
    with torch.inference_mode():
        rows = open_network(bundle)(torch.from_numpy(golden(bundle))).numpy()
    return np.asarray(rows.mean(axis=0), np.float64)


def digest(*words: object) -> str:
    """A short name for what a cache depends on."""
    return hashlib.sha256(repr(words).encode()).hexdigest()[:12]
