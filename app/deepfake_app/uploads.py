"""The options that a visitor chose beside the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from deepfake.errors import SettingsError
from deepfake.settings import DetectOptions


def read_options(values: Sequence[Any]) -> DetectOptions:
    """Options from the values of their controls, in the order of the fields of ``DetectOptions``.

    An empty control means the default. Raises ``SettingsError`` for a value that does not fit.
    """
    chosen: dict[str, Any] = {}
    for option, value in zip(fields(DetectOptions), values, strict=True):
        if value is None:
            continue
        if isinstance(option.default, bool | str):
            chosen[option.name] = value
            continue
        convert = int if isinstance(option.default, int) else float
        try:
            chosen[option.name] = convert(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise SettingsError(
                f"option {option.name} {value!r}: not a number", hint="give a number"
            ) from error
    return DetectOptions(**chosen)
