"""The trainable architectures by name, for training and for the torch backend.

Every network maps a float32 batch (windows, …) as made by its bundle's ``preprocess`` to logits
(windows,), the face finder to a map of them. Nothing but the network's own module is imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..errors import ModelError

if TYPE_CHECKING:
    from torch import nn

INT8, SCALE = ".int8", ".scale"
"""What a weight of a linear layer is stored under in int8: its name with these two endings."""

_PLACES = {
    "mobile_speech": ("speech", "MobileSpeech"),
    "mobile_picture": ("pictures", "MobilePicture"),
    "clip_picture": ("clip", "ClipPicture"),
    "clip_speech": ("clip_speech", "ClipSpeech"),
    "face_finder": ("finder", "FaceFinder"),
    "face_net": ("faces", "FaceNet"),
    "clip_net": ("clips", "ClipNet"),
}


def create(name: str, **options: Any) -> nn.Module:
    """A network with fresh weights; raises ``ModelError`` for an unknown name."""
    if name not in _PLACES:
        raise ModelError(f"network {name!r}: unknown", hint=f"known: {', '.join(sorted(_PLACES))}")
    module, attribute = _PLACES[name]
    network: nn.Module = getattr(importlib.import_module(f".{module}", __package__), attribute)(
        **options
    )
    return network
