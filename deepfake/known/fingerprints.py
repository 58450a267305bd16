"""The fingerprint of a file: what is alike in all of its copies, and tells nothing else of it."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import Cancelled, DeepfakeError
from ..types import Kind
from .pictures import BYTES, Hashes, hash_frames, hash_picture
from .sounds import MOST_SECONDS, SAMPLE_RATE, Words, hash_sound

if TYPE_CHECKING:
    from ..media.opening import Media

FRAME_SECONDS, CLIP_SECONDS = 0.5, 16.0
MOST_FRAMES = round(CLIP_SECONDS / FRAME_SECONDS)
MOST_PARTS, MOST_WORDS = 64, 4096
_PDQ = re.compile(f"[0-9a-f]{{{2 * BYTES}}}")


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """``wholes`` are PDQ hashes of a picture, or of the frames of a clip; ``parts`` of crops of a
    picture; ``sound`` is words of 4 bytes, the first one first. What has too little structure has
    none, and a file of which nothing is left has no fingerprint.
    """

    kind: Kind
    wholes: bytes = b""
    parts: bytes = b""
    sound: bytes = b""

    @property
    def whole_hashes(self) -> Hashes:
        return np.frombuffer(self.wholes, np.uint8).reshape(-1, BYTES)

    @property
    def part_hashes(self) -> Hashes:
        return np.frombuffer(self.parts, np.uint8).reshape(-1, BYTES)

    @property
    def words(self) -> Words:
        return np.frombuffer(self.sound, ">u4").astype(np.uint32)

    def to_dict(self) -> dict[str, Any]:
        """The fingerprint as JSON values: ``pdq`` in hexadecimal, the others in base64."""
        return {
            "kind": self.kind.value,
            "pdq": [bytes(row).hex() for row in self.whole_hashes],
            "parts": base64.b64encode(self.parts).decode(),
            "sound": base64.b64encode(self.sound).decode(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Fingerprint:
        """The inverse of :meth:`to_dict`. Raises ``ValueError`` for what is no fingerprint."""
        pdq = values.get("pdq")
        if not isinstance(pdq, list) or len(pdq) > MOST_FRAMES * 100:
            raise ValueError("fingerprint: has no list pdq")
        parts = _bytes(values.get("parts", ""), BYTES, MOST_PARTS)
        sound = _bytes(values.get("sound", ""), 4, MOST_WORDS)
        wholes = b"".join(map(_read_pdq, pdq))
        if not wholes and not sound:
            raise ValueError("fingerprint: is empty")
        return cls(kind=Kind(str(values.get("kind"))), wholes=wholes, parts=parts, sound=sound)


def take_fingerprint(media: Media, *, parts: bool = True) -> Fingerprint | None:
    """The fingerprint of a file, None where too little of it can be read or it is too plain. A
    picture has its ``parts``, which cost most, where it is compared with an index or may become an
    entry of one.

    Of a clip the first 16 seconds count, of a sound the first minute. Leaves the warnings of
    ``media`` as they are, for it looks at less than others do. Raises ``Cancelled``.
    """
    warnings, limited = [*media.warnings], media.is_limited
    wholes, pieces, sound = b"", b"", b""
    try:
        if media.info.kind is Kind.IMAGE:
            found = hash_picture(media.image(), parts=parts)
            wholes, pieces = found.wholes.tobytes(), found.parts.tobytes()
        elif media.info.kind is Kind.VIDEO:
            frames = media.bursts(
                most=1, frames=MOST_FRAMES, step_seconds=FRAME_SECONDS, spans=[(0.0, CLIP_SECONDS)]
            )
            wholes = hash_frames(frame.pixels for frame in frames).tobytes()
        if media.info.has_audio:
            samples = media.audio(sample_rate=SAMPLE_RATE, max_seconds=MOST_SECONDS)
            words = hash_sound(samples)
            sound = words.astype(">u4").tobytes() if words.any() else b""
    except Cancelled:
        raise
    except DeepfakeError:
        pass  # the analyzers say what cannot be read
    finally:
        media.warnings[:], media.is_limited = warnings, limited
    if not wholes and not sound:
        return None
    return Fingerprint(kind=media.info.kind, wholes=wholes, parts=pieces, sound=sound)


def _read_pdq(text: Any) -> bytes:
    if not isinstance(text, str) or not _PDQ.fullmatch(text):
        raise ValueError("fingerprint: holds what is no PDQ hash")
    return bytes.fromhex(text)


def _bytes(text: Any, size: int, most: int) -> bytes:
    try:
        content = base64.b64decode(text, validate=True)
    except (TypeError, binascii.Error) as error:
        raise ValueError("fingerprint: is no base64") from error
    if len(content) % size or len(content) > most * size:
        raise ValueError("fingerprint: is of a wrong length")
    return content
