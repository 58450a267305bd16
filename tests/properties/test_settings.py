from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepfake.errors import SettingsError
from deepfake.settings import BACKENDS, PRECISIONS, DetectOptions, Settings

OPTIONS = {option.name: option for option in dataclasses.fields(DetectOptions)}
anything = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-2, -1, 0, 1, 2, 100, 10**400])
    | st.floats()
    | st.floats(-1.0, 20000.0)
    | st.text(max_size=4)
    | st.lists(st.integers(), max_size=2)
    | st.binary(max_size=2)
)


class Refused(NamedTuple):
    """In place of a value that was not taken."""

    text: str


def keep(kind: Callable[..., Any], name: str, value: Any) -> Any:
    """The value of a field once an object was made with it, or how it was refused."""
    try:
        return getattr(kind(**{name: value}), name)
    except SettingsError as error:
        return Refused(str(error))


@pytest.mark.parametrize("name", OPTIONS)
@given(value=anything)
def test_an_option_is_in_range_or_refused(name: str, value: Any) -> None:
    option, kept = OPTIONS[name], keep(DetectOptions, name, value)
    if isinstance(kept, Refused):
        assert name in kept.text
        return
    assert kept == value
    if isinstance(option.default, bool):
        assert isinstance(kept, bool)
        return
    assert isinstance(kept, int | float)
    assert not isinstance(kept, bool)
    assert math.isfinite(kept)
    assert option.metadata["minimum"] <= kept <= option.metadata["maximum"]
    if isinstance(option.default, int):
        assert isinstance(kept, int)


@pytest.mark.parametrize("name", ["threads", "max_batch", "max_queued"])
@given(value=anything)
def test_a_count_is_a_whole_number_or_refused(name: str, value: Any) -> None:
    kept = keep(Settings, name, value)
    if isinstance(kept, Refused):
        assert name in kept.text
        return
    assert type(kept) is int
    assert kept >= (0 if name == "threads" else 1)


@given(value=anything)
def test_a_wait_is_a_time_or_refused(value: Any) -> None:
    kept = keep(Settings, "batch_wait_seconds", value)
    if isinstance(kept, Refused):
        assert "batch_wait_seconds" in kept.text
        return
    assert kept is None or (0 <= kept <= 60 and not isinstance(kept, bool))


words = st.text(max_size=6) | st.from_regex("(auto|cpu|cuda(:[0-9]{1,4})?)\\n?", fullmatch=True)


@pytest.mark.parametrize("name", ["backend", "device", "precision"])
@given(value=words | st.sampled_from([*BACKENDS, *PRECISIONS]) | anything)
def test_a_choice_is_known_or_refused(name: str, value: Any) -> None:
    kept = keep(Settings, name, value)
    if isinstance(kept, Refused):
        assert name in kept.text
        return
    if name == "device":
        assert kept in ("auto", "cpu", "cuda") or 0 <= int(kept.removeprefix("cuda:")) <= 999
    else:
        assert kept in {"backend": BACKENDS, "precision": PRECISIONS}[name]
