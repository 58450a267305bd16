"""Still pictures to upright 8-bit RGB, inside the decoder process.

Colour is brought to sRGB, orientation applied, transparency laid on white and deeper samples scaled
to eight bits; whatever had to be guessed or left out is a warning.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, ImageFile, ImageMode, PngImagePlugin, UnidentifiedImageError

from ..errors import Corrupt, MediaError, TooLarge
from ..preprocess import Pixels, Samples
from ..settings import megapixels
from .job import Job

PILLOW_FORMATS = {
    "avif": ("AVIF",),
    "bmp": ("BMP", "DIB"),
    "gif": ("GIF",),
    "heif": ("HEIF",),
    "jpeg": ("JPEG", "MPO"),
    "png": ("PNG",),
    "tiff": ("TIFF",),
    "webp": ("WEBP",),
}
DECODE_ERRORS = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    NotImplementedError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)
"""What Pillow and its plugins raise for damaged files."""

_ORIENTATION = 0x0112
_MOST_JPEG_BYTES = 256 * 1024**2
_TEXT_MEMORY = 8
_DAMAGED = "The picture is damaged or cut off; only its readable part was looked at."
_TEXT_LEFT_OUT = "A text block of the picture is larger than allowed; it was left out."


def open_image(job: Job, *, format: str) -> Image.Image:
    """Open without decoding and check the size. Raises ``Corrupt`` or ``TooLarge``."""
    warnings.simplefilter("ignore")
    PngImagePlugin.MAX_TEXT_CHUNK = job.limits.metadata_bytes
    PngImagePlugin.MAX_TEXT_MEMORY = _TEXT_MEMORY * job.limits.metadata_bytes
    Image.MAX_IMAGE_PIXELS = None  # checked here, where the size can be named
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    if format == "heif":
        import pi_heif

        pi_heif.register_heif_opener()
    try:
        image = _open(job, format)
    except DECODE_ERRORS as first:
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            image = _open(job, format)
            job.warn(_TEXT_LEFT_OUT if "text" in str(first).lower() else _DAMAGED)
        except DECODE_ERRORS as error:
            if "text" in str(error).lower():
                raise TooLarge(
                    f"file {job.name}: its text blocks are too large",
                    hint="remove the metadata, or raise Limits.metadata_bytes",
                ) from error
            raise _corrupt(job, first) from error
    width, height = image.size
    if width * height > job.limits.image_pixels:
        raise TooLarge(
            f"file {job.name}: this picture has {megapixels(width * height)} megapixels "
            f"({width}×{height}), and {megapixels(job.limits.image_pixels)} are taken",
            hint="shrink the picture, or raise Limits.image_pixels",
        )
    if min(width, height) < 1:
        raise Corrupt(f"file {job.name}: a picture without pixels", hint="export it again")
    Image.MAX_IMAGE_PIXELS = job.limits.image_pixels
    return image


def image_size(image: Image.Image) -> tuple[int, int]:
    """Upright width and height of an opened picture."""
    width, height = image.size
    if image.format == "TIFF":  # Pillow turns these itself, and their size in advance
        return width, height
    # Of a PNG only what stands before the pixels is read here, so as not to decode it.
    exif = Image.Image.getexif if image.format == "PNG" else type(image).getexif
    return (height, width) if _orientation(image, exif) >= 5 else (width, height)


def decode_image(job: Job, *, format: str) -> dict[str, Any]:
    """Send the upright RGB pixels (height, width, 3) of the first picture in the file."""
    image = open_image(job, format=format)
    if getattr(image, "n_frames", 1) > 1:
        things = "pages" if format == "tiff" else "pictures"
        job.warn(f"The file holds several {things}; only the first was looked at.")
    orientation = _orientation(image, type(image).getexif) if format == "jpeg" else 1
    pixels = _decode_jpeg(job, image, orientation) if format == "jpeg" else None
    if pixels is None:
        image = _load(job, image, format)
        orientation = _orientation(image, type(image).getexif)
        pixels = to_rgb(job, image)
    del image
    if _DAMAGED in job.warnings:
        pixels = without_missing_rows(pixels)
    job.part(upright(pixels, orientation))
    return {}


def _decode_jpeg(job: Job, image: Image.Image, orientation: int) -> Pixels | None:
    """An intact JPEG in sRGB, by libjpeg-turbo without Pillow's copies and with equal pixels, on
    the shared memory where it needs no turning; None for any other.
    """
    import simplejpeg

    profile = image.info.get("icc_profile")
    if image.mode != "RGB" or job.stream.bytes > _MOST_JPEG_BYTES or _DAMAGED in job.warnings:
        return None
    if profile and not is_srgb(profile):
        return None
    width, height = image.size
    place = None
    if job.shared is not None and orientation == 1 and 3 * width * height <= len(job.shared):
        place = job.shared[: 3 * width * height].reshape(height, width, 3)
    try:
        content = job.buffered().read()
        pixels = simplejpeg.decode_jpeg(content, "RGB", buffer=place, strict=True)
    except (ValueError, MemoryError):
        return None  # Pillow tells what is wrong, and saves what it can
    return np.asarray(pixels, np.uint8) if pixels.shape == (height, width, 3) else None


def is_srgb(profile: bytes) -> bool:
    """Whether an ICC profile calls itself sRGB."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return "sRGB" in (source.profile.profile_description or "")
    except (ImageCms.PyCMSError, *DECODE_ERRORS):
        return False


def to_rgb(job: Job, image: Image.Image) -> Pixels:
    """RGB pixels of a loaded picture: alpha on white, colours in sRGB, eight bits."""
    profile = image.info.get("icc_profile")
    image = _eight_bits(job, image)
    alpha = None
    if image.has_transparency_data:
        if image.mode not in ("LA", "RGBA"):
            image = image.convert("LA" if image.mode == "La" else "RGBA")
        alpha = image.getchannel("A")
        if alpha.getextrema()[0] == 255:
            alpha = None
        image = image.convert("L" if image.mode == "LA" else "RGB")
    if image.mode in ("P", "1", "HSV", "YCbCr"):
        image = image.convert("RGB")
    if profile:
        image = _to_srgb(job, image, profile)
    if image.mode != "RGB":
        image = image.convert("RGB")
    if alpha is not None:
        job.warn("The picture is partly transparent; it was laid on white.")
        ground = Image.new("RGB", image.size, (255, 255, 255))
        ground.paste(image, mask=alpha)
        image = ground
    return np.asarray(image, dtype=np.uint8)


def without_missing_rows(pixels: Pixels) -> Pixels:
    """``pixels`` without the flat rows at the bottom that stand for data that never came."""
    flat = (pixels == pixels[-1, -1]).all(axis=(1, 2))
    if flat.all():
        return pixels
    return pixels[: len(flat) - int(np.argmin(flat[::-1]))]


def upright(pixels: Pixels, orientation: int) -> Pixels:
    """``pixels`` with the EXIF 2.32 ``orientation`` 1…8 undone."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _open(job: Job, format: str) -> Image.Image:
    return Image.open(job.buffered(), formats=PILLOW_FORMATS[format])


def _load(job: Job, image: Image.Image, format: str) -> Image.Image:
    """Decode; a damaged picture gives what is readable and a warning."""
    try:
        image.load()
    except DECODE_ERRORS as first:
        ImageFile.LOAD_TRUNCATED_IMAGES = True
        try:
            image = _open(job, format)
            image.load()
        except DECODE_ERRORS as error:
            raise _corrupt(job, first) from error
        if _is_flat(image):
            raise _corrupt(job, first) from first
        job.warn(_DAMAGED)
    return image


def _is_flat(image: Image.Image) -> bool:
    extrema = image.getextrema()
    pairs = extrema if isinstance(extrema[0], tuple) else (extrema,)
    return all(low == high for low, high in pairs)


def _orientation(image: Image.Image, exif: Callable[[Any], Image.Exif]) -> int:
    try:
        value = exif(image).get(_ORIENTATION, 1)
    except DECODE_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _eight_bits(job: Job, image: Image.Image) -> Image.Image:
    """Integer and floating-point samples of any depth as ``L``."""
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(scale_to_bytes(job, np.asarray(image)))
    return image


def scale_to_bytes(job: Job, values: npt.NDArray[Any]) -> Pixels:
    """Samples of a picture in 0…255: from 16 bits, wider integers or floating point."""
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return np.asarray((values.astype(np.uint32) + 128) // 257, dtype=np.uint8)
    numbers: Samples = values.astype(np.float32)
    if not np.isfinite(numbers).all():
        job.warn("The picture has samples that are not numbers; they were taken as black.")
        numbers = np.nan_to_num(numbers, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(numbers.min()), float(numbers.max())
    for top in (1.0, 255.0, 65535.0) if values.dtype.kind == "f" else (255.0, 65535.0):
        if low >= 0 and high <= top:
            return np.asarray(np.rint(numbers * np.float32(255.0 / top)), dtype=np.uint8)
    job.warn("The picture's brightness has an unusual range; it was stretched to fit.")
    scale = np.float32(255.0 / max(high - low, 1e-30))
    return np.asarray(np.rint((numbers - np.float32(low)) * scale), dtype=np.uint8)


def _to_srgb(job: Job, image: Image.Image, profile: bytes) -> Image.Image:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in (source.profile.profile_description or ""):
            return image
        space = source.profile.xcolor_space.strip()
        if space != {"L": "GRAY"}.get(image.mode, ImageMode.getmode(image.mode).basemode):
            space_needed = {"CMYK": "CMYK", "LAB": "Lab"}.get(image.mode)
            if space != space_needed:
                raise ValueError(f"a {space} profile")
        converted = ImageCms.profileToProfile(
            image, source, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, *DECODE_ERRORS):
        job.warn("The colour profile is damaged or does not fit; colours were taken as they are.")
        return image
    return converted if converted is not None else image


def _corrupt(job: Job, error: BaseException) -> MediaError:
    if isinstance(error, Image.DecompressionBombError):
        return TooLarge(f"file {job.name}: holds more pixels than it declares")
    why = "".join(c if c.isprintable() else "?" for c in str(error))[:160] or type(error).__name__
    if isinstance(error, UnidentifiedImageError):
        why = "a damaged header, or a rare variant of its format"
    return Corrupt(
        f"file {job.name}: the picture cannot be decoded ({why})",
        hint="get the original file again, or export it with another program",
    )
