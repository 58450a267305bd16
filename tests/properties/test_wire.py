"""What crosses the socket between decoder and owner, and what a hostile decoder may send."""

from __future__ import annotations

import json
import socket
import struct
import threading
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from deepfake.errors import (
    BackendError,
    Corrupt,
    DeepfakeError,
    MediaError,
    ModelError,
    SettingsError,
    TooLarge,
    UnsupportedMedia,
)
from deepfake.media.wire import (
    MAX_HEADER_BYTES,
    ProtocolError,
    error_from_dict,
    error_to_dict,
    receive,
    send,
)
from deepfake.reasons import Code
from deepfake.text import escape

MOST = 4096
"""Bytes of the largest array that the receiver takes here."""

texts = st.text(max_size=20)
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
objects = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
messages = st.fixed_dictionaries({"type": texts, "values": st.dictionaries(texts, objects)})
arrays = st.sampled_from([np.uint8, np.float32]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(max_dims=3, min_side=0, max_side=9))
)


def receive_bytes(data: bytes, **options: Any) -> Any:
    """What becomes of ``data``, after which the other side hangs up; it must not wait for more."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(20)
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        return receive(ours, max_array_bytes=MOST, **options)


def framed(header: bytes) -> bytes:
    return struct.pack("<I", len(header)) + header


@given(messages, st.none() | arrays)
def test_any_message_arrives_as_it_was_sent(
    message: dict[str, Any], array: np.ndarray | None
) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(20)
        send(theirs, message, array=array)
        theirs.shutdown(socket.SHUT_WR)
        received = receive(ours, max_array_bytes=MOST)
        with pytest.raises(EOFError):
            receive(ours, max_array_bytes=MOST)
    assert {key: received.message[key] for key in message} == message
    if array is None:
        assert received.array is None
    else:
        assert received.array is not None
        assert received.array.dtype == array.dtype
        assert received.array.shape == array.shape
        assert received.array.tobytes() == array.tobytes()


def test_turned_arrays_arrive_too() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)[:, ::-1].swapaxes(0, 2)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send(theirs, {"type": "part"}, array=array)
        np.testing.assert_array_equal(receive(ours, max_array_bytes=MOST).array, array)


@given(st.lists(messages, max_size=4), st.integers(1, 9))
def test_messages_arrive_in_order_however_the_bytes_are_cut(
    several: list[dict[str, Any]], step: int
) -> None:
    data = b"".join(framed(json.dumps(message).encode()) for message in several)
    ours, theirs = socket.socketpair()
    with ours, theirs:

        def trickle() -> None:
            for start in range(0, len(data), step):
                theirs.sendall(data[start : start + step])
            theirs.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=trickle)
        sender.start()
        received = [receive(ours, max_array_bytes=MOST).message for _ in several]
        sender.join()
    assert received == several


hostile_shapes = st.lists(
    st.integers(-2, 2**70) | st.booleans() | st.floats() | st.none() | texts, max_size=5
)
hostile_headers = st.fixed_dictionaries(
    {"type": st.sampled_from(["part", "done", "error"]) | objects},
    optional={
        "shape": hostile_shapes | objects,
        "dtype": st.sampled_from(["uint8", "float32", "object", "<U9", "V99999999"]) | objects,
        "painted": st.booleans() | objects,
        "values": objects,
    },
)
hostile_bytes = (
    st.binary(max_size=60)
    | st.binary(max_size=60).map(framed)
    | hostile_headers.map(lambda header: framed(json.dumps(header).encode()))
    | st.tuples(hostile_headers, st.binary(max_size=40)).map(
        lambda pair: framed(json.dumps(pair[0]).encode()) + pair[1]
    )
    | st.integers(0, 2**32 - 1).map(lambda length: struct.pack("<I", length))
)


@given(hostile_bytes, st.none() | st.integers(0, 64))
def test_a_hostile_peer_gives_a_message_or_one_of_two_errors(
    data: bytes, canvas_bytes: int | None
) -> None:
    shared = None if canvas_bytes is None else np.zeros(canvas_bytes, np.uint8)
    try:
        received = receive_bytes(data, shared=shared)
    except (EOFError, ProtocolError):
        return
    assert isinstance(received.message, dict)
    assert received.descriptors == []
    if received.array is not None:
        assert received.array.nbytes <= MOST
        assert received.array.dtype in (np.uint8, np.float32)
        assert 1 <= received.array.ndim <= 3


@pytest.mark.parametrize(
    "header",
    [
        b'{"a":' + b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"shape":' + b"9" * 5000 + b"}",
        b'{"shape":[0,4294967296,4294967296],"dtype":"float32"}',
        b'{"shape":[0,4000,4000],"dtype":"float32"}',
        b'{"shape":[NaN],"dtype":"uint8"}',
        b'{"shape":[Infinity],"dtype":"uint8"}',
        b"\xff\xfe{\0}\0",
        b'"\\ud800"',
        b"",
    ],
)
def test_known_tricks_are_refused(header: bytes) -> None:
    try:
        received = receive_bytes(framed(header))
    except (EOFError, ProtocolError):
        return
    assert received.array is None or not received.array.size


@pytest.mark.parametrize("limit", [2**31, 2**40, 2**62])
def test_an_empty_array_with_endless_sides_is_refused(limit: int) -> None:
    """Its size is nothing, but that of a row of it is beyond what NumPy can count."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(
            framed(json.dumps({"shape": [0, limit, limit], "dtype": "float32"}).encode())
        )
        with pytest.raises(ProtocolError):
            receive(ours, max_array_bytes=limit)


@pytest.mark.parametrize("sent", [0, 1000])
def test_a_length_alone_takes_no_memory(sent: int) -> None:
    """Four bytes that promise 96 MiB must not make the receiver hold 96 MiB."""
    tracemalloc.start()
    try:
        with pytest.raises(EOFError):
            receive_bytes(struct.pack("<I", MAX_HEADER_BYTES) + bytes(sent))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 1024**2


KINDS = (
    BackendError,
    Corrupt,
    DeepfakeError,
    MediaError,
    ModelError,
    SettingsError,
    TooLarge,
    UnsupportedMedia,
)


@given(st.sampled_from(KINDS), texts, st.sampled_from(Code), texts)
def test_any_error_survives_the_way(
    kind: type[DeepfakeError], text: str, code: Code, hint: str
) -> None:
    error = kind(text, code=code, hint=hint)
    values = json.loads(json.dumps(error_to_dict(error)))
    copy = error_from_dict(values)
    assert type(copy) is kind
    assert (str(copy), copy.code, copy.hint) == (escape(str(error)), code, escape(hint))


@given(st.dictionaries(st.sampled_from(["class", "code", "text", "hint"]) | texts, objects))
def test_any_object_is_read_as_an_error(values: dict[str, Any]) -> None:
    error = error_from_dict(values)
    assert type(error) in KINDS
    assert isinstance(error.code, str)
    assert isinstance(error.hint, str)
    assert str(error).isprintable()
