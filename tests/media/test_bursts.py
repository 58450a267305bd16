"""Bursts: where they start, which frames they hold, and that no frame differs from a full pass."""

from __future__ import annotations

import io
import socket
from collections.abc import Iterator

import av
import numpy as np
import pytest

from deepfake.errors import MediaError, SettingsError
from deepfake.media.bursts import Stretch, burst_starts, merge
from deepfake.media.job import Descriptor, Job
from deepfake.media.opening import BurstFrame, open_media
from deepfake.media.sources import open_bytes
from deepfake.media.streams import open_streams
from deepfake.media.video import Reading, survey, to_pixels
from deepfake.preprocess import Pixels
from deepfake.settings import Limits
from tests import media_files as make

X264 = {"preset": "veryfast"}
CLOSED = X264 | {"x264-params": "open-gop=0:keyint=30:bframes=3:b-adapt=0:log=-1"}
OPEN = X264 | {"x264-params": "open-gop=1:keyint=30:bframes=3:b-adapt=0:log=-1"}
REFRESHED = X264 | {"x264-params": "intra-refresh=1:keyint=30:log=-1"}
ONE_FRAME = 0.04 + 1e-6


def moving(count: int) -> Iterator[Pixels]:
    """Pictures of which no two are equal, with hard cuts every 20."""
    rng = np.random.default_rng(1)
    scenes = [make.scene(96, 64, seed=seed) for seed in range(5)]
    for index in range(count):
        shifted = np.roll(scenes[index // 20 % 5], 2 * index, axis=1)
        noise = rng.normal(0, 3, shifted.shape)
        yield np.clip(np.rint(shifted + noise), 0, 255).astype(np.uint8)


def decode_all(content: bytes) -> dict[float, Pixels]:
    """Every frame by its time, decoded by one thread that leaves nothing out."""
    with av.open(io.BytesIO(content)) as container:
        frames = [
            (float(frame.pts * frame.time_base), frame) for frame in container.decode(video=0)
        ]
        return {round(time - frames[0][0], 3): to_pixels(frame) for time, frame in frames}


def numbers(taken: list[BurstFrame]) -> list[int]:
    return [frame.burst for frame in taken]


def times_of(taken: list[BurstFrame], burst: int) -> list[float]:
    return [frame.seconds for frame in taken if frame.burst == burst]


@pytest.mark.parametrize(
    ("format", "codec", "options"),
    [
        ("mp4", "libx264", CLOSED),
        ("mp4", "libx264", OPEN),
        ("mpegts", "libx264", OPEN),
        ("matroska", "libx264", REFRESHED),
        ("mp4", "libx265", {"x265-params": "log-level=none:keyint=30:open-gop=1:bframes=4"}),
        ("webm", "libvpx", {"g": "30", "deadline": "realtime"}),
        ("webm", "libvpx-vp9", {"g": "30", "deadline": "realtime", "cpu-used": "8"}),
        ("matroska", "mpeg2video", {"g": "30", "bf": "2"}),
        ("avi", "mpeg4", {"g": "30", "bf": "2"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_frame_equals_that_of_a_full_pass(
    format: str, codec: str, options: dict[str, str]
) -> None:
    content = make.video_bytes(moving(300), format=format, codec=codec, options=options)
    every = decode_all(content)
    assert len(every) == 300
    with open_media(content) as media:
        spread = list(media.bursts(most=3, frames=6, step_seconds=0.1))
        within = list(media.bursts(most=2, frames=5, step_seconds=0.04, spans=[(4.5, 5), (9, 10)]))
        assert media.warnings == []
    for frame in spread + within:
        assert np.array_equal(frame.pixels, every[round(frame.seconds, 3)]), frame.seconds
    if options is not REFRESHED:
        assert numbers(spread) == [0] * 6 + [1] * 6 + [2] * 6
        assert numbers(within) == [0] * 5 + [1] * 5
        for burst, (taken, step) in enumerate([(spread, 0.1), (within, 0.04)]):
            start = 4.5 if taken is within else 0.0
            wanted = [start + step * index for index in range(6 - burst)]
            late = np.subtract(times_of(taken, 0), wanted)
            assert ((late > -1e-6) & (late < ONE_FRAME)).all()


def test_key_frames_that_need_others_cost_no_more_than_one_burst() -> None:
    """A video refreshed in columns states key frames from which nothing whole can be decoded."""
    content = make.video_bytes(moving(300), options=REFRESHED)
    with open_media(content) as media:
        counts = np.bincount(numbers(list(media.bursts(most=6, frames=8, step_seconds=0.04))))
    assert len(counts) == 6
    assert (counts == 8).sum() >= 5


@pytest.mark.parametrize("options", [CLOSED, OPEN])
def test_what_lies_between_bursts_is_not_decoded(options: dict[str, str]) -> None:
    content = make.video_bytes(moving(300), options=options)
    shown = list(read(content, wanted=9.7))
    assert shown[0][0] == 0.0
    assert sum(time >= 9.7 for time in shown_times(shown)) == 300 - 243
    assert len(shown) < 100
    every = decode_all(content)
    for time, pixels in shown:
        assert np.array_equal(pixels, every[round(time, 3)])


def shown_times(shown: list[tuple[float, Pixels]]) -> list[float]:
    return [time for time, _ in shown]


def read(content: bytes, *, wanted: float) -> Iterator[tuple[float, Pixels]]:
    """All frames that a reading gives that wants those from one moment on."""
    limits = Limits()
    ours, theirs = socket.socketpair()
    file = open_bytes(content, name="clip", limits=limits)
    with ours, theirs, Descriptor(file.descriptor) as stream:
        job = Job(connection=ours, stream=stream, name="clip", limits=limits)
        span = survey(job, "mp4").span
        with open_streams(job, format="mp4") as container:
            reading = Reading(job, container, keys=span.keys, wanted=wanted)
            for time, frame in reading.frames():
                yield time, to_pixels(frame)


def test_short_video_gives_bursts_back_to_back() -> None:
    with open_media(make.video_bytes(moving(50))) as media:
        taken = list(media.bursts(most=20, frames=8, step_seconds=0.125))
    assert numbers(taken) == [0] * 8 + [1] * 8
    assert times_of(taken, 1)[0] == pytest.approx(1.0)
    assert len({frame.seconds for frame in taken}) == 16


def test_single_frame_is_one_burst() -> None:
    with open_media(make.video_bytes(moving(1))) as media:
        taken = list(media.bursts(most=5, frames=8, step_seconds=0.125))
    assert [(frame.burst, frame.seconds) for frame in taken] == [(0, 0.0)]


@pytest.mark.parametrize("milliseconds", [120, 130, 500])
def test_gif(milliseconds: int) -> None:
    content = make.gif_bytes(list(moving(40)), milliseconds=milliseconds)
    with open_media(content) as media:
        every = {round(frame.seconds, 3): frame.pixels for frame in media.frames(most=100)}
        taken = list(media.bursts(most=3, frames=8, step_seconds=0.125, spans=[(1, 100)]))
    assert set(numbers(taken)) == {0, 1, 2}
    for burst in range(3):
        seconds = times_of(taken, burst)
        assert len(seconds) == len(set(seconds))
        assert len(seconds) >= (7 if milliseconds < 200 else 2)
        assert seconds[-1] - seconds[0] <= 0.875 + milliseconds / 1000
    for frame in taken:
        assert np.array_equal(frame.pixels, every[round(frame.seconds, 3)])


def test_variable_frame_rate_sends_each_frame_once() -> None:
    seconds = [0.0, 0.1, 0.2, 0.9, 1.0, 1.02, 1.04, 2.5, 2.6, 3.0]
    content = make.video_bytes(moving(10), seconds=seconds)
    with open_media(content) as media:
        taken = list(media.bursts(most=2, frames=4, step_seconds=0.25))
    assert [(f.burst, round(f.seconds, 2)) for f in taken] == [(0, 0.0), (0, 0.9), (1, 2.5), (1, 3)]


def test_spans_beyond_the_end_give_nothing() -> None:
    with open_media(make.video_bytes(moving(25))) as media:
        for span in [(5.0, 9.0), (0.97, 9.0)]:
            assert list(media.bursts(most=5, frames=2, step_seconds=0.1, spans=[span])) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"most": 0},
        {"frames": 0},
        {"step_seconds": 0.0},
        {"step_seconds": float("nan")},
        {"spans": [(2.0, 1.0)]},
        {"spans": [(0.0, float("inf"))]},
    ],
)
def test_wrong_requests_are_refused_before_decoding(wrong: dict[str, object]) -> None:
    values = {"most": 2, "frames": 2, "step_seconds": 0.1} | wrong
    with (
        open_media(make.video_bytes(moving(5))) as media,
        pytest.raises(SettingsError, match="out of range"),
    ):
        media.bursts(**values)  # type: ignore[arg-type]


def test_a_picture_has_no_bursts() -> None:
    with open_media(make.image_bytes(make.scene())) as media, pytest.raises(MediaError) as caught:
        media.bursts(most=1, frames=1, step_seconds=1.0)
    assert caught.value.code == "wrong_kind"


def test_starts_are_spread_and_never_overlap() -> None:
    rng = np.random.default_rng(2)
    for _ in range(300):
        edges = np.sort(rng.uniform(0, 100, 2 * rng.integers(1, 12)))
        spans = [Stretch(float(a), float(b)) for a, b in edges.reshape(-1, 2)]
        most, burst_seconds = int(rng.integers(1, 20)), float(rng.uniform(0.1, 5))
        starts = burst_starts(spans, most=most, burst_seconds=burst_seconds)
        assert 1 <= len(starts) <= most
        assert starts[0] == spans[0].start
        assert (np.diff(starts) > burst_seconds - 1e-9).all()
        assert all(any(a <= start < b for a, b in spans) for start in starts)


def test_starts_of_one_long_stretch_are_even() -> None:
    starts = burst_starts([Stretch(0.0, 600.0)], most=300, burst_seconds=1.0)
    assert starts == pytest.approx([2.0 * index for index in range(300)])
    starts = burst_starts([Stretch(0, 90), Stretch(100, 110)], most=20, burst_seconds=1.0)
    assert len(starts) == 20
    assert sum(start >= 100 for start in starts) == 3


def test_spans_are_joined_and_cut() -> None:
    spans = [Stretch(5, 7), Stretch(-1, 2), Stretch(6, 9), Stretch(9, 9.5), Stretch(11, 12)]
    assert merge(spans, Stretch(0, 10)) == [(0, 2), (5, 9.5)]
