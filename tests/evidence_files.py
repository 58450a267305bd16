"""Small media with chosen metadata, for the tests of what travels in a file."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

XMP = (
    '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
    'rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    'xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/" '
    'xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#" '
    'xmlns:dc="http://purl.org/dc/elements/1.1/" '
    'xmlns:exif="http://ns.adobe.com/exif/1.0/" '
    'xmlns:photoshop="http://ns.adobe.com/photoshop/1.0/" '
    'xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" {attributes}>{children}'
    '</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
)


def xmp(attributes: str = "", children: str = "") -> bytes:
    return XMP.format(attributes=attributes, children=children).encode()


def picture(side: int = 24) -> Image.Image:
    ramp = np.arange(side * side * 3, dtype=np.uint32).reshape(side, side, 3) * 7 % 256
    return Image.fromarray(ramp.astype(np.uint8))


def image(
    format: str,
    *,
    exif: dict[int, Any] | None = None,
    exif_ifd: dict[int, Any] | None = None,
    **options: Any,
) -> bytes:
    """A picture in a Pillow ``format``; ``exif`` goes to IFD0, ``exif_ifd`` to the Exif IFD."""
    tags = Image.Exif()
    tags.update(exif or {})
    tags.get_ifd(0x8769).update(exif_ifd or {})
    if exif or exif_ifd:
        options["exif"] = tags
    out = io.BytesIO()
    picture().save(out, format, **options)
    return out.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(*chunks: bytes, after_pixels: bool = False) -> bytes:
    """A PNG with extra chunks, before the pixels or at its end."""
    plain = image("PNG")
    at = plain.index(b"IEND") - 4 if after_pixels else plain.index(b"IDAT") - 4
    return plain[:at] + b"".join(chunks) + plain[at:]


def png_text(**texts: str) -> bytes:
    return png_with(
        *(
            png_chunk(b"iTXt", key.replace("_", "-").encode() + bytes(5) + value.encode())
            if key == "sd_metadata"
            else png_chunk(b"iTXt", key.encode() + bytes(5) + value.encode())
            for key, value in texts.items()
        )
    )


def jpeg_segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def jpeg_with(*segments: bytes) -> bytes:
    plain = image("JPEG")
    return plain[:2] + b"".join(segments) + plain[2:]


def jpeg_xmp(packet: bytes) -> bytes:
    return jpeg_with(jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\x00" + packet))


def jpeg_iptc(records: dict[int, str]) -> bytes:
    block = b"".join(
        struct.pack(">BBBH", 0x1C, 2, number, len(text.encode())) + text.encode()
        for number, text in records.items()
    )
    resource = b"8BIM" + struct.pack(">HH", 0x0404, 0) + struct.pack(">I", len(block)) + block
    return jpeg_with(jpeg_segment(0xED, b"Photoshop 3.0\x00" + resource))


def user_comment(text: str, *, big_endian: bool = True) -> bytes:
    return b"UNICODE\x00" + text.encode("utf-16-be" if big_endian else "utf-16-le")


def wav_with_info(**entries: str) -> bytes:
    """A WAV file with a ``LIST INFO`` chunk behind its samples."""
    items = b""
    for key, value in entries.items():
        data = value.encode() + b"\x00"
        items += key.encode() + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    sound = bytes(3200)
    body = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16000, 32000, 2, 16)
    body += b"data" + struct.pack("<I", len(sound)) + sound
    body += b"LIST" + struct.pack("<I", len(items) + 4) + b"INFO" + items
    return b"RIFF" + struct.pack("<I", len(body)) + body


def sound(format: str, *, tags: dict[str, str] | None = None) -> bytes:
    """A second of a tone as ``mp3``, ``flac``, ``ogg`` (Opus) or ``m4a``, tagged by FFmpeg."""
    import av

    codec = {"mp3": "libmp3lame", "flac": "flac", "ogg": "libopus", "m4a": "aac"}[format]
    layout = {"mp3": "s16p", "flac": "s16", "ogg": "s16", "m4a": "fltp"}[format]
    muxer = {"m4a": "ipod"}.get(format, format)
    tone = np.sin(np.arange(48_000) / 20)[None] * 0.3
    samples = tone.astype(np.float32) if layout == "fltp" else (tone * 32767).astype(np.int16)
    out = io.BytesIO()
    with av.open(out, "w", format=muxer) as file:
        file.metadata.update(tags or {})
        stream = file.add_stream(codec, rate=48_000)
        frame = av.AudioFrame.from_ndarray(samples, format=layout, layout="mono")
        frame.sample_rate = 48_000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return out.getvalue()
