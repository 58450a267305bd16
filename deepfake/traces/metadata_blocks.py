"""Blocks of metadata that several formats share: Exif, XMP, IPTC-IIM and colour profiles.

Runs inside the limited decoder child, on hostile bytes. Every value has a size limit, and a broken
block becomes an entry of ``problems`` instead of an error. XML is read by defusedxml without DTD,
so that entity bombs are refused. Positions (GPS) are never copied: no report needs them.

Sources: Exif 2.32, XMP part 1 and 3, IPTC-IIM 4 in Photoshop image resources, ICC.1.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from ..text import printable

VALUE_CHARACTERS = 256 * 1024
"""Longest text that is kept; a ComfyUI workflow has some tens of thousands of characters."""
XMP_BYTES = 2 * 1024**2
BLOCKS = 4096
"""Most chunks, segments or boxes that are walked in one file."""
STEPS = 1_000_000
"""Most sub-blocks that are walked in one GIF."""
ENTRIES = 512
"""Most tags that are kept of one block."""

BROKEN = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What the parsers of Pillow, mutagen and PyAV raise for damaged blocks."""


class Collector:
    """The result of :func:`read_metadata` in the making, within a budget of characters."""

    def __init__(self, limit_bytes: int) -> None:
        self.left = limit_bytes
        self.steps_left = STEPS
        self.found: dict[str, Any] = {}
        self.problems: list[str] = []
        self.truncated: list[str] = []

    def problem(self, text: str) -> None:
        if len(self.problems) < 32:
            self.problems.append(printable(text))

    def text(self, value: Any, name: str) -> str:
        """``value`` as bounded text without NULs."""
        text = decode(value) if isinstance(value, bytes) else str(value)
        text = text.replace("\x00", "").strip()
        limit = max(0, min(VALUE_CHARACTERS, self.left))
        if len(text) > limit:
            self.truncated.append(printable(name))
            text = text[:limit]
        self.left -= len(text)
        return text.encode("utf-8", "replace").decode("utf-8")

    def put(self, group: str, name: str, value: Any) -> None:
        """Add an entry; a second value of the same name is added on a new line."""
        entries = self.found.setdefault(group, {})
        name = printable(name, most=80)
        if len(entries) >= ENTRIES and name not in entries:
            if group not in self.truncated:
                self.truncated.append(group)
            return
        text = self.text(value, name)
        entries[name] = f"{entries[name]}\n{text}" if name in entries else text

    def attempt(self, what: str, step: Callable[..., object], *arguments: Any) -> None:
        """Call ``step(*arguments)``; a damaged block becomes a problem, the rest stays."""
        try:
            step(*arguments)
        except BROKEN as error:
            self.problem(f"{what}: {type(error).__name__} {error}")

    def result(self) -> dict[str, Any]:
        if self.truncated:
            self.found["truncated"] = sorted(set(self.truncated))[:64]
        if self.problems:
            self.found["problems"] = self.problems
        return self.found


def decode(data: bytes) -> str:
    """UTF-8 where it is, else Latin-1, the encoding of PNG ``tEXt``."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def read_exif(data: bytes, into: Collector) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif.load(data)
    exif_tags(exif, into)


_NOT_TEXT = {0x8769, 0x8825, 0xA005, 0x927C, 700, 33723, 34377, 34675}
"""Tags that point to other blocks or hold them."""


def exif_tags(exif: Any, into: Collector) -> None:
    from PIL import ExifTags

    if 0x8825 in exif:
        into.found["has_gps"] = True
    for source in (exif, exif.get_ifd(0x8769)):
        if 0x927C in source:
            into.found["has_maker_note"] = True
        for tag, value in list(source.items())[:ENTRIES]:
            if tag in _NOT_TEXT:
                continue
            name = ExifTags.TAGS.get(tag, f"0x{tag:04x}")
            into.attempt(f"exif {name}", _put_exif, name, tag, value, into)
    if 0x0201 in exif.get_ifd(1):
        into.found["has_thumbnail"] = True


def _put_exif(name: str, tag: int, value: Any, into: Collector) -> None:
    into.put("exif", name, _exif_text(tag, value))


def _exif_text(tag: int, value: Any) -> str:
    if tag == 0x9286 and isinstance(value, bytes):
        return _user_comment(value)
    if 0x9C9B <= tag <= 0x9C9F and isinstance(value, (bytes, tuple)):
        return bytes(value).decode("utf-16-le", "replace")
    if isinstance(value, str):
        return _utf8_read_as_latin1(value)
    return decode(value) if isinstance(value, bytes) else str(value)


def _utf8_read_as_latin1(text: str) -> str:
    """Pillow reads every Exif text as Latin-1; most writers mean UTF-8."""
    try:
        return text.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return text


def _user_comment(value: bytes) -> str:
    """EXIF ``UserComment``: eight bytes name its encoding; writers disagree on the byte order."""
    code, body = value[:8], value[8:]
    if code.startswith(b"UNICODE"):
        big = body[:512:2].count(0) >= body[1:512:2].count(0)
        return body.decode("utf-16-be" if big else "utf-16-le", "replace")
    return decode(body if code in (b"ASCII\0\0\0", b"JIS\0\0\0\0\0", bytes(8)) else value)


_PREFIXES = {
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://purl.org/dc/terms/": "dcterms",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://ns.adobe.com/xap/1.0/mm/": "xmpMM",
    "http://ns.adobe.com/xap/1.0/sType/ResourceEvent#": "stEvt",
    "http://ns.adobe.com/xap/1.0/sType/ResourceRef#": "stRef",
    "http://ns.adobe.com/photoshop/1.0/": "photoshop",
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/": "Iptc4xmpExt",
    "http://ns.adobe.com/tiff/1.0/": "tiff",
    "http://ns.adobe.com/exif/1.0/": "exif",
    "http://www.tc260.org.cn/ns/AIGC/1.0/": "TC260",
}
_RDF, _XML = "http://www.w3.org/1999/02/22-rdf-syntax-ns#", "http://www.w3.org/XML/1998/namespace"
_OTHER_FILES = frozenset({"xmpMM:Pantry", "xmpMM:Ingredients", "xmpMM:DerivedFrom"})
"""Properties that describe the parts of a composite, not the file itself."""


def read_xmp(data: bytes, into: Collector) -> None:
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import ParseError, fromstring

    if len(data) > XMP_BYTES:
        into.problem(f"xmp: {len(data)} bytes are over the limit")
        return
    packet = data.strip(b"\x00 \r\n\t")
    try:
        root = fromstring(packet, forbid_dtd=True)
    except DefusedXmlException as error:
        into.problem(f"xmp: refused, {type(error).__name__}")
        return
    except ParseError:
        into.problem("xmp: not well-formed")
        return
    properties = into.found.setdefault("xmp_properties", {})
    for name, value in _xmp_values(root):
        if name.startswith("exif:GPS"):
            into.found["has_gps"] = True
            continue
        known = properties.get(name, [])
        if value.strip() and len(properties) < ENTRIES and len(known) < 64:
            properties[name] = [*known, into.text(value, name)]
    types = [*properties.get("Iptc4xmpExt:DigitalSourceType", [])]
    types += properties.get("Iptc4xmpExt:DigitalSourcefileType", [])
    if types:
        into.found["iptc_digital_source_type"] = types


def _xmp_values(root: Any) -> Iterator[tuple[str, str]]:
    """Pairs of property and text, in document order; list items belong to their property."""
    waiting = [(root, "")]
    while waiting:
        element, owner = waiting.pop()
        space, name = _qualified(element.tag)
        owner = owner if space == _RDF else name
        if owner in _OTHER_FILES:
            continue
        for attribute, value in element.attrib.items():
            attribute_space, attribute_name = _qualified(attribute)
            if attribute_name == "rdf:resource":
                yield owner, value
            elif attribute_space not in (_RDF, _XML, ""):
                yield attribute_name, value
        if element.text and owner:
            yield owner, element.text
        waiting += [(child, owner) for child in reversed(element)]


def _qualified(tag: str) -> tuple[str, str]:
    space, _, local = tag.rpartition("}")
    space = space[1:]
    prefix = "rdf" if space == _RDF else _PREFIXES.get(space, "other")
    return space, f"{prefix}:{local}"


_IIM_NAMES = {5: "Title", 65: "Program", 80: "Byline", 110: "Credit", 115: "Source", 120: "Caption"}


def read_photoshop(data: bytes, into: Collector) -> None:
    at = 0
    for _ in range(BLOCKS):
        if data[at : at + 4] != b"8BIM":
            return
        resource, name_size = struct.unpack_from(">HB", data, at + 4)
        at += 6 + (name_size + 2) // 2 * 2
        (size,) = struct.unpack_from(">I", data, at)
        if resource == 0x0404:
            read_iim(data[at + 4 : at + 4 + size], into)
        at += 4 + (size + 1) // 2 * 2


def read_iim(data: bytes, into: Collector) -> None:
    at = 0
    for _ in range(BLOCKS):
        if data[at : at + 1] != b"\x1c":
            return
        record, number, size = struct.unpack_from(">BBH", data, at + 1)
        if record == 2 and number in _IIM_NAMES:
            into.put("iptc", _IIM_NAMES[number], data[at + 5 : at + 5 + size])
        at += 5 + (size & 0x7FFF)


def read_icc(data: bytes, into: Collector) -> None:
    """The description of a colour profile (ICC.1 ``desc`` tag)."""
    (count,) = struct.unpack_from(">I", data, 128)
    for index in range(min(count, 100)):
        kind, offset, size = struct.unpack_from(">4sII", data, 132 + 12 * index)
        if kind != b"desc":
            continue
        block = data[offset : offset + min(size, 1024)]
        if block[:4] == b"mluc":
            length, start = struct.unpack_from(">II", block, 20)
            into.found["icc_description"] = into.text(
                block[start : start + length].decode("utf-16-be", "replace"), "icc"
            )
        elif block[:4] == b"desc":
            (length,) = struct.unpack_from(">I", block, 8)
            into.found["icc_description"] = into.text(block[12 : 12 + length], "icc")
        return


def jpeg_segments(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The second byte of the marker and the content of each segment before the first scan of a
    JPEG file (ITU T.81, B.1), at most ``BLOCKS`` of them.
    """
    stream.seek(2)
    for _ in range(BLOCKS):
        marker = stream.read(2)
        while marker[:1] == b"\xff" and marker[1:] == b"\xff":
            marker = b"\xff" + stream.read(1)
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] in (0xD9, 0xDA):
            return
        if marker[1] == 0x01 or 0xD0 <= marker[1] <= 0xD8:
            continue
        (size,) = struct.unpack(">H", stream.read(2))
        yield marker[1], stream.read(max(size - 2, 0))
