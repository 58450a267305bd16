"""The trainable architectures by name, for training and for the torch backend.

Every network maps a float32 batch (windows, …) as made by its bundle's ``preprocess`` to logits
(windows,); features such as a spectrogram are computed inside, so that an exported graph needs no
code around it.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from .errors import ModelError


def create(name: str, **options: Any) -> nn.Module:
    """A network with fresh weights; raises ``ModelError`` for an unknown name."""
    builders: dict[str, Any] = {}
    if name not in builders:
        raise ModelError(f"network {name!r}: unknown", hint=f"known: {', '.join(sorted(builders))}")
    network: nn.Module = builders[name](**options)
    return network
