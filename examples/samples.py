"""Sample media made on the spot: ``python -m examples.samples FOLDER``.

Nothing here is anyone's picture or voice: a rendered landscape, a synthesised vowel sound and a pan
over the landscape, each with one kind of evidence in it. The demonstration and the tests use them.
Everything but the signatures is the same in every run.

=====================  ============================================================================
camera.jpg camera.png  the landscape, with Exif as a camera writes it, and its twin without
sdxl.png               carries the invisible watermark of SDXL
parameters.png         carries the parameters block of Automatic1111
signed.jpg trust.pem   carries a C2PA manifest that declares AI generation; the authority to trust
tampered.jpg           the same manifest over other pixels
speech.wav             four vowels, formant synthesis
clip.mp4               a pan over the landscape, with the sound
=====================  ============================================================================
"""

from __future__ import annotations

import io
import json
import sys
import wave
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

Pixels = NDArray[np.uint8]
Bits = NDArray[np.bool_]

PARAMETERS = (
    "a mountain lake at dawn, film grain\nNegative prompt: blurry, text\n"
    "Steps: 28, Sampler: DPM++ 2M Karras, CFG scale: 7, Seed: 1234567890, Size: 768x512, "
    "Model hash: 0000000000, Model: sample_model, Version: v1.10.1"
)
SOURCE_TYPES = "http://cv.iptc.org/newscodes/digitalsourcetype/"


# Pictures


def landscape(*, seed: int = 7, width: int = 768, height: int = 512) -> Pixels:
    """A rendered lake before hills: haze, texture, soft light and film grain."""
    random = np.random.default_rng(seed)
    rows = np.linspace(0, 1, height)[:, None, None]
    sky = (1 - rows) * np.array([92, 132, 190]) + rows * np.array([236, 206, 176])
    picture = np.broadcast_to(sky, (height, width, 3)).copy()
    picture += 26 * (_noise(random, height, width, octaves=5)[..., None] - 0.4)
    y = np.arange(height)[:, None]
    for layer, colour in enumerate(((124, 140, 158), (86, 108, 112), (52, 72, 56), (34, 46, 30))):
        ridge = _noise(random, 1, width, octaves=6)[0] * (110 - 14 * layer)
        top = height * (0.36 + 0.11 * layer) - ridge + 40
        texture = (_noise(random, height, width, octaves=7) - 0.5)[..., None] * (14 + 16 * layer)
        cover = np.clip(y - top[None, :], 0, 1)[..., None]
        picture = picture * (1 - cover) + (np.array(colour) + texture) * cover
    shore = int(height * 0.82)
    mirror = picture[shore - (height - shore) : shore][::-1]
    ripple = _noise(random, height - shore, width, octaves=7)[..., None]
    picture[shore:] = mirror * 0.62 + 30 * ripple + np.array([8, 16, 24])
    picture += random.normal(0, 3.2, picture.shape)
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


def _noise(random: np.random.Generator, height: int, width: int, *, octaves: int) -> Any:
    """Fractal noise in 0…1, (height, width)."""
    import cv2

    total = np.zeros((height, width))
    for octave in range(octaves):
        cells = 2 ** (octave + 2)
        grid = random.random((min(cells, height), cells)).astype(np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / 2**octave
    total -= total.min()
    return total / total.max()


def jpeg(pixels: Pixels, *, exif: Image.Exif | None = None) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=92, exif=exif or Image.Exif())
    return out.getvalue()


def png(pixels: Pixels, *, text: dict[str, str] | None = None) -> bytes:
    """A PNG with text chunks."""
    info = PngImagePlugin.PngInfo()
    for key, value in (text or {}).items():
        info.add_text(key, value)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", pnginfo=info)
    return out.getvalue()


def camera_exif() -> Image.Exif:
    """What a camera writes; the maker does not exist."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Sample Optics", "Sample Camera 1"
    exif[0x0132] = "2026:01:02 03:04:05"
    exif.get_ifd(0x8769).update(
        {
            0x829A: (1, 250),
            0x829D: (28, 10),
            0x8827: 200,
            0x9003: "2026:01:02 03:04:05",
            0x920A: (35, 1),
            0xA434: "Sample 35mm f/2.8",
        }
    )
    return exif


def embed_watermark(pixels: Pixels, bits: Bits, *, in_float: bool = True) -> Pixels:
    """Write ``bits`` into RGB ``pixels`` as method ``dwtDct`` of ``invisible-watermark`` does.

    ``in_float``: before rounding to bytes, as SDXL and FLUX pipelines do; Stable Diffusion 1
    embeds afterwards. Only the low-pass band is changed (the package also transposes each 2×2
    chroma block, which carries nothing).
    """
    import cv2

    source = pixels.astype(np.float32) if in_float else pixels
    yuv = cv2.cvtColor(source, cv2.COLOR_RGB2YUV)
    height, width = (side // 8 * 8 for side in pixels.shape[:2])
    u = yuv[:height, :width, 1].astype(np.float64)
    low = (u[::2, ::2] + u[1::2, ::2] + u[::2, 1::2] + u[1::2, 1::2]) / 2
    columns = (pixels.shape[1] // 4 * 2) // 4
    for row in range(height // 8):
        for column in range(width // 8):
            block = low[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4]
            at = np.unravel_index(np.argmax(np.abs(block).ravel()[1:]) + 1, (4, 4))
            bit = bits[(row * columns + column) % len(bits)]
            size = (abs(block[at]) // 36 + 0.25 + 0.5 * bit) * 36
            change = (size if block[at] >= 0 else -size) - block[at]
            y, x = row * 8 + int(at[0]) * 2, column * 8 + int(at[1]) * 2
            u[y : y + 2, x : x + 2] += change / 2
    yuv[:height, :width, 1] = u if in_float else np.clip(u, 0, 255)
    back = cv2.cvtColor(yuv, cv2.COLOR_YUV2RGB)
    return np.clip(np.rint(back), 0, 255).astype(np.uint8)


# C2PA


@dataclass(frozen=True)
class Signer:
    """A throw-away signer: PEM texts of its chain and key, and of the authority above it."""

    chain: str
    key: str
    root: str


def make_signer(*, valid_days: float = 365) -> Signer:
    """An ES256 certificate for signing documents, under an authority of its own (C2PA 2.x, 14.5).

    Raises ImportError without the package ``cryptography``.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    def named(common_name: str) -> x509.Name:
        organisation = x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Deepfake samples")
        return x509.Name([organisation, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])

    root_key, leaf_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    start = datetime.now(UTC) - timedelta(days=1)

    def certificate(name: str, key: Any, *, authority: bool) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named("Sample authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(start + timedelta(days=valid_days + 1))
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .add_extension(_key_usage(authority=authority), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        )
        if not authority:
            usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION])
            issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
            builder = builder.add_extension(usage, False).add_extension(issuer, False)
        return builder.sign(root_key, hashes.SHA256())

    root = certificate("Sample authority", root_key, authority=True)
    leaf = certificate("Sample signer", leaf_key, authority=False)
    root_text, leaf_text = (
        item.public_bytes(serialization.Encoding.PEM).decode() for item in (root, leaf)
    )
    key_text = leaf_key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    return Signer(chain=leaf_text + root_text, key=key_text, root=root_text)


def _key_usage(*, authority: bool) -> Any:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def actions(*steps: dict[str, Any]) -> dict[str, Any]:
    """A manifest definition with these C2PA actions."""
    return {
        "claim_generator_info": [{"name": "Deepfake samples", "version": "1"}],
        "title": "sample",
        "assertions": [{"label": "c2pa.actions", "data": {"actions": list(steps)}}],
    }


def created(kind: str, *, agent: str = "Sample Generator") -> dict[str, Any]:
    """The action of making a file, with an IPTC digital source type such as ``digitalCapture``."""
    return {
        "action": "c2pa.created",
        "digitalSourceType": SOURCE_TYPES + kind,
        "softwareAgent": {"name": agent},
    }


def sign(
    data: bytes,
    manifest: dict[str, Any],
    signer: Signer,
    *,
    mime: str = "image/jpeg",
    parent: bytes | None = None,
    component: bytes | None = None,
    anchors: str | None = None,
    remote: str | None = None,
) -> bytes:
    """``data`` with a signed manifest, or with a link to it where ``remote`` is an address.

    ``parent`` is the signed file that ``data`` was made from, ``component`` one that was placed in
    it; whether they are signed by somebody below ``anchors`` is recorded.
    """
    import c2pa

    settings: dict[str, Any] = {
        "verify": {"verify_trust": bool(anchors), "verify_after_sign": False},
        "builder": {"thumbnail": {"enabled": False}},
    }
    if anchors:
        settings["trust"] = {"user_anchors": anchors}
    info = c2pa.C2paSignerInfo("es256", signer.chain.encode(), signer.key.encode(), None)
    builder = c2pa.Builder(json.dumps(manifest), context=c2pa.Context.from_dict(settings))
    if parent is not None:
        builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
    for relationship, file in (("parentOf", parent), ("componentOf", component)):
        if file is not None:
            ingredient = {"title": "ingredient", "relationship": relationship}
            builder.add_ingredient(json.dumps(ingredient), mime, io.BytesIO(file))
    if remote is not None:
        builder.set_no_embed()
        builder.set_remote_url(remote)
    out = io.BytesIO()
    builder.sign(c2pa.Signer.from_info(info), mime, io.BytesIO(data), out)
    return out.getvalue()


def transplant(signed: bytes, other: bytes) -> bytes:
    """The C2PA segments (APP11) of one JPEG put into another at the same place."""
    start = signed.index(b"\xff\xeb")
    end = start
    while signed[end : end + 2] == b"\xff\xeb":
        end += 2 + int.from_bytes(signed[end + 2 : end + 4])
    return other[:start] + signed[start:end] + other[start:]


# Sound and video

VOWELS = (
    (730, 1090, 2440),
    (270, 2290, 3010),
    (570, 840, 2410),
    (660, 1720, 2410),
    (300, 870, 2240),
)
SYLLABLES_PER_SECOND = 5


def speech(
    seconds: float = 4.0, *, sample_rate: int = 16_000, seed: int = 2
) -> NDArray[np.float32]:
    """Vowels and hisses at five syllables a second, by additive formant synthesis.

    Formant frequencies after Peterson and Barney (1952). Mono, −1…1; a voice activity detector
    takes it for speech.
    """
    rng = np.random.default_rng(seed)
    count = int(seconds * sample_rate)
    time = np.arange(count) / sample_rate
    place = time * SYLLABLES_PER_SECOND
    syllables = int(np.ceil(seconds * SYLLABLES_PER_SECOND)) + 1
    vowels = np.array(VOWELS)[rng.integers(0, len(VOWELS), syllables)]
    formants = [np.interp(place, np.arange(syllables) + 0.5, row) for row in vowels.T]
    tones = rng.uniform(95, 150, syllables)  # each syllable has another: it is not sung
    pitch = np.interp(place, np.arange(syllables) + 0.5, tones)
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    voice = np.zeros(count)
    for harmonic in range(1, 60):
        frequency = harmonic * pitch
        gain = sum(
            weight / (1 + ((frequency - formant) / width) ** 2)
            for formant, width, weight in zip(formants, (70, 100, 150), (1, 0.5, 0.3), strict=True)
        )
        voice += gain / harmonic**0.3 * np.sin(harmonic * phase) * (frequency < sample_rate / 2)
    within = place % 1
    voice *= np.clip(np.minimum(within, 1 - within) * 6 - 0.3, 0, 1)
    hissing = (rng.random(syllables) > 0.4)[place.astype(int)]
    hiss = np.diff(rng.normal(0, 1, count), prepend=0) * hissing
    hiss *= np.clip(1 - np.abs(within - 0.06) / 0.06, 0, 1)
    breath = rng.normal(0, 0.002, count)
    sound = 0.6 * voice / np.abs(voice).max() + 0.03 * hiss + breath
    return np.asarray(sound, np.float32)


def wav(sound: NDArray[np.float32], *, sample_rate: int = 16_000) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes((sound * 32767).astype("<i2").tobytes())
    return out.getvalue()


def mp4(*, seconds: float = 3.0, tags: dict[str, str] | None = None) -> bytes:
    """A pan over the landscape, 320×240 at 12 frames a second, with the vowel sound."""
    import av

    wide = landscape(seed=11, width=480, height=240)
    out = io.BytesIO()
    with av.open(out, "w", format="mp4", options={"movflags": "use_metadata_tags"}) as file:
        file.metadata.update(tags or {})
        video = file.add_stream("libx264", rate=12, options={"crf": "23", "threads": "1"})
        video.width, video.height, video.pix_fmt = 320, 240, "yuv420p"
        sound = file.add_stream("aac", rate=16_000)
        for index in range(int(seconds * 12)):
            left = index * 160 // int(seconds * 12)
            picture = np.ascontiguousarray(wide[:, left : left + 320])
            file.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        samples = speech(seconds=seconds)
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate = 16_000
        file.mux(sound.encode(frame))
        file.mux(sound.encode(None))
        file.mux(video.encode(None))
    return out.getvalue()


def write_samples(folder: Path) -> list[str]:
    """Write every sample; returns a line for each that was left out, with the reason."""
    from deepfake.analyzers.watermark import PAYLOADS

    folder.mkdir(parents=True, exist_ok=True)
    picture = landscape()
    sdxl = next(payload for payload in PAYLOADS if payload.generator == "SDXL")
    files = {
        "camera.jpg": jpeg(picture, exif=camera_exif()),
        "camera.png": png(picture),
        "sdxl.png": png(embed_watermark(landscape(seed=8), sdxl.bits)),
        "parameters.png": png(landscape(seed=9), text={"parameters": PARAMETERS}),
        "speech.wav": wav(speech()),
        "clip.mp4": mp4(),
    }
    left_out = []
    try:
        signer = make_signer()
    except ImportError:
        left_out.append(
            "signed.jpg, tampered.jpg and trust.pem: left out, because package cryptography is "
            "not installed; run: pip install cryptography"
        )
    else:
        plain, changed = landscape(seed=10), landscape(seed=10)
        changed[180:300, 280:480] = changed[180:300, 480:680]
        signed = sign(jpeg(plain), actions(created("trainedAlgorithmicMedia")), signer)
        files["signed.jpg"] = signed
        files["tampered.jpg"] = transplant(signed, jpeg(changed))
        files["trust.pem"] = signer.root.encode()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return left_out


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m examples.samples FOLDER\n")
        return 2
    folder = Path(arguments[0])
    left_out = write_samples(folder)
    sys.stdout.write(f"wrote {len(list(folder.iterdir()))} files to {folder}\n")
    sys.stdout.writelines(f"{line}\n" for line in left_out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
