"""From scores back to inputs: climb the score of a flat picture by questions alone, and see whether
what comes out is nearer to the files that the head learnt from than to others.

The climb is a random search along smooth patterns (after SimBA; Guo et al. 2019). It is what a
model inversion (Fredrikson, Jha and Ristenpart 2015) can be where only answers are seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass

import cv2
import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from deepfake.errors import SettingsError
from deepfake.preprocess import Batch, Floats, ImagePreprocess

from ..card import markdown
from ..own.network import Linear
from .answers import POLICIES, Redact, Service, open_service
from .material import Shelf

Pixels = npt.NDArray[np.uint8]
Measure = Callable[[Batch], Floats]
STEP = 24.0
COARSE = (4, 8, 16)


@dataclass(frozen=True)
class InversionRow:
    """Means over ``climbs``: the score of the flat picture and of the one that was reached, how
    alike its features are to those of the nearest member and of the nearest other file (cosine of
    standardised features), and the share of climbs whose nearest file was a member (half are).
    """

    policy: str
    queries: int
    before: float
    after: float
    nearest_member: float
    nearest_other: float
    member_first: float


def study(
    shelf: Shelf, redact: Redact, measure: Measure, *, queries: int, climbs: int, seed: int
) -> list[InversionRow]:
    """A row for each policy; every climb is against another head, of a random half of the files.

    ``measure`` gives features and logit of a batch of crops. Raises ``SettingsError`` for slots
    that do not judge pictures.
    """
    preprocess = shelf.base.preprocess
    if not isinstance(preprocess, ImagePreprocess):
        raise SettingsError(
            f"slot {shelf.base.slot}: inversion climbs pictures alone", hint="use --slot image"
        )
    service = open_service(shelf, redact)
    count = len(shelf.files)
    halves = [
        np.random.default_rng([seed, number]).permutation(count) < count // 2
        for number in range(climbs)
    ]
    heads = [shelf.fit(member) for member in halves]
    mean = shelf.clean[:, :-1].mean(axis=0)
    scale = 1 / shelf.clean[:, :-1].std(axis=0).clip(1e-3)
    known = _direction((shelf.clean[:, :-1] - mean) * scale)
    rows = []
    for policy in tqdm(POLICIES, desc="inversion", disable=None):
        results = []
        for number, (head, member) in enumerate(zip(heads, halves, strict=True)):
            start = np.full((preprocess.side_pixels, preprocess.side_pixels, 3), 128, np.uint8)

            def score(pixels: Pixels, head: Linear = head) -> float:
                return float(head(measure(pixels[None])[:, :-1])[0])

            reached = climb(start, score, service, policy, queries=queries, seed=seed + number)
            features = measure(reached[None])[:, :-1]
            near = known @ _direction((features - mean) * scale)[0]
            inside, outside = float(near[member].max()), float(near[~member].max())
            results.append(
                (
                    service.calibration.probability(score(start)),
                    service.calibration.probability(score(reached)),
                    inside,
                    outside,
                    float(inside > outside),
                )
            )
        rows.append(InversionRow(policy, queries, *np.mean(results, axis=0).tolist()))
    return rows


def climb(
    start: Pixels,
    score: Callable[[Pixels], float],
    service: Service,
    policy: str,
    *,
    queries: int,
    seed: int,
) -> Pixels:
    """The picture (height, width, 3) that so many questions lead to; ``score`` gives the logit that
    the service judges by, of which the attacker sees what the policy shows.
    """
    rng = np.random.default_rng(seed)

    def ask(pixels: Pixels) -> float:
        return float(service.read(np.array([score(pixels)]), policy)[0][0])

    now, best = start, ask(start)
    for _ in range(queries - 1):
        side = int(rng.choice(COARSE))
        pattern = rng.normal(0, STEP, (side, side, 3)).astype(np.float32)
        smooth = cv2.resize(pattern, start.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        tried = np.asarray((now + smooth).clip(0, 255).round(), np.uint8)
        if (found := ask(tried)) > best:
            now, best = tried, found
    return now


def _direction(rows: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    return np.asarray(rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-9), np.float64)


def table(rows: Sequence[InversionRow]) -> str:
    """The rows for a person."""
    head = ["policy", "queries", "score before", "score after", "nearest member", "nearest other"]
    return markdown([*head, "a member is nearest"], [[*astuple(row)] for row in rows])
