"""What a red team's run came to, and its JSON, schema ``deepfake-redteam/1``.

Keys are only ever added within a version of the schema. ``REDTEAM_SCHEMA`` is the JSON Schema
(draft 2020-12) that every result keeps to.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from deepfake.detector import Detector, utc_now
from deepfake.errors import SettingsError
from deepfake.files import replaced
from deepfake.text import display_name
from deepfake.types import Kind, Verdict
from deepfake.version import VERSION

from ..evaluation.compare import ALARM
from ..evaluation.material import digest_files
from ..evaluation.measures import MEASURES, Estimate, estimate_all, estimate_share
from ..evaluation.peers import Peer
from ..evaluation.run import FUSED, PEER, Outcome
from ..evaluation.tabulate import OWN_NETWORK, Ranking, make_draws
from ..evaluation.views import AS_IS
from .run import Trial
from .suite import Attack
from .tools import Strength

SCHEMA = "deepfake-redteam/1"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was asked for."""

    material: str
    kind: Kind
    effort: str
    limit: int
    draws: int
    strength: Strength


@dataclass(frozen=True, kw_only=True)
class AttackRow:
    """One attack over all files. ``scores`` rank the attacked synthetic files against the attacked
    genuine ones; of a class that the attack is not for, the files as they are.

    ``evaded``: the share of synthetic files with an alarm as they are that have none afterwards;
    ``raised``: the share of genuine files without an alarm that have one afterwards; ``accused``:
    that of genuine files called synthetic afterwards. ``alarms`` and ``quiet`` count the files
    behind the first two. ``median_queries`` is over the files that reached the goal. ``psnr``,
    ``ssim`` and ``snr`` are medians over what was attacked.
    """

    attack: str
    family: str
    says: str
    source: str
    synthetic: int
    genuine: int
    failed: int
    scores: Mapping[str, Ranking]
    alarms: int
    evaded: Estimate | None
    quiet: int
    raised: Estimate | None
    accused: Estimate | None
    reached: int
    median_queries: float | None
    psnr: float | None
    ssim: float | None
    snr: float | None
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The share of ``files`` of one class, of those that were worth an attack, whose goal one
    attack had reached after so many ``queries``, in rising order.
    """

    attack: str
    synthetic: bool
    files: int
    queries: Sequence[int]
    shares: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Siege:
    """One result; ``trials`` are those of every file and attack, the files as they are first;
    ``seconds`` are those of the processor, decoders apart.
    """

    plan: Plan
    made_at: str
    versions: Mapping[str, str]
    bundles: Mapping[str, Mapping[str, str]]
    peers: Mapping[str, str]
    digest: str
    files: int
    left_out: int
    seconds: float
    rows: Sequence[AttackRow]
    curves: Sequence[Curve]
    trials: Sequence[Trial]

    @property
    def failures(self) -> int:
        return sum(one.error is not None or bool(one.problems) for one in self.trials)

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {
            "schema": SCHEMA,
            "made_at": self.made_at,
            "material": {
                "name": self.plan.material,
                "files": self.files,
                "left_out": self.left_out,
                "sha256": self.digest,
                "limit": self.plan.limit,
            },
            "kind": self.plan.kind.value,
            "effort": self.plan.effort,
            "draws": self.plan.draws,
            "strength": asdict(self.plan.strength),
            "versions": dict(self.versions),
            "bundles": {slot: dict(facts) for slot, facts in self.bundles.items()},
            "peers": dict(self.peers),
            "seconds": round(self.seconds, 1),
            "rows": [asdict(row) for row in self.rows],
            "curves": [asdict(curve) for curve in self.curves],
            "trials": [asdict(one) for one in self.trials],
        }


def conclude(
    surveyed: Sequence[Trial],
    trials: Sequence[Trial],
    attacks: Sequence[Attack],
    detector: Detector,
    *,
    plan: Plan,
    peers: Sequence[Peer] = (),
    left_out: int = 0,
    seconds: float = 0.0,
) -> Siege:
    """The result of what a run found, in so many ``seconds`` of the processor."""
    settings = detector.settings
    files = [(one.sha256 or "", one.synthetic, one.source) for one in surveyed]
    made = {attack.name: [one for one in trials if one.attack == attack.name] for attack in attacks}
    rows = [_count(surveyed, surveyed, None, plan=plan)]
    rows += [_count(surveyed, made[attack.name], attack, plan=plan) for attack in attacks]
    return Siege(
        plan=plan,
        made_at=utc_now(),
        versions={
            "deepfake": VERSION,
            "python": platform.python_version(),
            "precision": settings.precision,
            "backend": settings.backend,
        },
        bundles={
            slot: {"name": it.name, "sha256": it.sha256}
            for slot, it in detector.engine.active.items()
        },
        peers={peer.name: peer.identity for peer in peers},
        digest=digest_files(files),
        files=len(surveyed),
        left_out=left_out,
        seconds=seconds,
        rows=rows,
        curves=[
            curve
            for attack in attacks
            for synthetic in (True, False)
            if (curve := draw_curve(attack.name, made[attack.name], synthetic=synthetic))
        ],
        trials=[*surveyed, *trials],
    )


def draw_curve(attack: str, trials: Sequence[Trial], *, synthetic: bool) -> Curve | None:
    """Success against queries; None for an attack that asked nothing."""
    own = [one for one in trials if one.synthetic is synthetic and one.queries]
    if not own:
        return None
    reached = sorted(one.reached_after for one in own if one.reached_after is not None)
    queries = sorted({1, *reached, max(one.queries for one in own)})
    shares = [sum(each <= asked for each in reached) / len(own) for asked in queries]
    return Curve(attack=attack, synthetic=synthetic, files=len(own), queries=queries, shares=shares)


def write_result(result: Siege, path: Path) -> None:
    """Write it whole or not at all; raises ``SettingsError`` where it cannot be written."""
    values = result.to_dict()
    lists = {key: values.pop(key) for key in ("rows", "curves", "trials")}
    text = json.dumps(values, indent=1)[:-2]
    for key, items in lists.items():
        lines = ",\n  ".join(json.dumps(item) for item in items)
        text += f',\n "{key}": [' + (f"\n  {lines}\n ]" if items else "]")
    try:
        with replaced(path) as partial:
            partial.write_text(text + "\n}\n", encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"result {display_name(path)}: cannot be written ({error.strerror})",
            hint="choose another place, or free space",
        ) from error


def read_result(path: Path) -> Siege:
    """The result of a file; raises ``SettingsError`` for a file that holds none."""
    shown, hint = display_name(path), "give the redteam.json of an earlier run"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["schema"] != SCHEMA:
            raise ValueError(f"schema {values['schema']!r}")
        return _from_dict(values)
    except OSError as error:
        raise SettingsError(
            f"result {shown}: cannot be read ({error.strerror})", hint=hint
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"result {shown}: is no {SCHEMA} ({type(error).__name__}: {error})", hint=hint
        ) from error


def _from_dict(values: Mapping[str, Any]) -> Siege:
    material = values["material"]
    return Siege(
        plan=Plan(
            material=material["name"],
            kind=Kind(values["kind"]),
            effort=values["effort"],
            limit=material["limit"],
            draws=values["draws"],
            strength=Strength(**values["strength"]),
        ),
        digest=material["sha256"],
        files=material["files"],
        left_out=material["left_out"],
        rows=[_read_row(row) for row in values["rows"]],
        curves=[Curve(**curve) for curve in values["curves"]],
        trials=[Trial(**one) for one in values["trials"]],
        **{key: values[key] for key in ("made_at", "versions", "bundles", "peers", "seconds")},
    )


def _read_row(values: Mapping[str, Any]) -> AttackRow:
    scores = {
        name: Ranking(**ranking | {key: _estimate(ranking[key]) for key in MEASURES})
        for name, ranking in values["scores"].items()
    }
    shares = {key: _estimate(values[key]) for key in ("evaded", "raised", "accused")}
    return AttackRow(**{**values, "scores": scores, **shares})


def _estimate(values: Sequence[float] | None) -> Estimate | None:
    return None if values is None else (values[0], values[1], values[2])


def _count(
    surveyed: Sequence[Trial], made: Sequence[Trial], attack: Attack | None, *, plan: Plan
) -> AttackRow:
    """The row of an attack, or of the files as they are."""
    before = {(one.name, one.synthetic): one for one in surveyed}
    kept = [one for one in surveyed if attack and one.synthetic not in attack.on]
    after = [*made, *kept]
    judged = [one for one in made if one.verdict]
    alarmed = [one for one in judged if one.synthetic and before[one.name, True].verdict in ALARM]
    genuine = [one for one in judged if not one.synthetic]
    quiet = [one for one in genuine if before[one.name, False].verdict not in ALARM]
    reached = [one.reached_after for one in made if one.reached_after]

    def share(trials: Sequence[Trial], words: frozenset[str]) -> Estimate | None:
        if not trials:
            return None
        lots = make_draws(
            [_outcome(one) for one in trials], count=plan.draws, seed=plan.strength.seed
        )
        return estimate_share(np.array([one.verdict in words for one in trials]), lots)

    words = frozenset(word.value for word in Verdict)
    return AttackRow(
        attack=attack.name if attack else AS_IS,
        family=attack.family if attack else "",
        says=attack.says if attack else "the files as they are",
        source=attack.source if attack else "",
        synthetic=sum(one.synthetic for one in judged),
        genuine=len(genuine),
        failed=len(made) - len(judged),
        scores=_rank_all(after, plan),
        alarms=len(alarmed),
        evaded=share(alarmed, words - ALARM),
        quiet=len(quiet),
        raised=share(quiet, frozenset(ALARM)),
        accused=share(genuine, frozenset({Verdict.SYNTHETIC.value})),
        reached=len(reached),
        median_queries=median(reached) if reached else None,
        psnr=_median([one.psnr for one in made if one.attacked]),
        ssim=_median([one.ssim for one in made if one.attacked]),
        snr=_median([one.snr for one in made if one.attacked]),
        seconds=round(sum(one.seconds for one in made), 1),
    )


def _rank_all(trials: Sequence[Trial], plan: Plan) -> dict[str, Ranking]:
    """The fused score, that of the network, and those of peers."""
    names = [FUSED, OWN_NETWORK[plan.kind.value]]
    names += sorted({name for one in trials for name in one.scores if name.startswith(PEER)})
    rankings = {}
    for name in names:
        scored = [one for one in trials if name in one.scores]
        if not scored:
            continue
        labels = np.array([one.synthetic for one in scored], np.float64)
        scores = np.array([one.scores[name] for one in scored])
        lots = make_draws(
            [_outcome(one) for one in scored], count=plan.draws, seed=plan.strength.seed
        )
        rankings[name] = Ranking(
            synthetic=int(labels.sum()),
            genuine=int((1 - labels).sum()),
            **estimate_all(labels, scores, lots),
        )
    return rankings


def _outcome(trial: Trial) -> Outcome:
    return Outcome(
        name=trial.name,
        sha256=trial.sha256,
        synthetic=trial.synthetic,
        source=trial.source,
        group=trial.group,
        kind=None,
        view=trial.attack,
    )


def _median(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(median(known), 4) if known else None


_TEXT, _COUNT, _NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}
_MAYBE = {
    "type": ["array", "null"],
    "items": _NUMBER,
    "minItems": 3,
    "maxItems": 3,
}
_FLAG = {"type": "boolean"}
_MAYBE_NUMBER, _MAYBE_TEXT = {"type": ["number", "null"]}, {"type": ["string", "null"]}


def _all_of(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [*properties], "properties": properties}


def _of(value: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": value}


_RANKING = _all_of({"synthetic": _COUNT, "genuine": _COUNT} | dict.fromkeys(MEASURES, _MAYBE))
_ROW = _all_of(
    dict.fromkeys(("attack", "family", "says", "source"), _TEXT)
    | dict.fromkeys(("synthetic", "genuine", "failed", "alarms", "quiet", "reached"), _COUNT)
    | dict.fromkeys(("evaded", "raised", "accused"), _MAYBE)
    | dict.fromkeys(("median_queries", "psnr", "ssim", "snr"), _MAYBE_NUMBER)
    | {"scores": _of(_RANKING), "seconds": _NUMBER}
)
_TRIAL = _all_of(
    dict.fromkeys(("name", "source", "group", "attack"), _TEXT)
    | dict.fromkeys(("sha256", "error", "kept"), _MAYBE_TEXT)
    | dict.fromkeys(("synthetic", "attacked"), _FLAG)
    | {"verdict": {"enum": [*(word.value for word in Verdict), None]}}
    | {"scores": _of(_NUMBER), "problems": _of(_TEXT), "queries": _COUNT, "seconds": _NUMBER}
    | {"reached_after": {"type": ["integer", "null"]}}
    | dict.fromkeys(("psnr", "ssim", "snr"), _MAYBE_NUMBER)
)
REDTEAM_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": SCHEMA,
    **_all_of(
        {
            "schema": {"const": SCHEMA},
            "made_at": _TEXT,
            "material": _all_of(
                {"name": _TEXT, "files": _COUNT, "left_out": _COUNT, "sha256": _TEXT}
                | {"limit": _COUNT}
            ),
            "kind": {"enum": [kind.value for kind in Kind]},
            "effort": _TEXT,
            "draws": _COUNT,
            "strength": {"type": "object", "required": ["budget", "steps", "answers", "seed"]},
            "versions": _of(_TEXT),
            "bundles": _of(_all_of({"name": _TEXT, "sha256": _TEXT})),
            "peers": _of(_TEXT),
            "seconds": _NUMBER,
            "rows": {"type": "array", "items": _ROW},
            "curves": {"type": "array", "items": {"type": "object"}},
            "trials": {"type": "array", "items": _TRIAL},
        }
    ),
}
