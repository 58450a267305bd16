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

_PLACES = {
    "spectrogram_resnet": ("speech_networks", "spectrogram_resnet"),
    "spectrogram_mobilenet": ("speech_networks", "spectrogram_mobilenet"),
    "cepstrum_lcnn": ("speech_networks", "cepstrum_lcnn"),
    "sinc_graph": ("speech_networks", "SincGraph"),
    "speech_pair": ("speech_networks", "SpeechPair"),
    "picture_net": ("picture_networks", "PictureNet"),
    "statistics_net": ("picture_networks", "StatisticsNet"),
    "face_finder": ("finder_networks", "FaceFinder"),
    "face_net": ("face_networks", "FaceNet"),
    "clip_net": ("clip_networks", "ClipNet"),
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
