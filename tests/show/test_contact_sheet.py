"""The sheet of a video, by its measures, its colours and what changes where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from deepfake.media.opening import Media, open_media
from deepfake.show import contact_sheet as sheet
from deepfake.show.contact_sheet import (
    AXIS_PIXELS,
    MARGIN_PIXELS,
    NAMES_PIXELS,
    PEAKS_PIXELS,
    ROW_GAP_PIXELS,
    ROW_PIXELS,
    WIDTH_PIXELS,
    choose_grid,
    contact_sheet,
    exact_clock,
    find_rows,
)
from deepfake.show.drawing import (
    CLEAR,
    PAPER,
    SUSPICIOUS,
    SYNTHETIC,
    Colour,
    blank,
    pixels_of,
    text_width,
    write,
)
from deepfake.show.exhibits import find_exhibits
from deepfake.types import Kind, Report
from tests.media_files import video_bytes
from tests.reports import make_report, video_evidence

LEFT = MARGIN_PIXELS + NAMES_PIXELS
RIGHT = WIDTH_PIXELS - MARGIN_PIXELS - PEAKS_PIXELS
FOOT = AXIS_PIXELS + MARGIN_PIXELS // 2
STEP = ROW_PIXELS + ROW_GAP_PIXELS


@pytest.fixture(scope="module")
def clip() -> Iterator[Media]:
    frames = [np.full((120, 200, 3), 10 * index + 20, np.uint8) for index in range(20)]
    with open_media(video_bytes(frames, rate=1, options={"qp": "4"})) as media:
        yield media


def report_of(media: Media) -> Report:
    return replace(make_report(*video_evidence(), kind=Kind.VIDEO), media=media.info)


def is_of(pixels: np.ndarray, colour: Colour) -> np.ndarray:
    return (pixels == np.array(colour)).all(axis=-1)


def rows_of(drawn: np.ndarray, count: int) -> list[np.ndarray]:
    """The plotted areas from the top."""
    bottom = len(drawn) - FOOT + ROW_GAP_PIXELS
    tops = [bottom - (count - index) * STEP for index in range(count)]
    return [drawn[top - ROW_GAP_PIXELS :][:ROW_PIXELS, LEFT:RIGHT] for top in tops]


def test_tiles_captions_and_one_row_for_each_timeline(clip: Media) -> None:
    report = report_of(clip)
    drawn = contact_sheet(clip, report)
    assert drawn is not None
    assert drawn.shape[1] == WIDTH_PIXELS
    assert drawn.dtype == np.uint8
    exhibits = find_exhibits(clip, report, most=9)
    assert len(exhibits) == 9
    wide = (WIDTH_PIXELS - 2 * MARGIN_PIXELS - 2 * sheet.GAP_PIXELS) // 3
    high = round(wide * 120 / 200)
    top = sheet.HEAD_PIXELS + MARGIN_PIXELS // 2
    for index, exhibit in enumerate(exhibits):
        line, column = divmod(index, 3)
        left = MARGIN_PIXELS + column * (wide + sheet.GAP_PIXELS)
        upper = top + line * (high + sheet.CAPTION_PIXELS + sheet.GAP_PIXELS // 2)
        tile = drawn[upper : upper + high, left : left + wide]
        second = exhibit.second or 0.0
        if not exhibit.heatmaps and not exhibit.faces:
            assert float(tile.mean()) == pytest.approx(10 * second + 20, abs=3)
        caption = drawn[upper + high : upper + high + sheet.CAPTION_PIXELS, left : left + wide]
        assert (caption < 128).all(axis=2).sum() > 60
    rows = find_rows(report)
    assert [row.timeline.name for row in rows] == ["motion", "frames", "face 1", "face 2", "audio"]
    areas = rows_of(drawn, 5)
    for area in areas:
        assert is_of(area[-1], (31, 41, 55)).all()
        limit = round(ROW_PIXELS * 0.4)
        assert is_of(area[limit], SUSPICIOUS).mean() > 0.4


def test_peaks_stand_where_they_are_in_time(clip: Media) -> None:
    drawn = contact_sheet(clip, report_of(clip))
    assert drawn is not None
    for area, peak in zip(rows_of(drawn, 5), (8, 3, 12, 5, 15), strict=True):
        red = np.flatnonzero(is_of(area[8:20], SYNTHETIC).any(axis=0))
        start = peak / 20 * (RIGHT - LEFT)
        assert red.min() == pytest.approx(start, abs=2)
        assert red.max() - red.min() <= (RIGHT - LEFT) / 20
        low = is_of(area[-6:-1], CLEAR).any(axis=0)
        assert low.mean() > (0.03 if peak == 3 else 0.9)


def test_captions_name_the_time_and_the_scores(clip: Media) -> None:
    exhibit = next(e for e in find_exhibits(clip, report_of(clip), most=9) if e.second == 8.0)
    assert sheet.describe_tile(exhibit).startswith("motion 0.95   ")
    narrow = sheet.describe_tile(exhibit, most_pixels=120)
    assert narrow == "motion 0.95"
    wide = 300
    tile = pixels_of(sheet._tile(exhibit, 3, wide=wide))
    expected = blank(wide, sheet.CAPTION_PIXELS)
    write(expected, "0:08.0", left=0, middle=15, pixels_high=sheet.LETTER_PIXELS)
    written = text_width("0:08.0", pixels_high=sheet.LETTER_PIXELS)
    pattern = pixels_of(expected)[4:26, :written]
    caption = tile[-sheet.CAPTION_PIXELS :][4:26]
    assert (pattern < 128).any()
    places = [
        offset
        for offset in range(wide - pattern.shape[1])
        if np.abs(caption[:, offset : offset + pattern.shape[1]].astype(int) - pattern).max() < 2
    ]
    assert len(places) == 1


@pytest.mark.parametrize(
    ("width", "height", "columns", "most"),
    [
        (1920, 1080, 3, 9),
        (640, 480, 3, 9),
        (512, 512, 4, 8),
        (1080, 1920, 6, 6),
        (None, None, 3, 9),
    ],
)
def test_the_grid_follows_the_shape_of_the_frames(
    width: int | None, height: int | None, columns: int, most: int
) -> None:
    assert choose_grid(width, height) == (columns, most)


def test_an_upright_video_fits_the_width() -> None:
    frames = [np.full((128, 72, 3), 60, np.uint8)] * 20
    with open_media(video_bytes(frames, rate=1)) as media:
        drawn = contact_sheet(media, report_of(media))
    assert drawn is not None
    assert drawn.shape[1] == WIDTH_PIXELS
    assert len(drawn) < 1400
    assert is_of(drawn[:, :MARGIN_PIXELS], PAPER).all()


def test_a_single_frame_makes_a_sheet() -> None:
    evidence = video_evidence(1)[:2]
    with open_media(video_bytes([np.full((64, 96, 3), 60, np.uint8)])) as media:
        report = replace(make_report(*evidence, kind=Kind.VIDEO), media=media.info)
        drawn = contact_sheet(media, report)
    assert drawn is not None
    assert drawn.shape[1] == WIDTH_PIXELS


def test_a_report_without_scores_makes_none(clip: Media) -> None:
    report = replace(make_report(kind=Kind.VIDEO), media=clip.info)
    assert contact_sheet(clip, report) is None


def test_many_people_are_bounded(clip: Media) -> None:
    evidence = video_evidence()
    crowd = replace(evidence[2], timelines=evidence[2].timelines * 40)
    report = replace(make_report(crowd, kind=Kind.VIDEO), media=clip.info)
    assert len(find_rows(report)) == sheet.MOST_ROWS
    drawn = contact_sheet(clip, report)
    assert drawn is not None
    assert len(drawn) < 4000


def test_times_are_written_to_a_tenth() -> None:
    assert exact_clock(12.37) == "0:12.4"
    assert exact_clock(59.96) == "1:00.0"
    assert exact_clock(3725.0) == "1:02:05.0"
