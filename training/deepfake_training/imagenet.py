"""Initial weights: MobileNetV2 as trained on ImageNet-1k, in timm's layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from deepfake.errors import ModelError

FILE = "mobilenetv2_100_imagenet1k.safetensors"


def load_mobilenet(network: nn.Module, weights: Path, *, places: Mapping[str, str]) -> None:
    """Fill the parts of ``network`` that ``places`` names, from ``weights / FILE``.

    ``places`` maps a part of timm's ``mobilenetv2_100`` (``conv_stem``, ``blocks.0``) to its place
    in ``network``. A stem for one channel gets the sum over red, green and blue. Raises
    ``ModelError`` when the file cannot be read or does not fit.
    """
    try:
        values = load_file(weights / FILE)
    except OSError as error:
        raise ModelError(
            f"weights {FILE}: cannot be read ({error})",
            hint="give the folder that holds it as --weights",
        ) from error
    own = network.state_dict()
    renamed = {}
    for key, value in values.items():
        for part, place in places.items():
            if key.startswith(part + "."):
                name = place + key.removeprefix(part)
                narrow = own[name].ndim == 4 and own[name].shape[1] == 1 != value.shape[1]
                renamed[name] = value.float().sum(1, keepdim=True) if narrow else value.float()
    wanted = {key for key in own if key.startswith(tuple(f"{p}." for p in places.values()))}
    missing = [key for key in wanted - set(renamed) if not key.endswith("num_batches_tracked")]
    if missing:
        raise ModelError(f"weights {FILE}: lack {missing[0]} and {len(missing) - 1} more")
    network.load_state_dict(renamed, strict=False)
