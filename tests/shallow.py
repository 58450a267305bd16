"""Networks and graphs that are made sooner, for tests to which it does not matter how."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import onnx
import pytest
import torch

_EXPORT = torch.onnx.export


@contextmanager
def shallow() -> Iterator[None]:
    """Every MobileNetV2 of this process has one block a stage, with the widths and names of the
    whole one: half the time of a step and of an export. The whole one is exported and compared in
    ``tests/networks``.
    """
    import timm

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm, "create_model", partial(timm.create_model, depth_multiplier=0.25))
        yield


@contextmanager
def traced() -> Iterator[None]:
    """Graphs are those of torch's older exporter, in a tenth of the time. The one in use is tried
    in ``tests/networks`` and ``tests/training/test_export*``; a network that branches on shapes
    needs it, and one of two scales gets it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", _trace)
        yield


def _trace(
    network: torch.nn.Module,
    example: tuple[torch.Tensor, ...],
    *,
    dynamo: bool,
    dynamic_shapes: tuple[dict[int, Any], ...],
    **options: Any,
) -> Any:
    if getattr(network, "scales", 1) > 1:
        return _EXPORT(network, example, dynamo=dynamo, dynamic_shapes=dynamic_shapes, **options)
    graph = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        _EXPORT(
            network,
            example,
            graph,
            dynamo=not dynamo,
            do_constant_folding=False,
            dynamic_axes={"batch": list(dynamic_shapes[0]), "logits": [0]},
            **options,
        )
    return SimpleNamespace(model_proto=onnx.load_model_from_string(graph.getvalue()))
