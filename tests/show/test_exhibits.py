from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from deepfake.media.opening import Media, open_media
from deepfake.show.drawing import CLEAR, SYNTHETIC, UNKNOWN, colour_of
from deepfake.show.exhibits import Exhibit, choose_moments, find_exhibits, heat_limits
from deepfake.show.pictures import draw
from deepfake.types import FaceFinding, Heatmap, Kind, Timeline
from tests.media_files import image_bytes, scene, tone, video_bytes, wav_bytes
from tests.reports import POINTS, face_evidence, make_evidence, make_report, video_evidence


def grey(level: int = 90, width: int = 200, height: int = 120) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def levels(count: int) -> list[np.ndarray]:
    """Frames whose grey level tells their number."""
    return [grey(10 * index + 20) for index in range(count)]


@pytest.fixture(scope="module")
def clip() -> Iterator[Media]:
    """20 seconds, one frame a second."""
    with open_media(video_bytes(levels(20), rate=1, options={"qp": "4"})) as media:
        yield media


def test_faces_of_a_picture_are_framed_in_the_colour_of_their_score() -> None:
    report = make_report(face_evidence(), width=200, height=120)
    with open_media(image_bytes(grey())) as media:
        (exhibit,) = find_exhibits(media, report, most=9)
        drawn = exhibit.draw()
    assert drawn.shape == (120, 200, 3)
    assert tuple(drawn[60, 60]) == SYNTHETIC
    assert tuple(drawn[60, 160]) == UNKNOWN
    inside = drawn[35:75, 25:55].astype(int)
    assert (inside[:8, :, 0] < 110).all()
    assert (inside[-5:, :, 0] > 120).all()
    assert (inside[-5:, :, 1] < 60).all()
    assert (drawn[100:, :] == 90).all()
    label = drawn[12:29, 19:60]
    assert (label == SYNTHETIC).all(axis=2).mean() > 0.3
    assert (label == 255).all(axis=2).any()


def test_a_shrunk_exhibit_keeps_its_faces_in_place() -> None:
    report = make_report(face_evidence(), width=200, height=120)
    with open_media(image_bytes(grey())) as media:
        small = find_exhibits(media, report, most=1)[0].shrunk(100)
    assert small.pixels.shape == (60, 100, 3)
    assert small.faces[0].box == (10, 15, 30, 40)
    assert small.heatmaps[0].box == (10, 15, 30, 40)
    assert np.abs(small.draw()[28, 30].astype(int) - SYNTHETIC).max() < 20


def test_a_face_at_the_edge_stays_in_the_picture() -> None:
    faces = (
        FaceFinding(name="face 1", box=(-30, -30, 40, 40), score=0.1),
        FaceFinding(name="face 2", box=(150, 90, 900, 700), score=0.95),
    )
    evidence = make_evidence("face", faces=faces)
    with open_media(image_bytes(grey())) as media:
        drawn = draw(media, make_report(evidence, width=200, height=120))
    assert drawn is not None
    assert tuple(drawn[30, 40]) == CLEAR
    assert tuple(drawn[110, 150]) == SYNTHETIC
    assert drawn.shape == (120, 200, 3)


def test_nothing_scored_is_nothing_to_show() -> None:
    with open_media(image_bytes(grey())) as media:
        assert draw(media, make_report(make_evidence("image"))) is None


def test_a_sound_is_shown_as_its_spectrogram() -> None:
    row = Heatmap(name="audio", values=((0.0, 1.0),))
    with open_media(wav_bytes(tone(2.0))) as media:
        report = make_report(
            make_evidence("audio", heatmaps=(row,)), kind=Kind.AUDIO, format="wav", seconds=2.0
        )
        drawn = draw(media, report)
    assert drawn is not None
    assert drawn.shape[0] == 257
    assert drawn[:, -1, 0].mean() > drawn[:, 0, 0].mean() + 80


def test_the_most_telling_moments_come_first() -> None:
    report = make_report(*video_evidence(), kind=Kind.VIDEO, seconds=20.0)
    assert choose_moments(report, most=2) == [3.0, 12.0]
    chosen = choose_moments(report, most=6)
    assert {3.0, 12.0, 5.0, 8.0, 0.0} < set(chosen)
    assert len(chosen) == 6
    nine = choose_moments(report, most=9)
    assert nine == sorted(nine)
    assert (np.diff(nine) >= 20 / 13.5 / 8 - 1e-9).all()
    assert np.diff(nine).mean() > 20 / 13.5
    assert len(nine) >= 7
    assert 15.0 not in choose_moments(report, most=6), "the sound has nothing to see"


def test_a_report_without_timelines_has_no_moments() -> None:
    assert choose_moments(make_report(kind=Kind.VIDEO, seconds=5.0), most=9) == []
    empty = make_evidence("video", timelines=(Timeline(name="motion", seconds=(), scores=()),))
    assert choose_moments(make_report(empty, kind=Kind.VIDEO, seconds=5.0), most=9) == []


def test_frames_of_a_video_are_those_of_their_moments(clip: Media) -> None:
    report = make_report(*video_evidence(), kind=Kind.VIDEO, seconds=20.0, width=200, height=120)
    exhibits = find_exhibits(clip, report, most=6)
    assert [exhibit.second for exhibit in exhibits] == choose_moments(report, most=6)
    for exhibit in exhibits:
        assert exhibit.second is not None
        assert float(exhibit.pixels.mean()) == pytest.approx(10 * exhibit.second + 20, abs=3)
    by_second = {exhibit.second: exhibit for exhibit in exhibits}
    assert [face.name for face in by_second[12.0].faces] == ["face 1"]
    assert [heatmap.name for heatmap in by_second[12.0].heatmaps] == ["face 1"]
    assert by_second[8.0].faces == ()
    assert dict(by_second[8.0].scores)["motion"] == 0.95
    assert "audio" not in dict(by_second[8.0].scores)


def test_a_report_read_from_json_finds_the_same_frames() -> None:
    """Times lose digits there: thirds of a second become 0.333."""
    frames = [scene(96, 64, seed=seed) for seed in range(12)]
    seconds = tuple(index / 3 for index in range(12))
    scores = tuple(0.9 if index == 7 else 0.1 for index in range(12))
    line = Timeline(name="frames", seconds=seconds, scores=scores)
    report = make_report(
        make_evidence("frames", timelines=(line,)), kind=Kind.VIDEO, format="mp4", seconds=4.0
    )
    with open_media(video_bytes(frames, rate=3)) as media:
        first = find_exhibits(media, report, most=6)
        again = find_exhibits(media, type(report).from_dict(report.to_dict()), most=6)
    assert 7 / 3 in [pytest.approx(exhibit.second, abs=1e-3) for exhibit in first]
    assert len(first) == len(again) == 6
    for one, other in zip(first, again, strict=True):
        assert (one.pixels == other.pixels).all()


def test_colours_follow_the_limits() -> None:
    assert colour_of(0.95, POINTS) == SYNTHETIC
    assert colour_of(0.1, POINTS) == CLEAR
    assert colour_of(None, POINTS) == colour_of(0.99, None) == UNKNOWN


def test_overlapping_heat_maps_do_not_add_up() -> None:
    from deepfake.show.heatmaps import overlay

    whole = Heatmap(name="image", values=((0.8,),))
    part = Heatmap(name="face 1", values=((0.8,),), box=(0, 0, 100, 120))
    assert (overlay(grey(), whole) != grey()).any()
    assert (overlay(grey(), whole) == overlay(grey(), whole, part)).all()


@pytest.mark.parametrize(
    "box", [(-50, -50, 20, 20), (190, 110, 260, 180), (-9, -9, 900, 700), (500, 500, 600, 600)]
)
def test_a_heat_map_reaches_beyond_the_picture(box: tuple[float, ...]) -> None:
    from deepfake.show.heatmaps import overlay

    shown = Heatmap(name="face 1", values=((1.0,),), box=box)  # type: ignore[arg-type]
    drawn = overlay(grey(), shown)
    changed = (drawn != grey()).any(axis=2)
    left, top, right, bottom = (int(side) for side in box)
    outside = np.ones((120, 200), bool)
    outside[max(0, top) : max(0, bottom), max(0, left) : max(0, right)] = False
    assert not changed[outside].any()
    assert changed.any() == (box[0] < 200 and (right - left) * (bottom - top) < 16 * 200 * 120)


def test_an_exhibit_shows_heat_from_the_suspicious_score_of_its_evidence() -> None:
    heatmap = Heatmap(name="image", values=((0.1, 0.7),))
    evidence = make_evidence("image", heatmaps=(heatmap,))
    limits = heat_limits(make_report(evidence))
    assert evidence.points
    assert limits == {"image": evidence.points.suspicious}
    assert Exhibit(grey(), (heatmap,), limits={"image": 0.7}).shows_heat
    hidden = Exhibit(grey(), (heatmap,), limits={"image": 0.71})
    assert not hidden.shows_heat
    assert (hidden.draw() == grey()).all()
