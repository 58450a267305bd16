"""Which format the first bytes of a file are, whatever it is called.

Written by hand because the answer names the one decoder that may open the file, so it must be about
the formats that are read here and no others.
"""

from __future__ import annotations

import re

HEAD_BYTES = 64 * 1024
_SEARCH_BYTES = 4096

EXTENSIONS = {
    "aac": ("aac", "adts"),
    "avi": ("avi",),
    "avif": ("avif", "avifs"),
    "bmp": ("bmp", "dib"),
    "flac": ("flac",),
    "gif": ("gif",),
    "heif": ("heic", "heif", "heics", "heifs", "hif"),
    "jpeg": ("jpg", "jpeg", "jpe", "jfif", "mpo", "jps"),
    "m4a": ("m4a", "m4b", "mp4", "3gp"),
    "mkv": ("mkv", "mka", "mk3d", "webm"),
    "mov": ("mov", "qt", "mp4", "m4v"),
    "mp3": ("mp3", "mpga", "mp2", "mpa"),
    "mpeg": ("mpg", "mpeg", "vob"),
    "mpegts": ("ts", "mts", "m2ts"),
    "mp4": ("mp4", "m4v", "mov", "3gp", "3g2", "m4a", "f4v"),
    "ogg": ("ogg", "oga", "opus", "ogv", "spx"),
    "png": ("png", "apng"),
    "tiff": ("tif", "tiff", "dng"),
    "wav": ("wav", "wave", "bwf", "rf64"),
    "webm": ("webm", "mkv", "weba"),
    "webp": ("webp",),
}
"""Extensions that go with a format; any other known one earns a warning."""
PICTURES = ("avif", "bmp", "gif", "heif", "jpeg", "png", "tiff", "webp")

_PREFIXES = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),
    (b"MM\0+", "tiff"),
    (b"OggS", "ogg"),
    (b"fLaC", "flac"),
    (b"\0\0\x01\xba", "mpeg"),
)
_RIFF = {b"WEBP": "webp", b"WAVE": "wav", b"AVI ": "avi"}
_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"}
_HEIF_BRANDS |= {b"mif1", b"msf1"}
_SOUND_BRANDS = {b"M4A ", b"M4B ", b"M4P "}
_MOV_BOXES = {b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"}
_BMP_HEADERS = {12, 16, 40, 52, 56, 64, 108, 124}

_UNREADABLE = (
    (rb"%PDF", "a PDF document"),
    (rb"PK\x03\x04", "a ZIP archive or office document"),
    (rb"\x1f\x8b", "a gzip archive"),
    (rb"8BPS", "a Photoshop document"),
    (rb"\xff\x0a|\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (rb"\0\0\0\x0cjP  ", "a JPEG 2000 picture"),
    (rb"FORM....AIF[FC]", "an AIFF recording"),
    (rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a Windows Media file"),
    (rb"FLV\x01", "a Flash video"),
    (rb"\s*(?:<\?xml|<svg|<!doctype|<html)", "an XML, SVG or HTML document"),
    (rb"\x7fELF|MZ", "a program"),
    (rb"(?:[\t\n\f\r\x20-\x7e]|[\xc2-\xf4][\x80-\xbf]{1,3}){16,}", "text"),
)


def sniff(head: bytes) -> str | None:
    """The format word for the first bytes of a file (``HEAD_BYTES`` are enough), or None."""
    for prefix, word in _PREFIXES:
        if head.startswith(prefix):
            return word
    if head[:1] == head[188:189] == head[376:377] == b"G":
        return "mpegts"
    return _sniff_boxes(head) or _sniff_mpeg_audio(head)


def _sniff_boxes(head: bytes) -> str | None:
    if head[:4] in (b"RIFF", b"RF64", b"BW64", b"RIFX"):
        return _RIFF.get(head[8:12])
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "bmp"
    if head[4:8] == b"ftyp":
        return _sniff_brands(head)
    if head[4:8] in _MOV_BOXES:
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "webm" if b"webm" in head[:64] else "mkv"
    return None


def name_content(head: bytes) -> str:
    """What an unreadable file seems to be, for a person."""
    for pattern, words in _UNREADABLE:
        if re.match(pattern, head, re.DOTALL | re.IGNORECASE):
            return words
    return "of an unknown format"


def extension_mismatch(extension: str, format: str) -> bool:
    """Whether ``extension`` (without dot) is one of another format."""
    extension = extension.lower()
    known = any(extension in names for names in EXTENSIONS.values())
    return known and extension not in EXTENSIONS.get(format, ())


def _sniff_brands(head: bytes) -> str:
    size = min(int.from_bytes(head[:4], "big"), 512)
    brands = [head[8:12], *(head[i : i + 4] for i in range(16, size - 3, 4))]
    if brands[0] in _SOUND_BRANDS:
        return "m4a"
    if brands[0] == b"qt  ":
        return "mov"
    if brands[0] in _AVIF_BRANDS | _HEIF_BRANDS:
        return "avif" if _AVIF_BRANDS.intersection(brands) else "heif"
    return "mp4"


def _sniff_mpeg_audio(head: bytes) -> str | None:
    """MP3 or ADTS behind an optional ID3v2 tag; two frame headers in a row must agree."""
    start = 0
    while head[start : start + 3] == b"ID3" and len(head) >= start + 10:
        size = 0
        for byte in head[start + 6 : start + 10]:
            size = size << 7 | byte & 0x7F
        start += 10 + size
        if start + 4 > len(head):
            return "mp3"
    if head[start : start + 4] == b"fLaC":
        return "flac"
    for at in range(start, min(start + _SEARCH_BYTES, len(head) - 7)):
        if head[at] == 0xFF and (word := _mpeg_frame(head, at, alone=at == start)):
            return word
    return "mp3" if start else None


def _mpeg_frame(head: bytes, at: int, *, alone: bool) -> str | None:
    """The format of the frame at ``at`` if another follows, or (``alone``) if the file ends."""
    if head[at + 1] & 0xF6 == 0xF0:
        word, length = "aac", (int.from_bytes(head[at + 3 : at + 6], "big") >> 5) & 0x1FFF
    else:
        word, length = "mp3", _mpeg_frame_bytes(head[at : at + 4])
    following = head[at + length : at + length + 2]
    last = alone and not following and len(head) < HEAD_BYTES
    return word if length >= 8 and (last or following == head[at : at + 2]) else None


def _mpeg_frame_bytes(header: bytes) -> int:
    """Length of an MPEG-1/2 layer III frame (ISO/IEC 11172-3, 13818-3), 0 for no such header."""
    if len(header) < 4 or header[1] & 0xE0 != 0xE0 or header[1] >> 1 & 3 != 1:
        return 0
    version, bitrate, rate = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or bitrate in (0, 15) or rate == 3:
        return 0
    first = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    second = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    kilobits = (first if version == 3 else second)[bitrate - 1]
    hertz = (44100, 48000, 32000)[rate] >> {3: 0, 2: 1, 0: 2}[version]
    samples = 144 if version == 3 else 72
    return samples * kilobits * 1000 // hertz + (header[2] >> 1 & 1)


def promises_picture(name: str) -> bool:
    """Whether a file's name is that of a picture, which may serve to prepare, not to decide."""
    extension = name.rpartition(".")[2].lower()
    return any(extension in EXTENSIONS[format] for format in PICTURES)
