"""Pictures of a report whose media are gone: its heat maps and timelines on plain ground."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..preprocess import Pixels
from ..types import Heatmap, Kind, Report
from .contact_sheet import choose_grid, draw_sheet
from .exhibits import (
    SAME_FRAME_SECONDS,
    Exhibit,
    choose_moments,
    heat_limits,
    marked_faces,
    picture_timelines,
)

SIDE_PIXELS = 960
GROUND = 222
SOUND_SHAPE = (320, 960)


def heat_picture(report: Report) -> Pixels | None:
    """The heat maps of a picture or a sound, the highest frame of a video; None without any."""
    mapped = [one for one in sketch_exhibits(report, most=1) if one.heatmaps]
    return mapped[0].draw() if mapped else None


def sheet_picture(report: Report) -> Pixels | None:
    """The contact sheet of a video or a sound; None without timelines and heat maps."""
    if report.media.kind is Kind.IMAGE:
        return None
    most = choose_grid(report.media.width, report.media.height).most
    return draw_sheet(report, sketch_exhibits(report, most=most))


def sketch_exhibits(report: Report, *, most: int) -> list[Exhibit]:
    """At most so many exhibits with plain ground in place of pictures, each with a mark on it."""
    ground, scale = _ground(report)
    limits = heat_limits(report)
    heatmaps = [_scaled(heatmap, scale) for it in report.evidence for heatmap in it.heatmaps]
    faces = [
        face._replace(box=_box(face.box, scale))
        for evidence in report.evidence
        for face in marked_faces(evidence)
    ]
    if report.media.kind is not Kind.VIDEO:
        if not heatmaps and not faces:
            return []
        whole = heatmaps[:1] if report.media.kind is Kind.AUDIO else heatmaps
        return [Exhibit(ground, tuple(whole), tuple(faces), limits=limits)]
    if not heatmaps and not faces and not picture_timelines(report):
        return []
    shown = [
        Exhibit(
            ground,
            tuple(heatmap for heatmap in heatmaps if _near(heatmap.second, moment)),
            tuple(face for face in faces if _near(face.second, moment)),
            second=moment,
            limits=limits,
        )
        for moment in choose_moments(report, most=most)
    ]
    return [one for one in shown if one.heatmaps or one.faces]


def _ground(report: Report) -> tuple[Pixels, float]:
    """Plain pixels of the media's shape, and how much smaller they are."""
    if report.media.kind is Kind.AUDIO:
        return np.full((*SOUND_SHAPE, 3), GROUND, np.uint8), 1.0
    width, height = report.media.width or SIDE_PIXELS, report.media.height or SIDE_PIXELS
    scale = min(1.0, SIDE_PIXELS / max(width, height))
    shape = max(1, round(height * scale)), max(1, round(width * scale)), 3
    return np.full(shape, GROUND, np.uint8), scale


def _scaled(heatmap: Heatmap, scale: float) -> Heatmap:
    return heatmap if heatmap.box is None else replace(heatmap, box=_box(heatmap.box, scale))


def _box(box: tuple[float, float, float, float], scale: float) -> tuple[float, float, float, float]:
    return box[0] * scale, box[1] * scale, box[2] * scale, box[3] * scale


def _near(second: float | None, moment: float) -> bool:
    return second is not None and abs(second - moment) <= SAME_FRAME_SECONDS
