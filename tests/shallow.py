"""A shallow MobileNetV2, for tests to which it does not matter how deep a network is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest


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
