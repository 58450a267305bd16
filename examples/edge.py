"""Judge a picture or a sound with an exported bundle and nothing but onnxruntime and NumPy.

    python edge.py image-3.onnx photo.png
    python edge.py audio-3.onnx speech.wav --threads 1

Make the ONNX file with ``deepfake models export image-3 --format onnx``, then copy it and this
file to the device. It reads binary PPM, PNG with 8 bits a channel, and PCM WAV at the rate of the
bundle; a camera or a microphone gives such arrays directly.

Prints the calibrated P(synthetic) of the file, where it lies between the operating points of the
bundle, and how long the graph took. The crops are those of ``deepfake detect --effort quick``.
Of sounds every window between silent ends is judged, where ``deepfake detect`` leaves out those
without speech.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import sys
import time
import wave
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when it is imported: it would report to its maker
import onnxruntime

Pixels = np.ndarray[Any, np.dtype[np.uint8]]
Samples = np.ndarray[Any, np.dtype[np.float32]]

MOST_BYTES = 256 * 1024**2
MOST_PIXELS = 50_000_000
MOST_SECONDS = 60.0
MOST_CHANNELS = 8
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Samples of a pixel for each colour type of PNG."""
TRANSPARENT = "the PNG is partly transparent; lay it on white first"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="ONNX file of an image or an audio bundle")
    parser.add_argument("file", help="PPM, PNG or WAV")
    parser.add_argument("--threads", type=int, default=1, help="threads of the runtime (1)")
    options = parser.parse_args(arguments)
    try:
        found = judge(options.model, options.file, threads=options.threads)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"edge: {ascii(str(error))[1:-1]}\n")
        return 1
    sys.stdout.write(
        f"score {found['score']:.6f}: {found['word']}\n"
        f"{found['windows']} windows in {found['milliseconds']:.1f} ms, {found['bundle']}\n"
    )
    return 0


def judge(model: str, file: str, *, threads: int = 1) -> dict[str, Any]:
    """The score of a file, the word for it, windows, milliseconds and the name of the bundle."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    content = read_bytes(model)
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # they have no common base
        raise ValueError("the model cannot be loaded by onnxruntime") from error
    facts = session.get_modelmeta().custom_metadata_map
    preprocess = json.loads(facts.get("preprocess", "{}"))
    limits = json.loads(facts.get("limits", "{}"))
    if preprocess.get("kind") == "image":
        pixels = read_picture(file)
        if min(pixels.shape[:2]) < limits["min_side_pixels"]:
            raise ValueError(f"the picture is under {limits['min_side_pixels']} pixels")
        array = cut_crops(pixels, preprocess["side_pixels"], preprocess["max_windows"])
    elif preprocess.get("kind") == "audio":
        array = read_sound(file, preprocess["sample_rate"])
        if len(array) < limits["min_seconds"] * preprocess["sample_rate"]:
            raise ValueError(f"the sound is under {limits['min_seconds']} seconds")
    else:
        raise ValueError("the model is no exported image or audio bundle")
    port = session.get_inputs()[0].name
    names = ["score", "scores"]
    session.run(names, {port: array})  # the first run also sets up memory
    started = time.perf_counter()
    score, scores = session.run(names, {port: array})
    return {
        "score": float(score[0]),
        "word": name_score(float(score[0]), json.loads(facts["points"])),
        "windows": len(scores),
        "milliseconds": 1000 * (time.perf_counter() - started),
        "bundle": facts["bundle"],
    }


def name_score(score: float, points: dict[str, float]) -> str:
    """What ``deepfake detect`` calls a score."""
    if score >= points["synthetic"]:
        return "clear traces of a generative model"
    if score >= points["suspicious"]:
        return "possible traces of a generative model"
    if score < points["authentic"]:
        return "no traces of a generative model"
    return "unclear traces of a generative model"


def cut_crops(pixels: Pixels, side: int, most: int) -> Pixels:
    """At most ``most`` crops (n, side, side, 3) on a grid that spans RGB ``pixels`` (h, w, 3); a
    picture smaller than one is mirrored at its right and lower edge.
    """
    height, width = pixels.shape[:2]
    columns, rows = -(-width // side), -(-height // side)
    if most < 4 and columns * rows > most:  # a row along the longer side, through the middle
        columns, rows = (min(columns, most), 1) if width >= height else (1, min(rows, most))
    while columns * rows > most and max(columns, rows) > 1:
        if columns >= rows:
            columns -= 1
        else:
            rows -= 1
    spare = max(0, width - side), max(0, height - side)
    across, down = (
        (np.linspace(0, free, count) if count > 1 else np.array([free / 2])).round().astype(int)
        for free, count in zip(spare, (columns, rows), strict=True)
    )
    missing = ((0, max(0, side - height)), (0, max(0, side - width)), (0, 0))
    whole = np.pad(pixels, missing, mode="symmetric")
    return np.stack([whole[y : y + side, x : x + side] for y in down for x in across])


def read_picture(path: str) -> Pixels:
    """RGB pixels (height, width, 3) of a PPM or PNG file."""
    data = read_bytes(path)
    if data.startswith(b"P6"):
        return read_ppm(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return read_png(data)
    raise ValueError("neither a binary PPM nor a PNG")


def read_bytes(path: str) -> bytes:
    with Path(path).open("rb") as file:
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"the file is over {MOST_BYTES} bytes")
    return data


def read_ppm(data: bytes) -> Pixels:
    """Pixels of a binary PPM with 8 bits a channel."""
    numbers, at = [], 2
    while len(numbers) < 3:
        while data[at : at + 1].isspace() or data[at : at + 1] == b"#":
            if data[at : at + 1] == b"#":
                at = data.find(b"\n", at)
                if at < 0:
                    raise ValueError("the PPM has no pixels")
            at += 1
        end = at
        while data[end : end + 1].isdigit() and end - at < 9:
            end += 1
        if end == at:
            raise ValueError("the header of the PPM is damaged")
        numbers.append(int(data[at:end]))
        at = end
    width, height, top = numbers
    check_size(width, height)
    if top != 255:
        raise ValueError("the PPM has not 8 bits a channel")
    pixels = data[at + 1 : at + 1 + 3 * width * height]
    if len(pixels) < 3 * width * height:
        raise ValueError("the PPM is cut off")
    return np.frombuffer(pixels, np.uint8).reshape(height, width, 3)


def check_size(width: int, height: int) -> None:
    if width < 1 or height < 1 or width * height > MOST_PIXELS:
        raise ValueError(f"{width}×{height} pixels; 1 to {MOST_PIXELS} in all can be read")


def read_png(data: bytes) -> Pixels:
    """Pixels of a PNG (ISO/IEC 15948) with 8 bits a channel that is neither interlaced nor
    transparent.
    """
    head, palette, packed = collect_png(data)
    width, height, bits, colour, _, _, interlaced = head
    check_size(width, height)
    if bits != 8 or colour not in CHANNELS or interlaced:
        raise ValueError("only PNG with 8 bits a channel and without interlacing can be read")
    channels = CHANNELS[colour]
    needed = height * (1 + width * channels)
    try:
        raw = zlib.decompressobj().decompress(packed, needed)
    except zlib.error as error:
        raise ValueError("the PNG is damaged") from error
    if len(raw) < needed:
        raise ValueError("the PNG is cut off")
    pixels = undo_filters(raw, width * channels, height, channels).reshape(height, width, channels)
    if colour == 3:
        if int(pixels.max()) >= len(palette):
            raise ValueError("the palette of the PNG is damaged")
        return palette[pixels[..., 0]]
    if channels in (2, 4):
        if int(pixels[..., -1].min()) < 255:
            raise ValueError(TRANSPARENT)
        pixels = pixels[..., :-1]
    return np.ascontiguousarray(np.broadcast_to(pixels, (height, width, 3)))


def collect_png(data: bytes) -> tuple[tuple[int, ...], Pixels, bytes]:
    """Header, palette (colours, 3) and compressed rows of a PNG."""
    head, palette, parts = (), np.zeros((0, 3), np.uint8), []
    for kind, body in png_chunks(data):
        if kind == b"IHDR" and len(body) == 13 and not head:
            head = struct.unpack(">IIBBBBB", body)
        elif kind == b"PLTE":
            palette = np.frombuffer(body[: len(body) // 3 * 3], np.uint8).reshape(-1, 3)
        elif kind == b"tRNS":
            raise ValueError(TRANSPARENT)
        elif kind == b"IDAT":
            parts.append(body)
    if not head:
        raise ValueError("the PNG has no header")
    return head, palette, b"".join(parts)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of each chunk up to the end."""
    at = 8
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if at + 12 + length > len(data):
            raise ValueError("the PNG is cut off")
        yield kind, data[at + 8 : at + 8 + length]
        if kind == b"IEND":
            return
        at += 12 + length
    raise ValueError("the PNG is cut off")


def undo_filters(raw: bytes, stride: int, height: int, channels: int) -> Pixels:
    """Rows of bytes (height, stride) of a PNG with its filters taken back."""
    rows = np.zeros((height, stride), np.uint8)
    above = bytearray(stride)
    for row in range(height):
        start = row * (stride + 1)
        line = bytearray(raw[start + 1 : start + 1 + stride])
        undo_filter(raw[start], line, above, channels)
        rows[row] = np.frombuffer(line, np.uint8)
        above = line
    return rows


def undo_filter(kind: int, line: bytearray, above: bytearray, channels: int) -> None:
    """Take back one filter of a row of bytes in place: 1 left, 2 above, 3 their mean, 4 Paeth."""
    if kind == 0:
        return
    if kind == 2:
        summed = np.frombuffer(line, np.uint8) + np.frombuffer(above, np.uint8)
        line[:] = summed.tobytes()
    elif kind == 1:
        for i in range(channels, len(line)):
            line[i] = (line[i] + line[i - channels]) & 255
    elif kind == 3:
        for i in range(len(line)):
            left = line[i - channels] if i >= channels else 0
            line[i] = (line[i] + (left + above[i]) // 2) & 255
    elif kind == 4:
        for i in range(len(line)):
            left, corner = (line[i - channels], above[i - channels]) if i >= channels else (0, 0)
            up = above[i]
            by_left, by_up = abs(up - corner), abs(left - corner)
            by_corner = abs(left + up - 2 * corner)
            if by_left <= by_up and by_left <= by_corner:
                best = left
            else:
                best = up if by_up <= by_corner else corner
            line[i] = (line[i] + best) & 255
    else:
        raise ValueError("the PNG has an unknown filter")


def read_sound(path: str, rate: int) -> Samples:
    """Mono float32 samples (n,) in -1…1 of the first minute of a PCM WAV file at ``rate``."""
    try:
        with wave.open(str(path), "rb") as file:
            if file.getframerate() != rate:
                raise ValueError(f"the sound has {file.getframerate()} Hz; bring it to {rate} Hz")
            width, channels = file.getsampwidth(), file.getnchannels()
            if not 1 <= channels <= MOST_CHANNELS:
                raise ValueError(f"the sound has {channels} channels")
            data = file.readframes(int(MOST_SECONDS * rate))
    except (wave.Error, EOFError) as error:
        raise ValueError("not a WAV file with plain PCM") from error
    data = data[: len(data) // (width * channels) * width * channels]
    if width == 1:
        samples = (np.frombuffer(data, np.uint8).astype(np.float32) - 128) / 128
    elif width == 3:
        parts = np.frombuffer(data, np.uint8).reshape(-1, 3).astype(np.int32)
        whole = parts[:, 0] << 8 | parts[:, 1] << 16 | parts[:, 2] << 24
        samples = whole.astype(np.float32) / 2**31
    elif width in (2, 4):
        samples = np.frombuffer(data, f"<i{width}").astype(np.float32) / 2 ** (8 * width - 1)
    else:
        raise ValueError(f"{width} bytes a sample cannot be read")
    return samples.reshape(-1, channels).mean(axis=1, dtype=np.float32)


if __name__ == "__main__":
    sys.exit(main())
