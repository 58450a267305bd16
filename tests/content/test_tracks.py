from __future__ import annotations

import numpy as np

from deepfake.content.faces import Face
from deepfake.content.tracks import Tracker
from tests.media_files import Pixels, scene

OFFSETS = np.array([(-12, -8), (12, -8), (0, 4), (-9, 18), (9, 18)], float)


def face_at(x: float, y: float) -> Face:
    points = OFFSETS + np.array([x, y])
    return Face((x - 28, y - 32, x + 28, y + 36), tuple(map(tuple, points)), 0.9)


def frame(*people: tuple[int, int, int], place: int = 0) -> Pixels:
    """A room with people: (x, y, who)."""
    pixels = scene(320, 200, seed=100 + place, noise=0)
    for x, y, who in people:
        pixels[y - 40 : y + 40, x - 40 : x + 40] = scene(80, 80, seed=who, noise=2)
    return pixels


def follow(*moments: tuple[float, Pixels, list[Face]]) -> list[list[int]]:
    tracker = Tracker()
    return [
        [track.number for track in tracker.add(second, faces, pixels)]
        for second, pixels, faces in moments
    ]


def test_a_person_who_moves_stays_one_track() -> None:
    moments = [
        (0.125 * i, frame((100 + 3 * i, 100, 1)), [face_at(100 + 3 * i, 100)]) for i in range(8)
    ]
    assert follow(*moments) == [[0]] * 8


def test_two_people_are_never_mixed() -> None:
    left, right = (90, 100, 1), (220, 100, 2)
    moments = [
        (0.0, frame(left, right), [face_at(90, 100), face_at(220, 100)]),
        (0.5, frame(left, right), [face_at(220, 100), face_at(90, 100)]),
        (1.0, frame(right), [face_at(220, 100)]),
    ]
    assert follow(*moments) == [[0, 1], [1, 0], [1]]


def test_another_person_in_the_same_place_is_another_track() -> None:
    moments = [
        (float(i), frame((100, 100, who)), [face_at(100, 100)])
        for i, who in enumerate((1, 1, 7, 7))
    ]
    assert follow(*moments) == [[0], [0], [1], [1]]


def test_a_cut_ends_a_track_and_a_return_continues_it() -> None:
    one, other = frame((100, 100, 1)), 255 - frame((100, 100, 1), place=3)
    other[60:140, 60:140] = one[60:140, 60:140]
    here = [face_at(100, 100)]
    assert follow((0.0, one, here), (1.0, other, here), (2.0, one, here)) == [[0], [1], [0]]


def test_a_gap_in_time_ends_a_track() -> None:
    pixels, here = frame((100, 100, 1)), [face_at(100, 100)]
    assert follow((0.0, pixels, here), (9.0, pixels, here), (30.0, pixels, here)) == [[0], [0], [1]]


def test_moments_may_come_in_any_order() -> None:
    pixels, here = frame((100, 100, 1)), [face_at(100, 100)]
    tracker = Tracker()
    for second in (0.0, 4.0, 2.0):
        tracker.add(second, here, pixels)
    (track,) = tracker.tracks
    assert (track.start, track.end) == (0.0, 4.0)
    assert [sighting.second for sighting in track.nearest(1.9)] == [2.0, 0.0, 4.0]


def test_only_the_largest_faces_are_followed() -> None:
    faces = [face_at(40 + 20 * i, 100) for i in range(12)]
    tracker = Tracker()
    assert len(tracker.add(0.0, faces, frame())) == 8
