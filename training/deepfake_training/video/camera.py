"""A camera over a still: a burst of frames in which everything moves as one."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from deepfake.preprocess import Pixels, warp

from .footage import TAKE_SIDE

Stack = npt.NDArray[np.uint8]


def move_camera(still: Pixels, count: int, *, seed: int) -> Stack:
    """A burst (count, 160, 160, 3) of a slow pan, a zoom, a hand's shake or a hold over ``still``.

    The move is the same for the same ``seed``, whatever the still; now and then sensor noise is
    anew in every frame.
    """
    rng = np.random.default_rng(seed)
    kind = str(rng.choice(["pan", "zoom", "shake", "hold"], p=[0.35, 0.25, 0.25, 0.15]))
    least = min(still.shape[:2])
    share = float(rng.uniform(0.6, 0.9))
    time = np.linspace(0, 1, count)
    places = np.tile(rng.uniform(0.2, 0.8, 2), (count, 1))
    scales = np.full(count, share)
    if kind == "pan":
        places += time[:, None] * rng.normal(0, 0.5, 2)
    elif kind == "zoom":
        scales = share * np.exp(time * rng.normal(0, 0.12))
    if kind == "shake" or (kind != "hold" and rng.random() < 0.3):
        places += np.cumsum(rng.normal(0, 0.02, (count, 2)), axis=0)
        places += rng.normal(0, 0.01, (count, 2))
    turns = np.deg2rad(rng.normal(0, 0.4, count)) if kind == "shake" else np.zeros(count)
    sigma = float(rng.uniform(0.5, 3)) if rng.random() < 0.6 else 0.0
    made = []
    for place, scale, turn in zip(places.clip(0, 1), scales.clip(0.4, 1.0), turns, strict=True):
        length = scale * least
        corner = place * (np.array([still.shape[1], still.shape[0]]) - length)
        matrix = _cut(corner, length, turn)
        frame = warp(still, matrix, TAKE_SIDE).astype(np.float32)
        frame += sigma * rng.standard_normal(frame.shape, dtype=np.float32)
        made.append(frame.round().clip(0, 255).astype(np.uint8))
    return np.stack(made)


def _cut(corner: npt.NDArray[np.float64], length: float, turn: float) -> npt.NDArray[np.float64]:
    """The matrix (2, 3) that brings a square at ``corner`` to the take's side, turned about its
    middle.
    """
    middle = corner + length / 2
    turned = cv2.getRotationMatrix2D(
        (float(middle[0]), float(middle[1])), float(np.rad2deg(turn)), TAKE_SIDE / length
    )
    matrix: npt.NDArray[np.float64] = np.array(turned, np.float64)
    matrix[:, 2] += TAKE_SIDE / 2 - middle
    return matrix
