"""Was a face replaced, re-enacted or blended? The ``face`` slot on each face of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ..content.faces import MOST_FACES, Face, open_finder
from ..content.inputs import read_face
from ..content.occlusion import face_heatmap
from ..engine.scores import Scored
from ..reasons import Code
from ..types import Evidence, FaceFinding, Kind, Status
from .claims import skip, word_score

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..media.opening import Media
    from ..settings import DetectOptions

TRACES = "of a replaced or re-enacted face"
MOST_HEATMAPS = 3


class Judged(NamedTuple):
    """A named face with its score, or the reason for which it has none."""

    name: str
    face: Face
    scored: Scored | None
    reason: Code | None


class Faces:
    """One score for every face of a picture; that of the picture is the highest of them."""

    name = "face"
    kinds = frozenset({Kind.IMAGE})

    def analyze(self, media: Media, engine: Engine, options: DetectOptions) -> list[Evidence]:
        bundle = engine.bundle("face")
        pixels = media.image()
        faces = open_finder(engine).find(pixels)
        waiting = []
        for number, face in enumerate(faces[:MOST_FACES], start=1):
            _, crop, reason = read_face(pixels, face, bundle)
            future = None if reason else engine.submit(bundle, crop[None])
            waiting.append((f"face {number}", face, future, reason))
        judged = [
            Judged(name, face, None if future is None else future.result(), reason)
            for name, face, future, reason in waiting
        ]
        scored = [(one.name, one.scored) for one in judged if one.scored is not None]
        if not scored:
            reason = judged[0].reason if judged else None
            return [skip(self.name, reason or Code.NO_FACE, faces=_findings(judged))]
        points = bundle.calibration.points
        name, score, interval = highest(scored)
        shown = sorted(
            (one for one in judged if one.scored),
            key=lambda one: -one.scored.score if one.scored else 0.0,
        )
        caution = Code.TOO_MANY_FACES if len(faces) > MOST_FACES else None
        where = name if len(judged) > 1 else "the face"
        return [
            Evidence(
                source=self.name,
                status=Status.OK,
                reason=caution,
                claim=word_score(score, points, where=where, caution=caution, traces=TRACES),
                score=score,
                interval=interval,
                points=points,
                heatmaps=tuple(
                    face_heatmap(engine, bundle, pixels, one.face, name=one.name)
                    for one in shown[: MOST_HEATMAPS if options.heatmap else 0]
                ),
                bundle=bundle.name,
                faces=_findings(judged),
            )
        ]


def highest(scored: Sequence[tuple[str, Scored]]) -> tuple[str, float, tuple[float, float]]:
    """The name, score and interval of the most suspicious of several faces.

    Their common prior is shared between them (Bayes' rule), so that a picture of many genuine faces
    is not accused for the highest of many scores.
    """
    (name, best), count = max(scored, key=lambda item: item[1].score), len(scored)
    low, high = (share_prior(bound, among=count) for bound in best.interval)
    return name, share_prior(best.score, among=count), (low, high)


def share_prior(score: float, *, among: int) -> float:
    """The score of a face whose prior is shared ``among`` so many."""
    return 1 / (1 + among * (1 - score) / score) if score else 0.0


def _findings(judged: Sequence[Judged]) -> tuple[FaceFinding, ...]:
    return tuple(
        FaceFinding(
            name=one.name,
            box=one.face.box,
            score=None if one.scored is None else one.scored.score,
            reason=one.reason,
        )
        for one in judged
    )
