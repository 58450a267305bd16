"""Facts of each file, read once in the confined decoder and kept by the content of the file."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from deepfake.analyzers.metadata import find_camera, find_generators
from deepfake.errors import Cancelled, DeepfakeError
from deepfake.known.fingerprints import Fingerprint, take_fingerprint
from deepfake.media.opening import Media
from deepfake.preprocess import AudioPreprocess, Pixels, Samples
from deepfake.show.thumbnails import draw_thumbnail
from deepfake.text import printable
from deepfake.types import Kind

from ..audio.shortcuts import describe
from ..files import write_arrays
from .candidates import Facts, Vectors

PATTERN_SIDE = 96
"""Pixels to which a picture is brought, whatever its shape, before what is fine in it is taken."""
PATTERN_BANDS = 512
"""Of a sound, from 0 to 8 kHz."""
_BLUR = 1.5
_MOST_SECONDS = 60.0
_BLOCKS = {
    "Exif": "exif",
    "IPTC": "iptc",
    "XMP": "xmp_properties",
    "text": "text",
    "profile": "icc_description",
    "tags": "tags",
}
_RIGHTS = ("copyright", "rights", "usageterms", "license", "licence", "webstatement")


def keep_facts(media: Media, folder: Path) -> Facts:
    """The facts of an open file, or what ``folder`` holds of them by its sha256."""
    path = folder / f"{media.info.sha256}.npz"
    if not path.exists():
        _write(path, read_facts(media))
    return _read(path)


def read_facts(media: Media) -> Facts:
    """The facts of an open file; what cannot be read of it is left out. Raises ``Cancelled``."""
    traits: dict[str, float | str] = {}
    pattern, thumbnail, metadata = np.empty(0, np.float32), b"", {}
    try:
        metadata = media.metadata()
        kind = media.info.kind
        if kind is not Kind.AUDIO:
            thumbnail = draw_thumbnail(media) or b""
        if kind is Kind.IMAGE:
            pattern = take_pattern(media.image())
        elif kind is Kind.VIDEO and (frame := next(iter(media.frames(most=1)), None)):
            pattern = take_pattern(frame.pixels)
        if media.info.has_audio:
            hear = AudioPreprocess()
            samples = media.audio(sample_rate=hear.sample_rate, max_seconds=_MOST_SECONDS)
            traits |= _describe_sound(samples, hear)
            if kind is Kind.AUDIO:
                pattern = take_spectrum(samples)
    except Cancelled:
        raise
    except DeepfakeError:
        pass  # whoever takes features of it tells that it cannot be read
    blocks = [word for word, key in _BLOCKS.items() if metadata.get(key)]
    traits["metadata"] = "+".join(blocks) or "none"
    camera = find_camera(metadata)
    traits["camera named"] = "yes" if camera else "no"
    return Facts(
        fingerprint=take_fingerprint(media, parts=False),
        traits=traits,
        generators=tuple(dict.fromkeys(one.sentence for one in find_generators(metadata)))[:4],
        camera=camera,
        rights=_find_rights(metadata),
        pattern=pattern,
        thumbnail=thumbnail,
    )


def take_pattern(pixels: Pixels) -> Vectors:
    """What is fine in RGB ``pixels`` (height, width, 3): luma at one size without what a blur
    leaves of it, its contrast evened out, as a vector of length one (PATTERN_SIDE²,).
    """
    side = PATTERN_SIDE
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY).astype(np.float32)
    small = cv2.resize(luma, (side, side), interpolation=cv2.INTER_AREA)
    fine = small - cv2.GaussianBlur(small, (0, 0), _BLUR)
    strength = np.sqrt(cv2.GaussianBlur(fine * fine, (0, 0), 4 * _BLUR))
    return _normed((fine / (strength + 1)).ravel())


def take_spectrum(samples: Samples) -> Vectors:
    """What is fine in the mean spectrum of mono ``samples`` at 16 kHz (PATTERN_BANDS,): a constant
    tone is a peak in it.
    """
    size = 2 * PATTERN_BANDS
    if len(samples) < size:
        return np.empty(0, np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[:: size // 2]
    power = np.abs(np.fft.rfft(frames * np.hanning(size))[:, :-1]) ** 2
    level = 10 * np.log10(power.mean(axis=0) + 1e-9).astype(np.float32)
    return _normed(level - cv2.GaussianBlur(level[None], (0, 0), 6)[0])


def _normed(values: Vectors) -> Vectors:
    values = values - values.mean()
    return np.asarray(values / max(float(np.linalg.norm(values)), 1e-6), np.float32)


def _describe_sound(samples: Samples, hear: AudioPreprocess) -> dict[str, float | str]:
    if not len(samples):
        return {}
    first, last = hear.active(samples)
    traits: dict[str, float | str] = {
        "leading silence": first / hear.sample_rate,
        "trailing silence": (len(samples) - last) / hear.sample_rate,
    }
    if len(samples) >= hear.sample_rate // 10:
        told = describe(samples)
        traits |= {"bandwidth": float(told[1]), "pauses": float(told[4]), "level": float(told[6])}
    return traits


def _find_rights(metadata: dict[str, Any]) -> str:
    """The first terms that the metadata state."""
    for block in ("exif", "iptc", "tags", "text", "xmp_properties"):
        values = metadata.get(block)
        for name, value in values.items() if isinstance(values, dict) else ():
            if any(word in str(name).lower() for word in _RIGHTS):
                text = value[0] if isinstance(value, list) and value else value
                if isinstance(text, str) and text.strip():
                    return printable(text, most=120)
    return ""


def _write(path: Path, facts: Facts) -> None:
    told = {
        "fingerprint": facts.fingerprint and facts.fingerprint.to_dict(),
        "traits": facts.traits,
        "generators": facts.generators,
        "camera": facts.camera,
        "rights": facts.rights,
        "thumbnail": base64.b64encode(facts.thumbnail).decode(),
    }
    write_arrays(path, pattern=facts.pattern.astype(np.float16), told=np.array(json.dumps(told)))


def _read(path: Path) -> Facts:
    with np.load(path, allow_pickle=False) as stored:
        told = json.loads(str(stored["told"]))
        pattern = stored["pattern"].astype(np.float32)
    mark = told["fingerprint"]
    return Facts(
        fingerprint=None if mark is None else Fingerprint.from_dict(mark),
        traits=told["traits"],
        generators=tuple(told["generators"]),
        camera=told["camera"],
        rights=told["rights"],
        pattern=pattern,
        thumbnail=base64.b64decode(told["thumbnail"]),
    )
