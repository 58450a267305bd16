from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from benchmarks.hostile import make_gif, make_video
from deepfake.errors import TooLarge
from deepfake.media import streams
from deepfake.media.budget import LARGER_COST, LEAST_PIXELS, OTHER_CODECS_COST, Survey, frame_cost
from deepfake.media.bursts import Stretch, burst_starts, make_plan
from deepfake.media.job import Descriptor, Job
from deepfake.media.opening import open_media
from deepfake.media.sources import open_bytes
from deepfake.media.streams import Span, open_streams
from deepfake.media.video import Reading, survey
from deepfake.settings import Limits
from tests.media_files import scene, video_bytes

GIF = make_gif(200, size=(32, 32))
GIF_FRAME = LEAST_PIXELS * OTHER_CODECS_COST
FULL_HD = 1920 * 1080


def clip(*, key_every: int, frames: int = 300) -> bytes:
    options = {"g": str(key_every), "keyint_min": str(key_every), "sc_threshold": "0", "bf": "0"}
    pictures = [scene(64, 48, seed=seed) for seed in range(8)]
    return video_bytes((pictures[index % 8] for index in range(frames)), options=options)


def look(content: bytes, limits: Limits, *, most: int = 40) -> tuple[list[float], list[str]]:
    """The seconds of the frames of bursts, and what is said of them."""
    with open_media(content, limits=limits) as media:
        frames = list(media.bursts(most=most, frames=4, step_seconds=0.1))
        assert media.is_limited is bool(media.warnings)
        return [frame.seconds for frame in frames], media.warnings


def test_a_gif_beyond_the_budget_is_sampled_in_its_first_part() -> None:
    seconds, warnings = look(GIF, Limits(decode_pixels=50 * GIF_FRAME))
    assert 10 <= len(seconds) <= 51
    assert 3.0 < max(seconds) <= 5.1
    assert warnings == [
        "The video is too costly to look at as closely as others: "
        f"{len(seconds)} of 200 frames were looked at, spread over the first 5 "
        "of 20 seconds."
    ]
    assert look(GIF, Limits())[1] == []


def test_close_key_frames_let_fewer_bursts_cover_the_whole_length() -> None:
    limits = Limits(decode_pixels=20_000_000_000)
    keys = [float(second) for second in range(0, 3600, 2)]
    found = Survey(Span(3600 * 30, 0.0, 3600.0, 2.0, keys), None, FULL_HD, "h264")
    plan = make_plan(limits, found, [], most=1800, frames=8, burst_seconds=1.0)
    assert plan.limited
    assert 100 < len(plan.starts) < 450
    assert found.cost(plan.starts, 1.0) <= limits.decode_pixels
    assert np.allclose(np.diff(plan.starts), 3600 / len(plan.starts))


def test_one_key_frame_lets_only_the_first_part_be_seen() -> None:
    seconds, warnings = look(clip(key_every=300), Limits(decode_pixels=100 * LEAST_PIXELS))
    assert 3.0 < max(seconds) <= 4.1
    assert "the first" in warnings[0]


def test_no_more_frames_are_looked_at_than_allowed() -> None:
    seconds, warnings = look(clip(key_every=25), Limits(sampled_frames=20), most=30)
    assert len(seconds) == 20
    assert np.allclose(seconds[::4], [0.0, 2.4, 4.8, 7.2, 9.6], atol=0.05)
    assert "20 of 300 frames were looked at, spread over 12 seconds." in warnings[0]


def test_single_frames_keep_within_the_budget_too() -> None:
    with open_media(GIF, limits=Limits(decode_pixels=50 * GIF_FRAME)) as media:
        seconds = [frame.seconds for frame in media.frames(most=3)]
    assert len(seconds) == 3
    assert 3.0 < seconds[-1] < 5.1


def test_the_budget_is_kept_where_the_packets_promised_less() -> None:
    limits = Limits(decode_pixels=20 * GIF_FRAME)
    with job(GIF, limits) as request, open_streams(request, format="gif") as container:
        reading = Reading(request, container)
        shown = [time for time, _ in reading.frames()]
    assert reading.is_spent
    assert 19 <= len(shown) <= 21
    assert reading.seconds == shown[-1]


def test_packets_are_counted_no_further_than_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MOST_PACKETS", 50)
    with job(GIF, Limits()) as request:
        assert survey(request, "gif").span.packets == 50
        with open_streams(request, format="gif") as container:
            assert 49 <= len(list(Reading(request, container).frames())) <= 51


@pytest.mark.parametrize("rate", [24, 25, 30, 60])
@pytest.mark.parametrize("key_seconds", [1.0, 8.3, 600.0])
def test_ten_ordinary_minutes_are_sampled_as_ever(rate: int, key_seconds: float) -> None:
    keys = [float(key) for key in np.arange(0.0, 600.0, key_seconds)]
    span = Span(600 * rate, 0.0, 600.0, key_seconds, keys)
    found = Survey(span, 600.0, FULL_HD, "h264")
    plan = make_plan(Limits(), found, [], most=300, frames=8, burst_seconds=1.0)
    whole = [Stretch(0.0, 600.0)]
    assert plan.starts == burst_starts(whole, most=300, burst_seconds=1.0)
    assert not plan.limited


@pytest.mark.parametrize("codec", ["gif", "h264"])
@pytest.mark.parametrize("frames", [3_000, 50_000])
def test_a_plan_costs_no_more_than_the_budget(codec: str, frames: int) -> None:
    limits = Limits()
    found = Survey(Span(frames, 0.0, frames / 10, 0.0, [0.0]), None, 4000 * 4000, codec)
    most = round(240 * frames / 600 / 8)
    plan = make_plan(limits, found, [], most=most, frames=8, burst_seconds=1.0)
    assert plan.limited
    assert found.cost(plan.starts[:-1], 1.0) <= limits.decode_pixels
    assert 0 < 8 * len(plan.starts) <= limits.most_frames(pixels=found.pixels)


def test_frames_larger_than_full_hd_count_by_their_pixels() -> None:
    limits = Limits(sampled_frames=100)
    assert limits.most_frames(pixels=1) == limits.most_frames(pixels=FULL_HD) == 100
    assert limits.most_frames(pixels=4 * FULL_HD) == 25
    assert limits.most_frames(pixels=10**9) == 1


def test_frames_cost_by_their_size_and_codec() -> None:
    assert frame_cost("h264", FULL_HD) == FULL_HD
    assert frame_cost("gif", FULL_HD) == OTHER_CODECS_COST * FULL_HD
    assert frame_cost("vp9", 1) == LEAST_PIXELS
    assert frame_cost("vp8", 4000 * 4000) == LARGER_COST * 4000 * 4000


DURATIONS = [0, 1, 2**31, 2**32 - 1]


@pytest.mark.parametrize("duration", DURATIONS)
@pytest.mark.parametrize("box", [b"mvhd", b"mdhd", b"tkhd"])
def test_a_duration_that_lies_does_not_change_what_is_seen(box: bytes, duration: int) -> None:
    content = bytearray(clip(key_every=25, frames=100))
    at = content.index(box) + (24 if box == b"tkhd" else 20)
    content[at : at + 4] = duration.to_bytes(4, "big")
    assert_seen_whole(bytes(content), seconds=4.0)


@pytest.mark.parametrize("rate", [0, 1, 10**9, 2**31, 2**32 - 1])
@pytest.mark.parametrize("scale", [0, 1, 2**32 - 1])
def test_a_frame_rate_that_lies_breaks_nothing(rate: int, scale: int) -> None:
    pictures = [scene(64, 48, seed=seed) for seed in range(4)]
    content = bytearray(video_bytes([pictures[i % 4] for i in range(60)], format="avi"))
    at = content.index(b"strh") + 28
    content[at : at + 8] = scale.to_bytes(4, "little") + rate.to_bytes(4, "little")
    if scale > 1 and rate == 1:
        with pytest.raises(TooLarge, match="seconds are more than"):
            open_media(bytes(content))
        return
    with open_media(bytes(content)) as media:
        assert media.info.frame_rate is None or 0 < media.info.frame_rate <= 1000
        frames = list(media.bursts(most=16, frames=8, step_seconds=0.125))
    assert frames
    assert all(np.isfinite(frame.seconds) for frame in frames)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1.0, float("nan"), float("inf")])
def test_a_matroska_duration_may_be_any_number(seconds: float) -> None:
    content = bytearray(
        video_bytes((scene(64, 48, seed=i % 4) for i in range(100)), format="matroska")
    )
    at = content.index(b"\x44\x89\x88") + 3
    content[at : at + 8] = struct.pack(">d", 1000 * seconds)
    assert_seen_whole(bytes(content), seconds=4.0)


def test_a_thousand_frames_a_second_are_a_burst_a_second() -> None:
    with open_media(make_video(3000, size=(64, 64), rate=1000)) as media:
        frames = list(media.bursts(most=40, frames=8, step_seconds=0.125))
    assert len(frames) == 24
    assert np.allclose([frame.seconds for frame in frames], np.arange(24) / 8, atol=0.002)


def assert_seen_whole(content: bytes, *, seconds: float) -> None:
    with open_media(content) as media:
        assert media.info.seconds == pytest.approx(seconds, abs=0.1)
        frames = list(media.bursts(most=16, frames=8, step_seconds=0.125))
    assert len(frames) == 32
    assert frames[-1].seconds > seconds - 0.2


@contextmanager
def job(content: bytes, limits: Limits) -> Iterator[Job]:
    ours, theirs = socket.socketpair()
    file = open_bytes(content, name="clip", limits=limits)
    with ours, theirs, Descriptor(file.descriptor) as stream:
        yield Job(connection=ours, stream=stream, name="clip", limits=limits)
