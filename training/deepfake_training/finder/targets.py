"""What the face finder's map should hold for given faces, and how far a map is from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from deepfake.engine.maps import map_places

from .labels import Labels

SIZES = {8: (0.0, 56.0), 16: (40.0, 128.0), 32: (96.0, 1e9)}
"""Sizes of faces (square root of the area, in pixels) that each cell size answers for."""
NEAR, MANY_CELLS = 1.0, 6.0
LANDMARK_SLACK = 0.02


@dataclass(frozen=True)
class Targets:
    """For every place of a batch of maps (n, places): the ``weight`` of its logit, whether it is
    ``positive``, and in pixels the box (…, 4) and the points (…, 10) of its face.
    """

    weight: torch.Tensor
    positive: torch.Tensor
    boxes: torch.Tensor
    points: torch.Tensor


def make_targets(batch: Sequence[Labels], *, rows: int, columns: int) -> Targets:
    """Places within a cell of a face's centre, at the cell sizes for its size, answer for it; for
    a face of many cells those within one and a half. Where two faces claim a place the smaller
    one has it. Inside faces that are not sure nothing is asked of the other places.
    """
    centres, cells = map_places(rows, columns)
    arrays = [_assign(labels, centres, cells) for labels in batch]
    weight, positive, boxes, points = (np.stack(parts) for parts in zip(*arrays, strict=True))
    return Targets(
        torch.from_numpy(weight),
        torch.from_numpy(positive),
        torch.from_numpy(boxes),
        torch.from_numpy(points),
    )


_Arrays = tuple[
    npt.NDArray[np.float32],
    npt.NDArray[np.bool_],
    npt.NDArray[np.float32],
    npt.NDArray[np.float32],
]


def _assign(
    labels: Labels, centres: npt.NDArray[np.float64], cells: npt.NDArray[np.float64]
) -> _Arrays:
    weight = np.ones(len(cells), np.float32)
    positive = np.zeros(len(cells), np.bool_)
    boxes = np.zeros((len(cells), 4), np.float32)
    points = np.zeros((len(cells), 10), np.float32)
    for box in labels.boxes[~labels.sure]:
        weight[((centres > box[:2]) & (centres < box[2:])).all(axis=1)] = 0
    low, high = (np.array([SIZES[int(cell)][end] for cell in cells]) for end in (0, 1))
    sizes = np.sqrt((labels.boxes[:, 2:] - labels.boxes[:, :2]).prod(axis=1))
    for index in np.argsort(-sizes):
        if not labels.sure[index]:
            continue
        box, size = labels.boxes[index], sizes[index]
        near = np.where(size > MANY_CELLS * cells, 1.5 * NEAR, NEAR) * cells
        off = np.abs(centres - (box[:2] + box[2:]) / 2).max(axis=1)
        inside = ((centres > box[:2]) & (centres < box[2:])).all(axis=1)
        chosen = inside & (off <= near) & (size >= low) & (size <= high)
        positive[chosen], weight[chosen] = True, 1
        boxes[chosen], points[chosen] = box, labels.points[index].ravel()
    return weight, positive, boxes, points


@dataclass(frozen=True)
class Losses:
    """The parts of the loss, each a mean over positive places."""

    face: torch.Tensor
    box: torch.Tensor
    landmarks: torch.Tensor

    def total(self, *, landmarks: float) -> torch.Tensor:
        """Their sum, boxes counted twice and landmarks as often as is said."""
        return self.face + 2 * self.box + landmarks * self.landmarks

    def parts(self) -> dict[str, torch.Tensor]:
        return {"face": self.face, "box": self.box, "landmarks": self.landmarks}


class MapLoss:
    """The distance of maps of one canvas from their targets.

    The logit is asked to be the overlap that the place's own box reaches (quality focal loss, Li et
    al. 2020), the box to overlap (GIoU, Rezatofighi et al. 2019), the landmarks to lie near (a
    smooth absolute difference, in parts of the size of the face).
    """

    def __init__(self, *, rows: int, columns: int) -> None:
        centres, cells = map_places(rows, columns)
        self._centres = torch.from_numpy(centres.astype(np.float32))
        self._cells = torch.from_numpy(cells.astype(np.float32))[:, None]

    def __call__(self, maps: torch.Tensor, targets: Targets) -> Losses:
        """``maps`` are (n, places, 15) in the layout of :func:`deepfake.engine.maps.read_map`."""
        image, place = torch.nonzero(targets.positive, as_tuple=True)
        chosen, count = maps[image, place], max(1, len(image))
        cells, centres = self._cells[place], self._centres[place]
        reach = torch.exp(chosen[:, 1:5].clamp(-4, 6)) * cells
        found = torch.cat([centres - reach[:, :2], centres + reach[:, 2:]], dim=1)
        boxes = targets.boxes[image, place]
        overlap, generalised = box_overlaps(found, boxes)
        wanted = torch.zeros_like(maps[..., 0])
        wanted[image, place] = overlap.detach().clamp(min=0.05)
        logits = maps[..., 0]
        cross = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        face = cross * (wanted - torch.sigmoid(logits)).square() * targets.weight
        size = (boxes[:, 2:] - boxes[:, :2]).prod(dim=1).sqrt()[:, None].clamp(min=1)
        points = chosen[:, 5:] * cells + centres.repeat(1, 5)
        off = (points - targets.points[image, place]) / size
        slack = LANDMARK_SLACK
        landmarks = nn.functional.smooth_l1_loss(
            off, torch.zeros_like(off), beta=slack, reduction="none"
        )
        return Losses(
            face.sum() / count,
            (1 - generalised).sum() / count,
            10 * landmarks.mean(dim=1).sum() / count,
        )


def box_overlaps(some: torch.Tensor, others: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Intersection over union of pairs of boxes (n, 4), and its generalised form."""
    low, high = torch.maximum(some[:, :2], others[:, :2]), torch.minimum(some[:, 2:], others[:, 2:])
    shared = (high - low).clamp(min=0).prod(dim=1)
    union = _area(some) + _area(others) - shared
    hull = (
        torch.maximum(some[:, 2:], others[:, 2:]) - torch.minimum(some[:, :2], others[:, :2])
    ).prod(dim=1)
    overlap = shared / union.clamp(min=1e-6)
    return overlap, overlap - (hull - union) / hull.clamp(min=1e-6)


def _area(boxes: torch.Tensor) -> torch.Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
