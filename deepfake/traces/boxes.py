"""Boxes of ISO base media files (ISO/IEC 14496-12): metadata of HEIF, AVIF, MP4 and MOV.

Runs inside the limited decoder child, on a hostile stream. Written in Python because the native
reader of HEIF items crashes on damaged files.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import BinaryIO

from ..text import printable
from .metadata_blocks import BLOCKS, XMP_BYTES, Collector, read_exif, read_icc, read_xmp

META_BYTES = 4 * 1024**2
_XMP_BOX = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")


def boxes(stream: BinaryIO, *, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Walk boxes: type, start and end of the content.

    Raises ValueError for a box that is smaller than its header.
    """
    at = start
    for _ in range(BLOCKS):
        if at + 8 > end:
            return
        stream.seek(at)
        size, kind = struct.unpack(">I4s", stream.read(8))
        header = 8
        if size == 1:
            (size,) = struct.unpack(">Q", stream.read(8))
            header = 16
        size = end - at if size == 0 else size
        if size < header:
            raise ValueError("a box is smaller than its header")
        yield kind, at + header, min(at + size, end)
        at += size


def _length(stream: BinaryIO) -> int:
    return stream.seek(0, io.SEEK_END)


def read_top_boxes(stream: BinaryIO, into: Collector) -> None:
    """The types of the first top-level boxes, and XMP in its ``uuid`` box (XMP part 3)."""
    atoms: list[str] = into.found.setdefault("atoms", [])
    for kind, start, end in boxes(stream, start=0, end=_length(stream)):
        if len(atoms) < 64:
            atoms.append(printable(kind.decode("latin-1"), most=4))
        stream.seek(start)
        if kind == b"uuid" and end - start <= XMP_BYTES and stream.read(16) == _XMP_BOX:
            into.attempt("xmp", read_xmp, stream.read(end - start - 16), into)


def read_items(stream: BinaryIO, into: Collector) -> None:
    """Exif, XMP and the colour profile of a HEIF or AVIF picture (ISO/IEC 23008-12)."""
    for kind, start, end in boxes(stream, start=0, end=_length(stream)):
        if kind != b"meta":
            continue
        if end - start > META_BYTES:
            into.problem("meta: the box is over the limit")
            return
        stream.seek(start)
        meta = io.BytesIO(stream.read(end - start))
        parts = {name: (a, b) for name, a, b in boxes(meta, start=4, end=end - start)}
        content = meta.getvalue()
        if b"iinf" in parts and b"iloc" in parts:
            wanted = dict(_wanted(meta, *parts[b"iinf"]))
            for item, extents, inside in _locations(content[slice(*parts[b"iloc"])]):
                if item in wanted:
                    base = start + parts[b"idat"][0] if inside else 0
                    data = _read_extents(stream, extents, base, into)
                    into.attempt(wanted[item], _use_item, wanted[item], data, into)
        if b"iprp" in parts:
            _read_colour(meta, *parts[b"iprp"], into)
        return


def _wanted(meta: io.BytesIO, start: int, end: int) -> Iterator[tuple[int, str]]:
    """Numbers of the items that hold Exif or XMP (``iinf``, ``infe``)."""
    meta.seek(start)
    wide = meta.read(1) != b"\x00"
    for kind, a, b in boxes(meta, start=start + (8 if wide else 6), end=end):
        meta.seek(a)
        data = meta.read(b - a)
        if kind != b"infe" or data[0] < 2:
            continue
        number = int.from_bytes(data[4:6] if data[0] == 2 else data[4:8])
        at = 8 if data[0] == 2 else 10
        if data[at : at + 4] == b"Exif":
            yield number, "exif"
        elif data[at : at + 4] == b"mime" and b"application/rdf+xml" in data[at + 4 :]:
            yield number, "xmp"


def _locations(data: bytes) -> Iterator[tuple[int, list[tuple[int, int]], bool]]:
    """Item number, its extents (offset, length), and whether they lie in ``idat`` (``iloc``)."""
    version, sizes = data[0], data[4:6]
    offset_size, length_size = sizes[0] >> 4, sizes[0] & 15
    base_size, index_size = sizes[1] >> 4, sizes[1] & 15 if version else 0
    file = io.BytesIO(data[6:])

    def number(size: int) -> int:
        block = file.read(size)
        if len(block) < size:
            raise EOFError("iloc ends early")
        return int.from_bytes(block)

    for _ in range(min(number(4 if version == 2 else 2), BLOCKS)):
        item = number(4 if version == 2 else 2)
        method = number(2) & 15 if version else 0
        number(2)
        base = number(base_size)
        extents = []
        for _ in range(min(number(2), 64)):
            number(index_size)
            offset = number(offset_size)
            extents.append((base + offset, number(length_size)))
        yield item, extents, method == 1


def _read_extents(
    stream: BinaryIO, extents: list[tuple[int, int]], base: int, into: Collector
) -> bytes:
    data = b""
    for offset, length in extents:
        if length > into.left - len(data):
            raise ValueError("an item is over the limit")
        stream.seek(base + offset)
        data += stream.read(length)
    return data


def _use_item(kind: str, data: bytes, into: Collector) -> None:
    if kind == "xmp":
        read_xmp(data, into)
    else:
        read_exif(data[4 + int.from_bytes(data[:4]) :], into)


def _read_colour(meta: io.BytesIO, start: int, end: int, into: Collector) -> None:
    for kind, a, b in boxes(meta, start=start, end=end):
        if kind != b"ipco":
            continue
        for inner, c, d in list(boxes(meta, start=a, end=b)):
            meta.seek(c)
            if inner == b"colr" and meta.read(4) in (b"prof", b"rICC"):
                into.attempt("icc", read_icc, meta.read(d - c - 4), into)
                return
