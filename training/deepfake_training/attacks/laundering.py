"""Laundering: what people do to pictures and sounds anyway, or do to wash them.

What social networks make of uploads follows the measurements of Moltisanti et al. 2015 ("Image
Manipulation on Facebook for Forensics Evidence") and Sun et al. 2016; a photo of a screen follows
the recapture model of Cao and Kot 2010 ("Identification of Recaptured Photographs on LCD Screens"):
sub-pixels, perspective, sampling by another grid (hence moiré), glare. Sounds meet the channels of
training (:mod:`..perturb`), drawn with a seed of the file's own content, so that a repetition gives
the same.

Functions of pixels (height, width, 3) or of mono samples at 16 kHz; :data:`PICTURES` and
:data:`SOUNDS` name them with what they do.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from deepfake.preprocess import Floats, Pixels, Samples

from .. import perturb

_SCREEN = 3
"""Pixels of the recaptured screen's sub-pixel raster for one of the picture."""
_MOST_SIDE = 700
"""Of a picture whose photo from a screen is simulated; the raster is as many times larger."""


@dataclass(frozen=True)
class Washing:
    """``change`` gives the new signal; pictures are then stored as ``format`` at a quality."""

    says: str
    change: Callable[[Floats], Floats]
    format: str = "PNG"
    quality: int = 0


def send_through_network(pixels: Pixels) -> Pixels:
    """Uploaded, shared as a link's preview, and uploaded again elsewhere: 1080 pixels and JPEG 71,
    then 720 pixels and WebP 72.
    """
    shared = perturb.jpeg(perturb.limit_side(pixels, side=1080), quality=71)
    return perturb.webp(perturb.limit_side(shared, side=720), quality=72)


def code_twice_as_avif(pixels: Pixels) -> Pixels:
    return perturb.avif(perturb.avif(pixels, quality=60), quality=45)


def photograph_screen(pixels: Pixels) -> Pixels:
    """A photo of the picture on a screen, by hand: stripes of sub-pixels, seen at an angle through
    a slightly soft lens and sampled by a sensor, with a glare, a vignette and noise.
    """
    rng = draw_rng(pixels)
    shown = perturb.limit_side(pixels, side=_MOST_SIDE)
    height, width = shown.shape[:2]
    raster = np.repeat(np.repeat(shown.astype(np.float32), _SCREEN, axis=0), _SCREEN, axis=1)
    lines = np.full((_SCREEN, _SCREEN, 3), 0.18, np.float32)
    for channel in range(3):
        lines[:-1, channel, channel] = 1.0
    raster *= np.tile(lines, (height, width, 1))
    raster *= shown.mean() / max(1e-6, float(raster.mean()))
    scale = float(rng.uniform(0.82, 0.97))
    size = (round(width * scale), round(height * scale))
    corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    bent = corners + rng.uniform(-0.025, 0.025, (4, 2)).astype(np.float32)
    inner = np.float32(_SCREEN) * np.array([width, height], np.float32)
    outer = np.array(size, np.float32)
    matrix = cv2.getPerspectiveTransform(corners * inner, bent * outer)
    soft = cv2.GaussianBlur(raster, (0, 0), 0.34 * _SCREEN / scale)
    photo = cv2.warpPerspective(
        soft, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=12
    )
    rows, columns = np.mgrid[-1 : 1 : size[1] * 1j, -1 : 1 : size[0] * 1j]
    light = 1 - 0.16 * (rows**2 + columns**2)
    spot = rng.uniform(-0.7, 0.7, 2)
    glare = 26 * np.exp(-((rows - spot[0]) ** 2 + (columns - spot[1]) ** 2) / 0.25)
    photo = photo * light[..., None] + glare[..., None] + rng.normal(0, 2.2, photo.shape)
    return _pixels(photo)


def caption(pixels: Pixels) -> Pixels:
    """A meme: two lines in white capitals with a black edge."""
    page = pixels.copy()
    height, width = page.shape[:2]
    font, lines = cv2.FONT_HERSHEY_DUPLEX, ("WHEN YOU SEE IT", "YOU CANNOT UNSEE IT")
    for line, share in zip(lines, (0.13, 0.95), strict=True):
        (length, _), _ = cv2.getTextSize(line, font, 1.0, 2)
        size = 0.86 * width / length
        thick = max(1, round(1.6 * size))
        place = (round(0.07 * width), round(share * height))
        for colour, stroke in (((0, 0, 0), 4 * thick), ((255, 255, 255), thick)):
            cv2.putText(page, line, place, font, size, colour, stroke, cv2.LINE_AA)
    return page


def apply_filter(pixels: Pixels) -> Pixels:
    """A warm filter of a photo app: faded blacks, an S-curve, a tint, a vignette and grain."""
    rng = draw_rng(pixels)
    values = pixels.astype(np.float32) / 255
    curved = 0.06 + 0.92 * (values + 0.12 * np.sin(2 * np.pi * (values - 0.5)))
    curved *= np.array([1.06, 1.0, 0.9], np.float32)
    rows, columns = np.mgrid[-1 : 1 : pixels.shape[0] * 1j, -1 : 1 : pixels.shape[1] * 1j]
    curved *= (1 - 0.2 * (rows**2 + columns**2))[..., None]
    return _pixels(255 * curved + rng.normal(0, 3.5, (*pixels.shape[:2], 1)))


def beautify(pixels: Pixels) -> Pixels:
    """Skin smoothed and brightened: an edge-preserving blur (Tomasi and Manduchi 1998) where the
    chroma is that of skin (Chai and Ngan 1999).
    """
    tones = cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)
    skin = cv2.inRange(tones, np.array([40, 133, 77]), np.array([255, 173, 127]))
    weight = cv2.GaussianBlur(skin.astype(np.float32) / 255, (0, 0), 3)[..., None]
    smooth = cv2.bilateralFilter(pixels, 9, 45, 7).astype(np.float32)
    return _pixels(pixels * (1 - 0.8 * weight) + 0.8 * weight * (smooth * 1.03 + 3))


def cut_and_turn(pixels: Pixels) -> Pixels:
    """Turned by a degree and a half and cropped to what is left, as one straightens a horizon."""
    height, width = pixels.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), 1.5, 1.0)
    turned = cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_CUBIC)
    slope = float(np.tan(np.radians(1.5))) / 2
    top = min(int(slope * width) + 2, height // 4)
    left = min(int(slope * height) + 2, width // 4)
    return np.ascontiguousarray(turned[top : height - top, left : width - left])


def double(pixels: Pixels) -> Pixels:
    """Twice the size, as viewers and tools enlarge."""
    return perturb.rescale(pixels, factor=2.0, kernel="cubic")


def lay_over_music(samples: Samples) -> Samples:
    """A voice over a music bed 12 dB below it."""
    rng = draw_rng(samples)
    return perturb.mix(samples, perturb.make_music(len(samples), rng=rng), snr_db=12)


def rerecord_by_phone(samples: Samples) -> Samples:
    """Played by a loudspeaker and recorded by a phone: a room, a band, a noise gate and AAC."""
    played = perturb.AUDIO_VIEWS["rerecord"](samples)
    gated = perturb.gate_quiet(played, below_db=35, keep=0.3)
    return perturb.code_audio(gated, codec="aac", bit_rate=64000)


def encode_picture(pixels: Pixels, *, format: str = "PNG", quality: int = 0) -> bytes:
    """The picture as a file; PNG keeps every pixel."""
    stream = io.BytesIO()
    if format == "PNG":
        ok, content = cv2.imencode(
            ".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 1]
        )
        assert ok
        return bytes(content)
    options = {"subsampling": "4:2:0"} if format == "JPEG" else {}
    Image.fromarray(pixels).save(stream, format, quality=quality, **options)
    return stream.getvalue()


def draw_rng(signal: Pixels | Samples) -> np.random.Generator:
    """Random numbers that are the same for the same content."""
    return np.random.default_rng(zlib.crc32(np.ascontiguousarray(signal).tobytes()))


def _pixels(values: object) -> Pixels:
    return np.asarray(values).round().clip(0, 255).astype(np.uint8)


def _picture(
    says: str, change: Callable[[Pixels], Pixels], format: str = "PNG", quality: int = 0
) -> Washing:
    def on_floats(signal: Floats) -> Floats:
        return change(signal.round().astype(np.uint8)).astype(np.float32)

    return Washing(says, on_floats, format, quality)


def _sound(says: str, change: Callable[[Samples], Samples]) -> Washing:
    return Washing(says, lambda signal: np.clip(change(signal), -1, 1).astype(np.float32))


PICTURES: Mapping[str, Washing] = {
    "network-twice": _picture(
        "1080 pixels, JPEG 71, then 720 pixels, WebP 72", send_through_network
    ),
    "avif-twice": _picture("AVIF at 60, then at 45", code_twice_as_avif),
    "screen-photo": _picture(
        "a photo of a screen: moiré, angle, glare, JPEG 88", photograph_screen, "JPEG", 88
    ),
    "meme": _picture("two lines of capitals over it, JPEG 80", caption, "JPEG", 80),
    "filter": _picture("a warm filter with grain, JPEG 90", apply_filter, "JPEG", 90),
    "beauty": _picture("skin smoothed and brightened, JPEG 90", beautify, "JPEG", 90),
    "straighten": _picture("turned by 1.5 degrees and cropped, JPEG 90", cut_and_turn, "JPEG", 90),
    "double": _picture("twice the size, PNG", double),
    "blur": _picture("blurred by one pixel, PNG", lambda pixels: perturb.blur(pixels, sigma=1.0)),
}
SOUNDS: Mapping[str, Washing] = {
    "phone-recording": _sound(
        "from a loudspeaker by a phone: room, band, noise gate, AAC at 64 kbit/s", rerecord_by_phone
    ),
    "voice-message": _sound(
        "noise gate, low-rate Opus, shared again",
        lambda samples: perturb.send_by_messenger(samples, rng=draw_rng(samples)),
    ),
    "call": _sound(
        "the telephone band, µ-law or a mobile codec",
        lambda samples: perturb.send_by_telephone(samples, rng=draw_rng(samples)),
    ),
    "mp3-32k": _sound(
        "MP3 at 32 kbit/s",
        lambda samples: perturb.code_audio(samples, codec="mp3", bit_rate=32000),
    ),
    "music-bed": _sound("music 12 dB below", lay_over_music),
    "noise": _sound("stationary noise 10 dB below", perturb.AUDIO_VIEWS["noise_10db"]),
    "faster": _sound(
        "6 % faster, tempo and pitch", lambda samples: perturb.change_speed(samples, factor=1.06)
    ),
    "higher": _sound(
        "pitch and formants 6 % higher", lambda samples: perturb.change_pitch(samples, factor=1.06)
    ),
    "slower": _sound(
        "7 % slower at the same pitch", lambda samples: perturb.change_tempo(samples, factor=0.93)
    ),
}
