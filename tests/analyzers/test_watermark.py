from __future__ import annotations

import io
from itertools import product
from math import comb

import numpy as np
import pytest
from PIL import Image

from deepfake.analyzers import watermark
from deepfake.analyzers.watermark import PAYLOADS, Payload, Watermark, find_watermarks
from deepfake.media.opening import open_media
from deepfake.settings import DetectOptions
from deepfake.types import Evidence, Kind, Status, Weight
from examples import samples

GENERATORS = [payload.generator for payload in PAYLOADS]


@pytest.fixture(scope="module")
def photo() -> samples.Pixels:
    return samples.landscape(seed=21, width=448, height=384)


def as_jpeg(pixels: samples.Pixels, *, quality: int, subsampling: int) -> samples.Pixels:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality, subsampling=subsampling)
    return np.array(Image.open(out))


def find(source: bytes | np.ndarray) -> list[Evidence]:
    with open_media(source) as media:
        return Watermark().analyze(media, None, DetectOptions())


def test_payloads_are_those_of_the_generators() -> None:
    assert [len(payload.bits) for payload in PAYLOADS] == [136, 48, 46]
    assert np.packbits(PAYLOADS[0].bits).tobytes() == b"StableDiffusionV1"
    numbers = [int("".join(str(int(bit)) for bit in p.bits), 2) for p in PAYLOADS[1:]]
    assert numbers == [
        0b101100111110110010010000011110111011000110011110,
        0b001010101111111010000111100111001111010100101110,
    ]


@pytest.mark.parametrize("payload", PAYLOADS, ids=GENERATORS)
@pytest.mark.parametrize("in_float", [True, False])
def test_marks_are_found(payload: Payload, in_float: bool, photo: samples.Pixels) -> None:
    marked = samples.embed_watermark(photo, payload.bits, in_float=in_float)
    for stored in (marked, as_jpeg(marked, quality=95, subsampling=0)):
        (match,) = find_watermarks(stored)
        assert match.generator == payload.generator
        assert match.false_positive_bound <= 1e-6 / 9


def test_the_mark_is_invisible(photo: samples.Pixels) -> None:
    marked = samples.embed_watermark(photo, PAYLOADS[1].bits)
    assert np.abs(marked.astype(int) - photo).mean() < 3


def test_unmarked_and_differently_marked_pictures_are_not_flagged(photo: samples.Pixels) -> None:
    assert find_watermarks(photo) == []
    other = np.random.default_rng(5).random(48) < 0.5
    assert find_watermarks(samples.embed_watermark(photo, other)) == []


def test_noise_is_not_flagged() -> None:
    random = np.random.default_rng(6)
    for _ in range(40):
        assert find_watermarks(random.integers(0, 256, (260, 300, 3), dtype=np.uint8)) == []


@pytest.mark.parametrize("level", [0, 18, 60, 128, 200, 255])
def test_flat_pictures_are_not_flagged(level: int) -> None:
    flat = np.full((300, 300, 3), level, np.uint8)
    assert find_watermarks(flat) == []
    flat[..., 2] = 255 - level
    assert find_watermarks(flat) == []
    flat[::8, ::8] = 90
    assert find_watermarks(flat) == []


@pytest.mark.parametrize("size", [(256, 256), (257, 263), (1000, 66), (66, 1000), (8, 8192)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    picture = np.random.default_rng(7).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert find_watermarks(picture) == []


@pytest.mark.parametrize("size", [(255, 256), (64, 64), (1, 1), (2, 40_000)])
def test_small_and_thin_pictures_carry_no_mark(size: tuple[int, int]) -> None:
    assert find_watermarks(np.zeros((*size, 3), np.uint8)) == []


def plain_votes(u: np.ndarray, *, float_centre: bool) -> list[bool]:
    """The rule once more, block by block, in double precision as PyWavelets computes it."""
    height, width = (side // 4 * 4 for side in u.shape)
    root = 0.7071067811865476
    pixels = u[:height, :width] * root
    rows = (pixels[1::2] + pixels[0::2]) * root
    low = rows[:, 1::2] + rows[:, 0::2]
    if float_centre:
        low = np.abs(low - 255)
    found = []
    for row, column in product(range(low.shape[0] // 4), range(low.shape[1] // 4)):
        block = low[row * 4 : row * 4 + 4, column * 4 : column * 4 + 4].ravel()
        value = block[1:][np.argmax(block[1:])]
        found.append(bool(value % 36 > 18))
    return found


@pytest.mark.parametrize("levels", [256, 8, 2])
def test_votes_equal_the_plain_rule_also_on_the_edges_of_a_period(levels: int) -> None:
    random = np.random.default_rng(levels)
    for size in ((40, 40), (37, 51), (42, 66)):
        u = (random.integers(0, levels, size) * (256 // levels)).astype(np.uint8)
        found = watermark.votes(u, watermark.low_pass(u))
        assert found.tolist() == plain_votes(u, float_centre=False)


def test_votes_around_the_float_centre() -> None:
    u = np.random.default_rng(9).integers(0, 256, (64, 64), dtype=np.uint8)
    sums = watermark.low_pass(u).astype(int)
    on_edge = np.abs(sums - 510).reshape(8, 4, 8, 4).transpose(0, 2, 1, 3).reshape(64, 16)
    clear = on_edge[:, 1:].max(axis=1) % 36 != 0
    found = watermark.votes(u, watermark.low_pass(u), float_centre=True)
    expected = np.array(plain_votes(u, float_centre=True))
    assert clear.sum() > 40
    assert (found == expected)[clear].all()


def test_bounds_are_exact() -> None:
    payload = Payload("small", np.array([True, True, False, False]))
    assert watermark.coin_bound(payload, 4) == pytest.approx(1 / 16)
    assert watermark.coin_bound(payload, 3) == pytest.approx(5 / 16)
    assert watermark.ranked_bound(payload, 4) == pytest.approx(1 / comb(4, 2))
    assert watermark.ranked_bound(payload, 2) == pytest.approx(5 / comb(4, 2))


def test_bounds_hold_on_random_votes() -> None:
    """The share of random ballots that reach a threshold is what the bound says (within 5 σ)."""
    random, payload, rounds = np.random.default_rng(8), PAYLOADS[1], 20_000
    coins = random.random((rounds, 48)) < 0.5
    matching = (coins == payload.bits).sum(axis=1)
    ranks = np.array([random.permutation(payload.bits) for _ in range(rounds)])
    ranked = (ranks == payload.bits).sum(axis=1)
    for found, bound, least in (
        (matching, watermark.coin_bound, 32),
        (ranked, watermark.ranked_bound, 32),
    ):
        expected = bound(payload, least)
        spread = (expected * (1 - expected) / rounds) ** 0.5
        assert abs((found >= least).mean() - expected) < 5 * spread


def test_evidence_of_a_marked_picture(photo: samples.Pixels) -> None:
    marked = samples.png(samples.embed_watermark(photo, PAYLOADS[2].bits))
    (evidence,) = find(marked)
    assert (evidence.score, evidence.weight) == (None, Weight.CLAIM)
    assert (evidence.details["generator"], evidence.declares) == ("FLUX", "generated")
    assert evidence.details["false_positive_bound"] <= 1e-6
    assert "watermark of FLUX" in evidence.claim


def test_absence_means_nothing(photo: samples.Pixels) -> None:
    (evidence,) = find(photo)
    assert (evidence.status, evidence.weight) == (Status.OK, Weight.SCORE)
    assert "absence means nothing" in evidence.claim


def test_too_small_is_skipped() -> None:
    (evidence,) = find(np.zeros((90, 90, 3), np.uint8))
    assert (evidence.status, evidence.reason) == (Status.SKIPPED, "too_small")


def test_frames_of_a_video_are_searched(photo: samples.Pixels) -> None:
    import av

    marked = samples.embed_watermark(photo, PAYLOADS[1].bits)
    out = io.BytesIO()
    with av.open(out, "w", format="matroska") as file:
        stream = file.add_stream("ffv1", rate=5)
        stream.width, stream.height, stream.pix_fmt = photo.shape[1], photo.shape[0], "bgr0"
        for _ in range(4):
            frame = av.VideoFrame.from_ndarray(marked, format="rgb24")
            file.mux(stream.encode(frame.reformat(format="bgr0")))
        file.mux(stream.encode(None))
    with open_media(out.getvalue()) as media:
        assert media.info.kind is Kind.VIDEO
        (evidence,) = Watermark().analyze(media, None, DetectOptions())
    assert evidence.details["generator"] == "SDXL"
    (plain,) = find(samples.mp4(seconds=0.5))
    assert plain.score is None


def test_of_a_large_picture_the_upper_rows_are_enough(photo: samples.Pixels) -> None:
    payload = PAYLOADS[1]
    large = np.tile(photo, (5, 3, 1))
    assert large.shape[0] * large.shape[1] > 2 * watermark.MOST_PIXELS
    marked = samples.embed_watermark(large, payload.bits)
    (match,) = find_watermarks(marked)
    assert (match.generator, match.matching_bits) == (payload.generator, len(payload.bits))
    marked[: len(marked) // 2] = large[: len(marked) // 2]
    assert find_watermarks(marked) == []
