"""Where crops lie, drawn from a secret and the picture itself.

An attacker who asks about a picture again and again tunes its pixels to the very crops that are
judged. With places drawn by a keyed hash (BLAKE2b, RFC 7693) of the pixels, one picture keeps its
crops, and so its verdict, on this installation, while any change of a pixel moves them in a way
that nobody foresees without the key (Raff et al. 2019, "Barrage of Random Transforms", on why what
is drawn must stay unknown). That also lets whoever asks often draw again by changing one pixel;
which of the two weighs more was not measured (``docs/security/hardening.md``).
"""

from __future__ import annotations

import contextlib
import os
import secrets
from hashlib import blake2b
from pathlib import Path

import numpy as np

from ..errors import SettingsError
from ..preprocess import Pixels

KEY_BYTES = 32


def draw_places(pixels: Pixels, key: bytes | None) -> np.random.Generator | None:
    """What crops of RGB ``pixels`` (height, width, 3) are drawn by, the same for the same pixels
    and ``key``; None without a key, for crops in their usual places.
    """
    if key is None:
        return None
    digest = blake2b(np.ascontiguousarray(pixels).data, key=key, digest_size=16)
    digest.update(repr(pixels.shape).encode())
    return np.random.default_rng(int.from_bytes(digest.digest(), "big"))


def keep_key(path: Path) -> bytes:
    """The secret of this installation, made at the first call and readable by its user alone.

    Raises ``SettingsError`` where it cannot be made, or is not what this wrote.
    """
    try:
        if not path.exists():
            _make_key(path)
        key = path.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"key of crops {str(path)!r}: cannot be made or read ({error.strerror})",
            hint="make its folder writable, or leave out --random-crops",
        ) from error
    if len(key) != KEY_BYTES:
        raise SettingsError(
            f"key of crops {str(path)!r}: does not hold {KEY_BYTES} bytes",
            hint="delete it, and another one is made",
        )
    return key


def _make_key(path: Path) -> None:
    """Of several processes that come first, one wins, and none reads half a key."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
        with contextlib.suppress(FileExistsError):
            os.link(made, path)
    finally:
        made.unlink()
