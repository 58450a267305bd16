from __future__ import annotations

import io
import re
from typing import Any

import av
import numpy as np
import pytest
from mutagen.flac import FLAC, Picture

from deepfake.errors import Corrupt, TooLarge, UnsupportedMedia
from deepfake.media import streams
from deepfake.media.job import Job
from deepfake.settings import Limits
from tests import media_files as make
from tests.decoding import job_for

SOUND = make.tone(2.0, sample_rate=48000)
MOVIE = make.video_bytes(
    [make.scene(seed=seed % 4) for seed in range(50)],
    sound=SOUND,
    options={"g": "10", "keyint_min": "10", "sc_threshold": "0"},
)
WAV = make.wav_bytes(make.tone(1.0))


def measured(content: bytes, format: str, *, kind: str = "video", **options: Any) -> streams.Span:
    with job_for(content) as (job, _), streams.open_streams(job, format=format) as container:
        find = streams.video_stream if kind == "video" else streams.audio_stream
        return streams.measure(job, container, find(container), **options)


def test_a_pass_over_the_packets_finds_the_length_and_the_key_frames() -> None:
    span = measured(MOVIE, "mp4")
    assert (span.packets, span.first) == (50, 0.0)
    assert span.end == pytest.approx(2.0, abs=0.01)
    assert span.seconds == span.end - span.first
    assert list(span.keys) == pytest.approx([0.0, 0.4, 0.8, 1.2, 1.6])
    assert span.widest_key_gap == pytest.approx(0.4)


def test_a_pass_ends_where_it_is_told_to() -> None:
    assert measured(MOVIE, "mp4", most=7).packets == 7
    assert measured(WAV, "wav", kind="audio", most=1).packets == 1


def test_key_frames_that_lie_closer_than_a_tenth_of_a_second_are_left_out() -> None:
    every = make.video_bytes([make.scene()] * 25, options={"g": "1"})
    keys = list(measured(every, "mp4").keys)
    assert len(keys) == 9  # every third of 25 frames, 0.12 s apart
    assert np.diff(keys).min() >= 0.1 - 1e-9


def test_a_pass_ends_at_the_first_place_that_cannot_be_read() -> None:
    movie = make.video_bytes([make.scene(seed=s % 4) for s in range(50)], format="matroska")
    whole, part = (measured(content, "mkv") for content in (movie, movie[: len(movie) // 2]))
    assert 0 < part.packets < whole.packets
    assert part.end < whole.end


def test_the_demuxer_is_named_never_guessed() -> None:
    """FFmpeg would open an HLS playlist, and with it other files, if it were asked to guess."""
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
    for format in streams.DEMUXERS:
        with job_for(playlist) as (job, _):
            try:
                with streams.open_streams(job, format=format) as container:
                    assert container.format.name.split(",")[0] != "hls"
            except Corrupt:
                continue


@pytest.mark.parametrize(("limit", "fits"), [(2, True), (1, False)])
def test_the_number_of_streams_is_bounded(limit: int, fits: bool) -> None:
    with job_for(MOVIE, limits=Limits(streams=limit)) as (job, _):
        if fits:
            with streams.open_streams(job, format="mp4") as container:
                assert len(container.streams) == 2
        else:
            with (
                pytest.raises(TooLarge, match=r"Limits\.streams"),
                streams.open_streams(job, format="mp4"),
            ):
                pass


def with_cover() -> bytes:
    """Sound with a cover picture, which FFmpeg shows as a video stream of one frame."""
    cover = Picture()
    cover.data, cover.mime, cover.type = make.image_bytes(make.scene(), "jpeg"), "image/jpeg", 3
    file = io.BytesIO(make.sound_bytes(SOUND, sample_rate=48000, format="flac", codec="flac"))
    tagged = FLAC(file)
    tagged.add_picture(cover)
    file.seek(0)
    tagged.save(file)
    return file.getvalue()


def test_cover_art_is_no_moving_picture() -> None:
    with job_for(with_cover()) as (job, _), streams.open_streams(job, format="flac") as container:
        assert len(container.streams.video) == 1
        assert streams.video_stream(container) is None
        assert streams.audio_stream(container) is container.streams.audio[0]


@pytest.mark.parametrize("format", ["mkv", "mp4"])
@pytest.mark.parametrize("default", [0, 1])
def test_the_tracks_that_players_choose_are_looked_at(format: str, default: int) -> None:
    content = make.tracks_bytes(default=default, format=format.replace("mkv", "matroska"))
    with job_for(content) as (job, _), streams.open_streams(job, format=format) as file:
        assert streams.video_stream(file) is file.streams.video[default]
        assert streams.audio_stream(file) is file.streams.audio[default]


def with_chapters(seconds: list[float], *, fragmented: bool = False) -> bytes:
    """A video of which the sound (ISO/IEC 14496-12) names the picture as that of its chapters."""
    options = {"movflags": "frag_keyframe+empty_moov"} if fragmented else {}
    pictures = [make.scene(seed=index % 4) for index in range(len(seconds))]
    movie = bytearray(
        make.video_bytes(pictures, seconds=seconds, sound=SOUND, container_options=options)
    )
    moov, picture, voice = (
        [match.start() - 4 for match in re.finditer(kind, movie)][index]
        for kind, index in ((b"moov", 0), (b"trak", 0), (b"trak", 1))
    )
    number = bytes(movie[picture + 28 : picture + 32])  # in its track header
    reference = box(b"tref", box(b"chap", number))
    end = voice + int.from_bytes(movie[voice : voice + 4], "big")
    movie[end:end] = reference
    for start in (moov, voice):
        size = int.from_bytes(movie[start : start + 4], "big") + len(reference)
        movie[start : start + 4] = size.to_bytes(4, "big")
    return bytes(movie)


@pytest.mark.parametrize("fragmented", [False, True])
def test_a_moving_picture_is_not_hidden_among_chapters(fragmented: bool) -> None:
    moving = with_chapters([index / 25 for index in range(50)], fragmented=fragmented)
    chapters = with_chapters([0.0, 2.0, 2.1, 4.0, 6.0], fragmented=fragmented)
    for content, counts in ((moving, True), (chapters, False)):
        with job_for(content) as (job, _), streams.open_streams(job, format="m4a") as file:
            (picture,) = file.streams.video
            assert picture.disposition & av.stream.Disposition.timed_thumbnails
            assert (streams.video_stream(file) is picture) is counts


def test_only_one_stream_is_read_where_one_is_wanted() -> None:
    """But for what was read ahead when the file was opened."""
    counts = []
    for one in (False, True):
        with job_for(MOVIE) as (job, _), streams.open_streams(job, format="mp4") as container:
            if one:
                streams.keep_only(container, streams.audio_stream(container))
            read = [packet.stream.type for packet in container.demux() if packet.size]
            counts.append((read.count("audio"), read.count("video")))
    (sound, pictures), (sound_alone, left) = counts
    assert sound_alone == sound
    assert left < pictures / 4


def test_a_stream_without_a_decoder_is_unsupported() -> None:
    class Unknown:
        codec_context = None

    with job_for(MOVIE) as (job, _), pytest.raises(UnsupportedMedia, match="its sound is coded"):
        streams.require_decoder(job, Unknown(), "sound")


def test_the_headers_claim_a_length() -> None:
    with job_for(MOVIE) as (job, _), streams.open_streams(job, format="mp4") as container:
        claimed = streams.claimed_seconds(container, streams.video_stream(container))
        assert claimed == pytest.approx(2.0, abs=0.01)
    live = make.video_bytes([make.scene()] * 5, format="webm", container_options={"live": "1"})
    with job_for(live) as (job, _), streams.open_streams(job, format="webm") as container:
        assert streams.claimed_seconds(container, streams.video_stream(container)) is None


@pytest.mark.parametrize(("seconds", "fits"), [(None, True), (9.9, True), (10.1, False)])
def test_the_length_is_bounded(seconds: float | None, fits: bool) -> None:
    with job_for(WAV, limits=Limits(seconds=10.0)) as (job, _):
        if fits:
            streams.check_seconds(job, seconds)
        else:
            with pytest.raises(TooLarge, match=r"Limits\.seconds"):
                streams.check_seconds(job, seconds)


def box(kind: bytes, body: bytes = b"", *, wide: bool = False, size: int | None = None) -> bytes:
    size = len(body) + (16 if wide else 8) if size is None else size
    head = (1 if wide else size).to_bytes(4, "big") + kind
    return head + (size.to_bytes(8, "big") if wide else b"") + body


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (box(b"ftyp", b"isom") + box(b"moov", bytes(9)), True),
        (box(b"ftyp", b"isom") + box(b"mdat", bytes(99), wide=True) + box(b"moov"), True),
        (box(b"ftyp", b"isom") + box(b"moov", bytes(9), size=900), False),
        (box(b"ftyp", b"isom") + box(b"moov", bytes(9), size=0), True),
        (box(b"ftyp", b"isom") + box(b"mdat", size=2) + box(b"moov"), False),
        (box(b"ftyp", b"isom") + box(b"mdat", wide=True, size=2**63) + box(b"moov"), False),
        (box(b"free") * 10_001 + box(b"moov"), False),
        (box(b"ftyp", b"moov"), False),
        (b"moov", False),
    ],
)
def test_a_top_level_box_is_found(content: bytes, found: bool) -> None:
    with job_for(content) as (job, _):
        assert streams.has_box(job, b"moov") is found


def broken(job: Job, format: str) -> Corrupt:
    with pytest.raises(Corrupt) as caught, streams.open_streams(job, format=format):
        pass
    return caught.value


def test_a_recording_that_was_not_finished_says_so() -> None:
    index = MOVIE.index(b"moov") - 4
    with job_for(MOVIE[:index]) as (job, _):
        assert "moov" in str(broken(job, "mp4"))
    with job_for(b"fLaC" + bytes(50)) as (job, _):
        assert "no readable header" in str(broken(job, "flac"))
