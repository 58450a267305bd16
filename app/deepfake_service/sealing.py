"""Encryption of streams at rest: AES-256-GCM in segments, each in its place.

The construction is STREAM (Hoang, Reyhanitabar, Rogaway and Vizár 2015, "Online authenticated
encryption and its nonce-reuse misuse-resistance"), with a key for each stream from HKDF-SHA256, as
"AES-GCM-HKDF streaming" of Google's Tink has it::

    version (1 byte) ‖ salt (32) ‖ nonce prefix (7) ‖ segments
    segment = AES-256-GCM(HKDF(key, salt, context), prefix ‖ number (4) ‖ last (1), text)

Every segment but the last holds ``SEGMENT_BYTES`` of text; numbers are big endian. So nothing can
be changed, moved, cut off or added, and a stream opens in its ``context`` alone: that of another
tenant or report does not open here, although the key is the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from deepfake.errors import ServiceError

VERSION = b"\x01"
KEY_BYTES = 32
SEGMENT_BYTES = 64 * 1024
SALT_BYTES, PREFIX_BYTES, TAG_BYTES = 32, 7, 16
_MOST_SEGMENTS = 2**32


class Unopened(ServiceError):
    """What is sealed was changed, or is of another key or place."""


def seal_stream(source: BinaryIO, target: BinaryIO, *, key: bytes, context: bytes) -> None:
    """Write ``source`` sealed to ``target``; neither is read or held as a whole."""
    salt, prefix = os.urandom(SALT_BYTES), os.urandom(PREFIX_BYTES)
    cipher = _cipher(key, salt, context)
    target.write(VERSION + salt + prefix)
    text = source.read(SEGMENT_BYTES)
    for number in range(_MOST_SEGMENTS):
        following = source.read(SEGMENT_BYTES) if len(text) == SEGMENT_BYTES else b""
        nonce = _nonce(prefix, number, last=not following)
        target.write(cipher.encrypt(nonce, text, None))
        if not following:
            return
        text = following
    raise ValueError("a stream is too long to be sealed")


def open_stream(source: BinaryIO, *, key: bytes, context: bytes) -> Iterator[bytes]:
    """The text of what was sealed, a segment at a time, each as it is found to be whole.

    Raises :class:`Unopened`, for a stream that was cut only at its end.
    """
    head = source.read(1 + SALT_BYTES + PREFIX_BYTES)
    if len(head) != 1 + SALT_BYTES + PREFIX_BYTES or head[:1] != VERSION:
        raise _unopened()
    salt, prefix = head[1 : 1 + SALT_BYTES], head[1 + SALT_BYTES :]
    cipher = _cipher(key, salt, context)
    size = SEGMENT_BYTES + TAG_BYTES
    segment = source.read(size)
    for number in range(_MOST_SEGMENTS):
        following = source.read(size) if len(segment) == size else b""
        try:
            yield cipher.decrypt(_nonce(prefix, number, last=not following), segment, None)
        except InvalidTag as error:
            raise _unopened() from error
        if not following:
            return
        segment = following


def seal(text: bytes, *, key: bytes, context: bytes) -> bytes:
    """A short text sealed."""
    sealed = BytesIO()
    seal_stream(BytesIO(text), sealed, key=key, context=context)
    return sealed.getvalue()


def unseal(sealed: bytes, *, key: bytes, context: bytes) -> bytes:
    """The inverse of :func:`seal`; raises :class:`Unopened`."""
    return b"".join(open_stream(BytesIO(sealed), key=key, context=context))


def _cipher(key: bytes, salt: bytes, context: bytes) -> AESGCM:
    if len(key) != KEY_BYTES:
        raise ValueError("a key has 32 bytes")
    return AESGCM(
        HKDF(SHA256(), KEY_BYTES, salt, b"deepfake sealed stream\0" + context).derive(key)
    )


def _nonce(prefix: bytes, number: int, *, last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + bytes([last])


def _unopened() -> Unopened:
    return Unopened(
        "sealed data: cannot be opened, because it was changed or its key is another one",
        hint="restore it, and the master key that it was sealed under, from a backup",
        status=500,
    )
