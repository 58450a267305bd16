"""What travels in a file beside its pixels and samples, read from a hostile stream.

Runs inside the limited decoder child. Each format has a small walker of its own or a library, each
value a size limit; compressed text is inflated only up to that limit. A broken block becomes an
entry of ``problems`` instead of an error. The walkers are written by hand because libraries stop at
the first broken block, or read a value whole before its size can be refused.

Sources: PNG 1.2, JPEG APPn segments, GIF89a, RIFF; TIFF by Pillow, tags by mutagen and PyAV.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from .boxes import read_items, read_top_boxes
from .encoders import read_encoding
from .metadata_blocks import (
    BLOCKS,
    ENTRIES,
    VALUE_CHARACTERS,
    Collector,
    decode,
    exif_tags,
    jpeg_segments,
    read_exif,
    read_icc,
    read_iim,
    read_photoshop,
    read_xmp,
)

IMAGES = frozenset(["jpeg", "png", "webp", "avif", "heif", "gif", "tiff", "bmp"])
AUDIO = frozenset(["wav", "flac", "mp3", "ogg", "m4a"])


def read_metadata(stream: BinaryIO, *, format: str, limit_bytes: int) -> dict[str, Any]:
    """All metadata of a file as JSON values; never raises for what is in the file.

    ``format`` is one of ``MediaInfo.format``; ``limit_bytes`` bounds the sum of all values. Keys,
    each only where found: ``exif`` ``iptc`` ``text`` (PNG) ``tags`` (sound and video) map names to
    text, and so does ``encoding`` (video; see :func:`deepfake.traces.encoders.read_encoding`);
    ``xmp_properties`` maps ``prefix:Name`` to a list of texts,
    ``iptc_digital_source_type`` lists URIs; ``comment``, ``icc_description`` are texts; ``atoms``
    lists box types; ``has_gps``, ``has_maker_note``, ``has_thumbnail`` are true or missing;
    ``truncated`` names what was cut, ``problems`` what could not be read.
    """
    into = Collector(limit_bytes)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        _read(stream, format, into)
    for warning in caught:
        into.problem(f"{format}: {warning.message}")
    return into.result()


def _read(stream: BinaryIO, format: str, into: Collector) -> None:
    if format in IMAGES:
        into.attempt(format, _IMAGE_READERS[format], stream, into)
    if format in AUDIO:
        into.attempt(format, _read_audio_tags, stream, format, into)
    if format in ("wav", "avi"):
        into.attempt("riff", _read_riff, stream, into)
    if format in ("mp4", "mov", "m4a"):
        into.attempt("boxes", read_top_boxes, stream, into)
    if format in ("mp4", "mov", "m4a", "webm", "mkv", "avi", "mpeg", "mpegts"):
        into.attempt(format, _read_av_tags, stream, format, into)


# Pictures


def _read_png(stream: BinaryIO, into: Collector) -> None:
    for kind, size in _chunks(stream, start=8, head=">I4s", swap=True, tail=4):
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"iCCP"):
            if size > max(into.left, 0):
                into.problem(f"PNG {kind.decode()}: {size} bytes are over the limit")
                continue
            into.attempt(f"PNG {kind.decode()}", _png_block, kind, stream.read(size), into)


def _png_block(kind: bytes, data: bytes, into: Collector) -> None:
    if kind == b"eXIf":
        read_exif(data, into)
        return
    key, _, rest = data.partition(b"\x00")
    name = key.decode("latin-1")
    if kind == b"iCCP":
        into.found["icc_description"] = into.text(name, "icc")
    elif kind == b"tEXt":
        into.put("text", name, decode(rest))
    elif kind == b"zTXt":
        into.put("text", name, decode(_inflate(rest[1:], into)))
    else:
        compressed, rest = rest[0], rest[2:]
        text = rest.split(b"\x00", 2)[2]
        text = _inflate(text, into) if compressed else text
        if name == "XML:com.adobe.xmp":
            read_xmp(text, into)
        else:
            into.put("text", name, decode(text))


def _inflate(data: bytes, into: Collector) -> bytes:
    limit = max(1, min(VALUE_CHARACTERS, into.left))
    inflater = zlib.decompressobj()
    text = inflater.decompress(data, limit)
    if inflater.unconsumed_tail:
        into.truncated.append("compressed text")
    return text


def _read_jpeg(stream: BinaryIO, into: Collector) -> None:
    for marker, data in jpeg_segments(stream):
        into.attempt("JPEG segment", _jpeg_segment, marker, data, into)


def _jpeg_segment(marker: int, data: bytes, into: Collector) -> None:
    xmp, iptc = b"http://ns.adobe.com/xap/1.0/\x00", b"Photoshop 3.0\x00"
    if marker == 0xE1 and data.startswith(b"Exif\x00"):
        read_exif(data[6:], into)
    elif marker == 0xE1 and data.startswith(xmp):
        read_xmp(data[len(xmp) :], into)
    elif marker == 0xED and data.startswith(iptc):
        read_photoshop(data[len(iptc) :], into)
    elif marker == 0xE2 and data.startswith(b"ICC_PROFILE\x00\x01"):
        read_icc(data[14:], into)
    elif marker == 0xFE and "comment" not in into.found:
        into.found["comment"] = into.text(data, "comment")


def _read_webp(stream: BinaryIO, into: Collector) -> None:
    for kind, size in _chunks(stream, start=12, head="<4sI", even=True):
        if kind in (b"EXIF", b"XMP ", b"ICCP") and size <= max(into.left, 0):
            step = {b"EXIF": read_exif, b"XMP ": read_xmp, b"ICCP": read_icc}[kind]
            into.attempt(f"WebP {kind.decode()}", step, stream.read(size), into)


def _read_gif(stream: BinaryIO, into: Collector) -> None:
    """Comments, and XMP in its application extension (XMP part 3, 1.1.2)."""
    stream.seek(0)
    head = stream.read(13)
    stream.seek(13 + _colour_table(head[10]))
    for _ in range(BLOCKS):
        kind = stream.read(1)
        if kind == b"!":
            label = stream.read(1)
            start = stream.tell()
            size = _skip_sub_blocks(stream, into)
            if label in (b"\xfe", b"\xff") and size <= max(into.left, 0):
                stream.seek(start)
                into.attempt("GIF block", _gif_block, label, stream.read(size), into)
        elif kind == b",":
            stream.seek(_colour_table(stream.read(9)[8]) + 1, io.SEEK_CUR)
            _skip_sub_blocks(stream, into)
        else:
            return
    into.problem("GIF: not every block was searched")


def _colour_table(flags: int) -> int:
    return 3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0


def _skip_sub_blocks(stream: BinaryIO, into: Collector) -> int:
    """Stand behind a chain of sub-blocks; its length in bytes."""
    start = stream.tell()
    while size := stream.read(1):
        into.steps_left -= 1
        if into.steps_left < 0:
            raise EOFError("too many sub-blocks")
        if size == b"\x00":
            break
        stream.seek(size[0], io.SEEK_CUR)
    return stream.tell() - start


def _gif_block(label: bytes, data: bytes, into: Collector) -> None:
    if label == b"\xff":
        if data[1:12] == b"XMP DataXMP":
            read_xmp(data[12:-258], into)
        return
    text, at = b"", 0
    while at < len(data) and data[at]:
        text += data[at + 1 : at + 1 + data[at]]
        at += 1 + data[at]
    into.found.setdefault("comment", into.text(text, "comment"))


def _read_tiff(stream: BinaryIO, into: Collector) -> None:
    """Pillow reads the directory, no pixel is decoded."""
    from PIL import Image

    stream.seek(0)
    try:
        opened = Image.open(stream, formats=("TIFF",))
    except Image.DecompressionBombError:
        into.problem("header: the picture is over the limit")
        return
    with opened as image:
        into.attempt("exif", exif_tags, image.getexif(), into)
        blocks = ((700, read_xmp), (33723, read_iim), (34675, read_icc))
        for tag, step in blocks:
            data = getattr(image, "tag_v2", {}).get(tag)
            if isinstance(data, bytes):
                into.attempt(f"tag {tag}", step, data, into)


_IMAGE_READERS: dict[str, Callable[[BinaryIO, Collector], None]] = {
    "png": _read_png,
    "jpeg": _read_jpeg,
    "webp": _read_webp,
    "gif": _read_gif,
    "tiff": _read_tiff,
    "avif": read_items,
    "heif": read_items,
    "bmp": lambda stream, into: None,
}


# Sound and video


def _chunks(
    stream: BinaryIO,
    *,
    start: int,
    head: str,
    tail: int = 0,
    swap: bool = False,
    even: bool = False,
    end: int | None = None,
) -> Iterator[tuple[bytes, int]]:
    """Walk ``(kind, size)`` chunks; the stream stands at each one's data when it is yielded."""
    at = start
    length = struct.calcsize(head)
    for _ in range(BLOCKS):
        stream.seek(at)
        block = stream.read(length)
        if len(block) < length or (end is not None and at >= end):
            return
        first, second = struct.unpack(head, block)
        kind, size = (second, first) if swap else (first, second)
        yield kind, size
        at += length + size + tail + (size % 2 if even else 0)


def _read_riff(stream: BinaryIO, into: Collector) -> None:
    """``LIST INFO`` of WAV and AVI."""
    for kind, size in list(_chunks_at(stream)):
        if kind[0] != b"LIST" or size > max(into.left, 0):
            continue
        stream.seek(kind[1])
        block = io.BytesIO(stream.read(size))
        if block.read(4) == b"INFO":
            for name, length in _chunks(block, start=4, head="<4sI", even=True):
                if len(into.found.get("tags", {})) < ENTRIES:
                    into.put("tags", name.decode("latin-1"), block.read(length))


def _chunks_at(stream: BinaryIO) -> Iterator[tuple[tuple[bytes, int], int]]:
    for kind, size in _chunks(stream, start=12, head="<4sI", even=True):
        yield (kind, stream.tell()), size


def _read_audio_tags(stream: BinaryIO, format: str, into: Collector) -> None:
    from mutagen import MutagenError
    from mutagen.id3 import ID3NoHeaderError

    stream.seek(0)
    try:
        tags = _open_tags(stream, format)
    except ID3NoHeaderError:
        return
    except MutagenError as error:
        into.problem(f"tags: {type(error).__name__}")
        return
    if not tags:
        return
    pairs = tags if isinstance(tags, list) else tags.items()
    for name, value in list(pairs)[:ENTRIES]:
        if name[:4] in ("APIC", "GEOB", "covr", "PRIV") or name == "metadata_block_picture":
            continue
        into.attempt(f"tag {name}", _put_tag, name, value, into)


def _open_tags(stream: BinaryIO, format: str) -> Any:
    """The tags alone; the reader is chosen by the sniffed format, never by a name."""
    from mutagen import File, flac, id3, mp4, oggflac, oggopus, oggspeex, oggvorbis, wave

    if format == "ogg":
        kinds = [oggvorbis.OggVorbis, oggopus.OggOpus, oggflac.OggFLAC, oggspeex.OggSpeex]
        return getattr(File(stream, options=kinds), "tags", None)
    readers: dict[str, Any] = {"mp3": id3.ID3, "flac": flac.FLAC, "m4a": mp4.MP4, "wav": wave.WAVE}
    found = readers[format](fileobj=stream)
    return found if format == "mp3" else found.tags


def _put_tag(name: str, value: Any, into: Collector) -> None:
    into.put("tags", _tag_name(name, value), _tag_text(value))


def _tag_name(name: str, value: Any) -> str:
    """``TXXX:AIGC`` and ``----:com.apple.iTunes:AIGC`` are both called ``AIGC``."""
    if name.startswith(("TXXX:", "----:")):
        return name.rpartition(":")[2]
    return type(value).__name__ if name.startswith("COMM") else name


def _tag_text(value: Any) -> str:
    value = getattr(value, "text", value)
    parts = value if isinstance(value, (list, tuple)) else [value]
    texts = [decode(bytes(p)) if isinstance(p, (bytes, bytearray)) else str(p) for p in parts[:64]]
    return "\n".join(texts)


def _read_av_tags(stream: BinaryIO, format: str, into: Collector) -> None:
    import av

    from ..media.streams import DEMUXERS

    stream.seek(0)
    try:
        with av.open(stream, format=DEMUXERS[format], metadata_errors="replace") as file:
            sources = [("", file.metadata)]
            sources += [(f"{s.type}{s.index}:", s.metadata) for s in list(file.streams)[:32]]
            for prefix, metadata in sources:
                for name, value in list(metadata.items())[:ENTRIES]:
                    if "location" in name.lower():
                        into.found["has_gps"] = True
                    else:
                        into.put("tags", prefix + name, value)
            into.attempt("encoding", read_encoding, file, into)
    except av.FFmpegError as error:
        into.problem(f"tags: {type(error).__name__}")
