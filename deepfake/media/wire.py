"""Messages between the decoder process and its owner, over one stream socket.

A message is a four-byte length, a JSON object of that length and, when the object has ``shape`` and
``dtype``, the raw bytes of one array, unless they were ``painted`` on the shared memory that came
with the request. Both ends validate what they receive; nothing is pickled, so a decoder that a
hostile file has taken over can at worst send wrong pixels. Written by hand because the pipes of
``multiprocessing`` unpickle what they receive, and a library of messages would be one more thing to
import before a decoder is ready.

======== ============ ====================================================
sender   ``type``     meaning
======== ============ ====================================================
owner    ``request``  one operation on the attached file, perhaps with shared memory
decoder  ``ready``    started and confined; sent once
decoder  ``progress`` still working: resets the owner's patience
decoder  ``part``     one result: ``values`` and perhaps an array
decoder  ``done``     the operation is over; ``warnings`` for a person
decoder  ``error``    the operation failed; see :func:`error_to_dict`
======== ============ ====================================================
"""

from __future__ import annotations

import json
import math
import socket
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import (
    BackendError,
    Corrupt,
    DeepfakeError,
    MediaError,
    ModelError,
    SettingsError,
    TooLarge,
    UnsupportedMedia,
)
from ..reasons import find_code
from ..text import escape

if TYPE_CHECKING:  # a decoder is started before NumPy is imported
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.uint8] | npt.NDArray[np.float32]

Message = dict[str, Any]

MAX_HEADER_BYTES = 96 * 1024**2
"""Bounds one JSON object; metadata of 8 MiB can grow sixfold when escaped."""

_PIECE_BYTES = 256 * 1024
_LENGTH = struct.Struct("<I")
_DTYPES = ("uint8", "float32")
_ERRORS: dict[str, type[DeepfakeError]] = {
    kind.__name__: kind
    for kind in (
        BackendError,
        Corrupt,
        DeepfakeError,
        MediaError,
        ModelError,
        SettingsError,
        TooLarge,
        UnsupportedMedia,
    )
}


class Received(NamedTuple):
    message: Message
    array: Array | None
    descriptors: list[int]


class ProtocolError(Exception):
    """The other side sent something that is not a message."""


def send(
    connection: socket.socket,
    message: Message,
    *,
    array: Array | None = None,
    painted: bool = False,
    descriptors: Sequence[int] = (),
) -> None:
    """Send one message; ``descriptors`` are open files that the receiver gets copies of.

    Of an array that is ``painted`` only the shape is sent.
    """
    if array is not None and painted:
        message = {**message, "shape": array.shape, "dtype": array.dtype.name, "painted": True}
        array = None
    if array is not None:
        if not array.flags.c_contiguous:
            array = array.copy()
        message = {**message, "shape": array.shape, "dtype": array.dtype.name}
    header = json.dumps(message).encode("ascii")
    data = _LENGTH.pack(len(header)) + header
    if descriptors:
        sent = socket.send_fds(connection, [data], list(descriptors))
        data = data[sent:]
    connection.sendall(data)
    if array is not None and array.size:
        connection.sendall(array.data.cast("B"))


def receive(
    connection: socket.socket,
    *,
    max_array_bytes: int,
    shared: npt.NDArray[np.uint8] | None = None,
    most_descriptors: int = 0,
) -> Received:
    """The next message. Raises EOFError at the end and ``ProtocolError`` for nonsense.

    A painted array is a view of ``shared`` (bytes,). Descriptors beyond ``most_descriptors`` are
    closed by the system.
    """
    import numpy as np

    length, descriptors = _receive_length(connection, most_descriptors)
    if length > MAX_HEADER_BYTES:
        raise ProtocolError(f"a header of {length} bytes")
    try:
        message = json.loads(_receive_header(connection, length))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"no JSON ({type(error).__name__})") from error
    if not isinstance(message, dict):
        raise ProtocolError("no JSON object")
    if "shape" not in message:
        return Received(message, None, descriptors)
    shape, dtype = _form(message, max_array_bytes)
    if message.get("painted") is True:
        size = math.prod(shape)
        if shared is None or dtype != np.uint8 or size > len(shared):
            raise ProtocolError("an array painted on no shared memory")
        return Received(message, shared[:size].reshape(shape), descriptors)
    array: Array = np.empty(shape, dtype)
    if array.size:
        _receive_into(connection, array.data.cast("B"))
    return Received(message, array, descriptors)


def error_to_dict(error: DeepfakeError) -> Message:
    """The class, code, text without hint, and hint of an error."""
    kind = next(c.__name__ for c in type(error).__mro__ if c.__name__ in _ERRORS)
    text = str(error)
    if error.hint:
        text = text.removesuffix(f"; {error.hint}")
    return {"class": kind, "code": str(error.code), "text": text, "hint": error.hint}


def error_from_dict(values: Message) -> DeepfakeError:
    """The inverse of :func:`error_to_dict`, through an explicit table of classes, with texts that
    can be printed.

    A code that is none here becomes that of the class.
    """
    kind = _ERRORS.get(str(values.get("class")), Corrupt)
    return kind(
        escape(str(values.get("text"))),
        code=find_code(str(values.get("code"))),
        hint=escape(str(values.get("hint") or "")),
    )


def _receive_length(connection: socket.socket, most_descriptors: int) -> tuple[int, list[int]]:
    data, descriptors, _, _ = socket.recv_fds(connection, _LENGTH.size, most_descriptors)
    if not data:
        raise EOFError
    if len(data) < _LENGTH.size:
        rest = bytearray(_LENGTH.size - len(data))
        _receive_into(connection, memoryview(rest))
        data += rest
    return _LENGTH.unpack(data)[0], descriptors


def _receive_header(connection: socket.socket, length: int) -> bytearray:
    """In pieces, so that a length alone takes no memory."""
    header = bytearray()
    while len(header) < length:
        piece = connection.recv(min(length - len(header), _PIECE_BYTES))
        if not piece:
            raise EOFError
        header += piece
    return header


def _receive_into(connection: socket.socket, view: memoryview) -> None:
    while view:
        count = connection.recv_into(view)
        if not count:
            raise EOFError
        view = view[count:]


def _form(message: Message, max_array_bytes: int) -> tuple[list[int], np.dtype[Any]]:
    import numpy as np

    shape, dtype = message.get("shape"), str(message.get("dtype"))
    if dtype not in _DTYPES or not isinstance(shape, list) or not 1 <= len(shape) <= 3:
        raise ProtocolError("an array of unknown form")
    size = np.dtype(dtype).itemsize
    for side in shape:
        if not isinstance(side, int) or not 0 <= side <= max_array_bytes:
            raise ProtocolError("an array of impossible shape")
        size *= max(side, 1)  # NumPy refuses endless rows of an empty array too
    if size > max_array_bytes:
        raise ProtocolError(f"an array of {size} bytes")
    return shape, np.dtype(dtype)
