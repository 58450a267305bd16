"""Framing and its reverse: what anybody can put into a file, so that it is believed of it.

A genuine file is given a generator's parameters, a label, a generator's watermark or a manifest of
a signer whom nobody knows (Müller et al. 2024, "Black-Box Forgery Attacks on Semantic Watermarks";
the security considerations of C2PA 2.x); a synthetic one the Exif of a camera, or a manifest that
calls it a capture. Pixels and samples stay as they are, but for the watermark.

What black-box and white-box attacks do to genuine files is framing as well; they are in
:mod:`.searching` and :mod:`.gradients`.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import cv2
import numpy as np
from PIL import Image, PngImagePlugin

from deepfake.analyzers.watermark import BLOCK, PAYLOADS, PERIOD
from deepfake.preprocess import Pixels

SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"
GENERATED, CAPTURED = "trainedAlgorithmicMedia", "digitalCapture"
PARAMETERS = (
    "a person in a street, photo\nNegative prompt: drawing\n"
    "Steps: 28, Sampler: DPM++ 2M Karras, CFG scale: 6, Seed: 1234567, Size: 512x512, "
    "Model: sd_xl_base_1.0, Version: v1.9.4"
)
_XMP = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" '
    'Iptc4xmpExt:DigitalSourceType="{source}"/></rdf:RDF></x:xmpmeta>'
)


def plant_parameters(pixels: Pixels) -> bytes:
    """A PNG with the parameters that a popular program writes."""
    return _png(pixels, {"parameters": PARAMETERS})


def plant_label(pixels: Pixels) -> bytes:
    """A PNG with the IPTC source type of generated media in XMP."""
    return _png(pixels, {"XML:com.adobe.xmp": _XMP.format(source=SOURCE_TYPES + GENERATED)})


def plant_camera(pixels: Pixels) -> bytes:
    """A JPEG of high quality with the Exif of a phone's camera."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0131] = "Apple", "iPhone 15", "17.4"
    exif[0x0132] = "2026:05:02 10:11:12"
    exif.get_ifd(0x8769).update(
        {0x829A: (1, 120), 0x829D: (16, 10), 0x8827: 80, 0x9003: "2026:05:02 10:11:12"}
        | {0x920A: (686, 100), 0xA434: "iPhone 15 back dual wide camera 5.96mm f/1.6"}
    )
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95, subsampling="4:2:0", exif=exif)
    return out.getvalue()


def plant_watermark(pixels: Pixels, *, generator: str = "SDXL") -> Pixels:
    """The watermark that a generator embeds, in pixels that no generator made.

    As ``dwtDct`` of the package ``invisible-watermark`` writes it: the largest coefficient of each
    4×4 block of the low-pass band of U is moved to the half of its period that stands for the bit.
    """
    bits = next(one.bits for one in PAYLOADS if one.generator == generator)
    planes = cv2.cvtColor(pixels.astype(np.float32), cv2.COLOR_RGB2YUV)
    height, width = (side // (2 * BLOCK) * (2 * BLOCK) for side in pixels.shape[:2])
    chroma = planes[:height, :width, 1].astype(np.float64)
    low = chroma.reshape(height // 2, 2, width // 2, 2).sum(axis=(1, 3)) / 2
    columns = (pixels.shape[1] // 4 * 2) // BLOCK
    for row in range(low.shape[0] // BLOCK):
        for column in range(low.shape[1] // BLOCK):
            top, left = row * BLOCK, column * BLOCK
            block = low[top : top + BLOCK, left : left + BLOCK]
            place = int(np.argmax(np.abs(block).ravel()[1:])) + 1
            down, across = divmod(place, BLOCK)
            value = float(block[down, across])
            half = 0.25 + 0.5 * bits[(row * columns + column) % len(bits)]
            wanted = float(np.copysign((abs(value) // PERIOD + half) * PERIOD, value or 1.0))
            y, x = 2 * (top + down), 2 * (left + across)
            chroma[y : y + 2, x : x + 2] += (wanted - value) / 2
    planes[:height, :width, 1] = chroma
    marked = cv2.cvtColor(planes, cv2.COLOR_YUV2RGB)
    return np.asarray(marked.round().clip(0, 255), np.uint8)


def plant_manifest(content: bytes, *, mime: str, source: str) -> bytes:
    """A file with a valid C2PA manifest by a signer of whom nobody knows, which states the IPTC
    digital ``source`` type, such as :data:`GENERATED`.
    """
    import c2pa

    signer = _make_signer()
    action = {
        "action": "c2pa.created",
        "digitalSourceType": SOURCE_TYPES + source,
        "softwareAgent": {"name": "Unknown"},
    }
    manifest = {
        "claim_generator_info": [{"name": "Unknown", "version": "1"}],
        "assertions": [{"label": "c2pa.actions", "data": {"actions": [action]}}],
    }
    settings = {
        "verify": {"verify_trust": False, "verify_after_sign": False},
        "builder": {"thumbnail": {"enabled": False}},
    }
    builder = c2pa.Builder(json.dumps(manifest), context=c2pa.Context.from_dict(settings))
    info = c2pa.C2paSignerInfo("es256", signer.chain, signer.key, None)
    out = io.BytesIO()
    builder.sign(c2pa.Signer.from_info(info), mime, io.BytesIO(content), out)
    return out.getvalue()


def plant_software(content: bytes, *, name: str = "ElevenLabs") -> bytes:
    """A WAV file with a generator's name as the software that wrote it (``LIST INFO``)."""
    text = name.encode("ascii") + b"\0"
    text += b"\0" * (len(text) % 2)
    item = b"INFOISFT" + len(text).to_bytes(4, "little") + text
    chunk = b"LIST" + len(item).to_bytes(4, "little") + item
    body = content[8:] + b"\0" * (len(content) % 2) + chunk
    return b"RIFF" + len(body).to_bytes(4, "little") + body


@dataclass(frozen=True)
class _Signer:
    """PEM texts: the certificate with the authority above it, and its key."""

    chain: bytes
    key: bytes


@cache
def _make_signer() -> _Signer:
    """An ES256 certificate for documents under an authority of its own (C2PA 2.x, 14.5)."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [
        x509.Name(
            [
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Nobody"),
                x509.NameAttribute(NameOID.COMMON_NAME, name),
            ]
        )
        for name in ("Unknown authority", "Unknown signer")
    ]
    start = datetime.now(UTC) - timedelta(days=1)

    def certify(place: int) -> Any:
        is_authority = place == 0
        usage = dict.fromkeys(
            (
                *("content_commitment", "key_encipherment", "data_encipherment"),
                *("key_agreement", "encipher_only", "decipher_only"),
            ),
            False,
        )
        builder = (
            x509.CertificateBuilder(names[0], names[place], keys[place].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=365))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    key_cert_sign=is_authority,
                    crl_sign=is_authority,
                    **usage,
                ),
                critical=True,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(keys[place].public_key()), False
            )
        )
        if not is_authority:
            issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key())
            purpose = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            builder = builder.add_extension(purpose, False).add_extension(issuer, False)
        return builder.sign(keys[0], hashes.SHA256())

    pem = serialization.Encoding.PEM
    chain = b"".join(certify(place).public_bytes(pem) for place in (1, 0))
    plain = serialization.NoEncryption()
    key = keys[1].private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    return _Signer(chain, key)


def _png(pixels: Pixels, text: dict[str, str]) -> bytes:
    info = PngImagePlugin.PngInfo()
    for key, value in text.items():
        add = info.add_itxt if key.startswith("XML:") else info.add_text
        add(key, value)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", pnginfo=info, compress_level=1)
    return out.getvalue()
