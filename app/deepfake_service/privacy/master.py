"""The master key, which wraps the keys of tenants: from a file, the environment, or a KMS."""

from __future__ import annotations

import base64
import binascii
import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol, cast

from deepfake.errors import SettingsError

from ..sealing import KEY_BYTES, seal, unseal
from ..store.keys import read_secret

KEY_VARIABLE, FILE_VARIABLE, KMS_VARIABLE = (
    "DEEPFAKE_MASTER_KEY",
    "DEEPFAKE_MASTER_KEY_FILE",
    "DEEPFAKE_KMS",
)
FILE = "master.key"


class Wrapper(Protocol):
    """What a plug-in for a key management service does. ``context`` names the tenant; what was
    wrapped in one must not be unwrapped in another.
    """

    def wrap(self, key: bytes, context: bytes) -> bytes:
        """The key of a tenant in a form that only the service can undo."""

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        """The inverse of :meth:`wrap`; raises ``ServiceError`` for what it cannot undo."""


class MasterKey:
    """A :class:`Wrapper` that holds 32 bytes itself."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def wrap(self, key: bytes, context: bytes) -> bytes:
        return seal(key, key=self._key, context=b"tenant key\0" + context)

    def unwrap(self, wrapped: bytes, context: bytes) -> bytes:
        return unseal(wrapped, key=self._key, context=b"tenant key\0" + context)


def is_given(folder: Path, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether there is a master key, which :func:`find_wrapper` would otherwise make."""
    names = (KMS_VARIABLE, KEY_VARIABLE, FILE_VARIABLE)
    return any(environment.get(name) for name in names) or (folder / FILE).exists()


def find_wrapper(folder: Path, environment: Mapping[str, str] = os.environ) -> Wrapper:
    """What wraps the keys of the service in ``folder``.

    ``DEEPFAKE_KMS=MODULE:FUNCTION`` names a function that gives a :class:`Wrapper`;
    ``DEEPFAKE_MASTER_KEY`` is the key itself in Base64, ``DEEPFAKE_MASTER_KEY_FILE`` a file of 32
    bytes; without any the key is in ``master.key`` in the folder, and made where there is none.
    Raises ``SettingsError``.
    """
    if name := environment.get(KMS_VARIABLE):
        return _load(name)
    if text := environment.get(KEY_VARIABLE):
        try:
            key = base64.b64decode(text, validate=True)
        except binascii.Error:
            key = b""
        if len(key) != KEY_BYTES:
            raise SettingsError(f"{KEY_VARIABLE}: is no key", hint="give 32 random bytes in Base64")
        return MasterKey(key)
    if place := environment.get(FILE_VARIABLE):
        try:
            key = Path(place).read_bytes()
        except OSError as error:
            raise SettingsError(
                f"{FILE_VARIABLE} {place!r}: cannot be read ({error.strerror})",
                hint="check the path",
            ) from error
        if len(key) != KEY_BYTES:
            raise SettingsError(f"{FILE_VARIABLE} {place!r}: is no key", hint="give 32 bytes")
        return MasterKey(key)
    return MasterKey(read_secret(folder / FILE))


def _load(name: str) -> Wrapper:
    module, _, function = name.partition(":")
    try:
        return cast(Wrapper, getattr(importlib.import_module(module), function)())
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(
            f"{KMS_VARIABLE} {name!r}: cannot be loaded ({error})", hint="write MODULE:FUNCTION"
        ) from error
