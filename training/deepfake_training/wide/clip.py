"""CLIP's weights from a published graph whose linear layers are stored in eight bits.

The graph itself is of no use (its activations are quantised too, with a cosine of .3 to .65 to a
floating-point run); its weights are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch

from deepfake.errors import ModelError
from deepfake.networks.clip import ClipTokens

FILE = "clip_encoder.int8.onnx"
_LAYER = re.compile(r"layers\.(\d+)[./](?:self_attn|mlp)[./]([qkv]_proj|out_proj|fc1|fc2)")
_LINEAR = {
    "q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "join",
    "fc1": "widen", "fc2": "narrow",
}  # fmt: skip
_ENTRY = {
    "patches.weight": "vision_model.embeddings.patch_embedding.weight",
    "token": "vision_model.embeddings.class_embedding",
    "places": "vision_model.embeddings.position_embedding.weight",
    "entry.weight": "vision_model.pre_layrnorm.weight",
    "entry.bias": "vision_model.pre_layrnorm.bias",
}


def load_clip(path: Path, *, first: int = 5, last: int = 8) -> ClipTokens:
    """The trunk with the weights of ``path``; raises ``ModelError`` where they do not fit it."""
    try:
        graph = onnx.load(path).graph
    except OSError as error:
        raise ModelError(
            f"weights {path.name}: cannot be read ({error})",
            hint="take the file from the package that the card names",
        ) from error
    stored = {one.name: onnx.numpy_helper.to_array(one) for one in graph.initializer}
    values = {own: stored[name] for own, name in _ENTRY.items() if name in stored}
    for index in range(last):
        base, block = f"vision_model.encoder.layers.{index}", f"blocks.{index}"
        for own, name in (("before", "layer_norm1"), ("between", "layer_norm2")):
            for part in ("weight", "bias"):
                values[f"{block}.{own}.{part}"] = stored[f"{base}.{name}.{part}"]
        for name, own in _LINEAR.items():
            room = "mlp" if name.startswith("fc") else "self_attn"
            values[f"{block}.{own}.bias"] = stored[f"{base}.{room}.{name}.bias"]
    values |= dict(_linear_weights(graph.node, stored, last=last))
    network = ClipTokens(first=first, last=last)
    state = {key: torch.from_numpy(np.array(value, np.float32)) for key, value in values.items()}
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"weights {path.name}: do not fit ViT-B/16 ({error})") from error
    return network.eval()


def _linear_weights(nodes: Any, stored: dict[str, npt.NDArray[Any]], *, last: int) -> Any:
    for node in nodes:
        place = _LAYER.search(node.name)
        if node.op_type != "MatMulInteger" or place is None or int(place[1]) >= last:
            continue
        name = node.input[1]
        quantised = stored[name].astype(np.float32)
        zero = stored[node.input[3]].astype(np.float32)
        scale = stored[name.removesuffix("_quantized") + "_scale"]
        weight = (quantised - zero) * scale
        yield f"blocks.{place[1]}.{_LINEAR[place[2]]}.weight", weight.T.copy()
