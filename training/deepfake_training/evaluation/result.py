"""The result of an evaluation as JSON, schema ``deepfake-evaluation/1``, and back.

Keys are only ever added within a version of the schema. ``EVALUATION_SCHEMA`` is the JSON Schema
(draft 2020-12) that every result keeps to.
"""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from deepfake.detector import Detector, utc_now
from deepfake.errors import SettingsError
from deepfake.text import display_name
from deepfake.types import Kind, Verdict
from deepfake.version import VERSION

from .compare import Comparison, compare_peers
from .fairness import Group, compare_groups
from .material import digest_files
from .measures import MEASURES
from .peers import Peer
from .run import Outcome
from .tabulate import Ranking, Row, tabulate
from .views import AS_IS, VIEWS

SCHEMA = "deepfake-evaluation/1"
DECIMALS = 4
PACKAGES = ("numpy", "onnxruntime", "openvino", "scipy")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was asked for. ``limit`` is the most files of each source, 0 for all."""

    material: str
    views: Sequence[str]
    limit: int
    seed: int
    draws: int


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One result. ``outcomes`` are those of every file and view, empty in a result that was stored
    without them; ``digest`` is one sha256 over the files with their labels and sources.
    """

    plan: Plan
    made_at: str
    versions: Mapping[str, str]
    bundles: Mapping[str, Mapping[str, str]]
    peers: Mapping[str, str]
    digest: str
    files: int
    failures: Mapping[str, int]
    rows: Sequence[Row]
    comparisons: Sequence[Comparison]
    outcomes: Sequence[Outcome]
    groups: Sequence[Group] = ()

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON values, numbers with four decimals."""
        views = {
            name: {kind.value: known[name].says for kind, known in VIEWS.items() if name in known}
            for name in self.plan.views
            if name != AS_IS
        }
        values = {
            "schema": SCHEMA,
            "made_at": self.made_at,
            "material": {
                "name": self.plan.material,
                "files": self.files,
                "sha256": self.digest,
                "limit": self.plan.limit,
            },
            "seed": self.plan.seed,
            "draws": self.plan.draws,
            "views": {AS_IS: {}} | views if AS_IS in self.plan.views else views,
            "versions": dict(self.versions),
            "bundles": {slot: dict(facts) for slot, facts in self.bundles.items()},
            "peers": dict(self.peers),
            "failures": dict(self.failures),
            "rows": [asdict(row) for row in self.rows],
            "comparisons": [asdict(one) for one in self.comparisons],
            "groups": [asdict(one) for one in self.groups],
        }
        rounded: dict[str, Any] = _round(values)
        # Scores stay as they are, so that what is computed from them again is the same.
        return rounded | {"outcomes": [asdict(one) for one in self.outcomes]}


def conclude(
    outcomes: Sequence[Outcome], detector: Detector, *, plan: Plan, peers: Sequence[Peer] = ()
) -> Evaluation:
    """The result of what a run found."""
    bundles = detector.engine.active
    files = {(one.sha256 or "", one.synthetic, one.source, one.name) for one in outcomes}
    failures: Counter[str] = Counter()
    for one in outcomes:
        failures["deepfake"] += one.error is not None
        failures.update([*one.problems])
    return Evaluation(
        plan=plan,
        made_at=utc_now(),
        versions={
            "deepfake": VERSION,
            "python": platform.python_version(),
            "precision": detector.settings.precision,
            "backend": detector.settings.backend,
        }
        | {name: version(name) for name in PACKAGES if _has(name)},
        bundles={slot: {"name": it.name, "sha256": it.sha256} for slot, it in bundles.items()},
        peers={peer.name: peer.identity for peer in peers},
        digest=digest_files((sha256, synthetic, source) for sha256, synthetic, source, _ in files),
        files=len(files),
        failures=+failures,
        rows=tabulate(outcomes, draws=plan.draws, seed=plan.seed),
        comparisons=compare_peers(outcomes, draws=plan.draws, seed=plan.seed),
        outcomes=outcomes,
        groups=compare_groups(outcomes, draws=plan.draws, seed=plan.seed),
    )


def write_result(result: Evaluation, path: Path) -> None:
    """Write it whole or not at all; each row and each file has a line of its own.

    Raises ``SettingsError`` where it cannot be written.
    """
    values = result.to_dict()
    lists = {key: values.pop(key) for key in ("rows", "comparisons", "groups", "outcomes")}
    text = json.dumps(values, indent=1)[:-2]
    for key, items in lists.items():
        lines = ",\n  ".join(json.dumps(item) for item in items)
        text += f',\n "{key}": [' + (f"\n  {lines}\n ]" if items else "]")
    part = path.with_name(f"{path.name}.part")
    try:
        part.write_text(text + "\n}\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise SettingsError(
            f"result {display_name(path)}: cannot be written ({error.strerror})",
            hint="choose another place, or free space",
        ) from error


def read_result(path: Path) -> Evaluation:
    """The result of a file; raises ``SettingsError`` for a file that holds none."""
    shown = display_name(path)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["schema"] != SCHEMA:
            raise ValueError(f"schema {values['schema']!r}")
        return _from_dict(values)
    except OSError as error:
        raise SettingsError(
            f"result {shown}: cannot be read ({error.strerror})",
            hint="give the evaluation.json of an earlier run",
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SettingsError(
            f"result {shown}: is no {SCHEMA} ({type(error).__name__}: {error})",
            hint="give the evaluation.json of an earlier run",
        ) from error


def _from_dict(values: Mapping[str, Any]) -> Evaluation:
    material = values["material"]
    return Evaluation(
        plan=Plan(
            material=material["name"],
            views=[*values["views"]],
            limit=material["limit"],
            seed=values["seed"],
            draws=values["draws"],
        ),
        made_at=values["made_at"],
        versions=values["versions"],
        bundles=values["bundles"],
        peers=values["peers"],
        digest=material["sha256"],
        files=material["files"],
        failures=values["failures"],
        rows=[_read_row(row) for row in values["rows"]],
        comparisons=[
            Comparison(**one | {"gain": _estimate(one["gain"])}) for one in values["comparisons"]
        ],
        outcomes=[Outcome(**one) for one in values["outcomes"]],
        groups=[_read_group(one) for one in values.get("groups", ())],
    )


def _read_row(values: Mapping[str, Any]) -> Row:
    scores = {
        name: Ranking(**ranking | {key: _estimate(ranking[key]) for key in MEASURES})
        for name, ranking in values["scores"].items()
    }
    verdicts = {word: _estimate(share) for word, share in values["verdicts"].items()}
    return Row(**{**values, "scores": scores, "verdicts": verdicts})


def _read_group(values: Mapping[str, Any]) -> Group:
    shares = {name: _estimate(values[name]) for name in ("accused", "alarmed", "missed")}
    return Group(**{**values, **shares})


def _estimate(values: Sequence[float] | None) -> Any:
    return None if values is None else (values[0], values[1], values[2])


def _has(package: str) -> bool:
    try:
        version(package)
    except ImportError:
        return False
    return True


def _round(values: Any) -> Any:
    if isinstance(values, float):
        return round(values, DECIMALS)
    if isinstance(values, Mapping):
        return {key: _round(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_round(value) for value in values]
    return values


_TEXT, _MAYBE_TEXT, _COUNT = {"type": "string"}, {"type": ["string", "null"]}, {"type": "integer"}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_ESTIMATE = {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}
_MAYBE = _ESTIMATE | {"type": ["array", "null"]}
_KIND = {"enum": [kind.value for kind in Kind]}
_LABEL = {"enum": ["synthetic", "genuine"]}


def _of(value: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": value}


def _all_of(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": [*properties], "properties": properties}


_RANKING = _all_of({"synthetic": _COUNT, "genuine": _COUNT} | dict.fromkeys(MEASURES, _MAYBE))
_ROW = _all_of(
    {
        "kind": _KIND,
        "view": _TEXT,
        "label": _LABEL,
        "source": _TEXT,
        "files": _COUNT,
        "failed": _COUNT,
        "verdicts": _of(_ESTIMATE) | {"propertyNames": {"enum": [word.value for word in Verdict]}},
        "scores": _of(_RANKING),
    }
)
_COMPARISON = _all_of(
    {"kind": _KIND, "view": _TEXT, "first": _TEXT, "second": _TEXT}
    | {"synthetic": _COUNT, "genuine": _COUNT, "first_auc": _SHARE, "second_auc": _SHARE}
    | {"gain": _ESTIMATE, "p_sources": _SHARE, "p_files": _SHARE, "text": _TEXT}
)
_GROUP = _all_of(
    {"kind": _KIND, "view": _TEXT, "trait": _TEXT, "value": _TEXT}
    | {"genuine": _COUNT, "synthetic": _COUNT}
    | {"accused": _MAYBE, "alarmed": _MAYBE, "missed": _MAYBE}
    | {"p": {"type": ["number", "null"], "minimum": 0, "maximum": 1}}
)
_OUTCOME = _all_of(
    {
        "name": _TEXT,
        "sha256": {"type": ["string", "null"], "pattern": "^[0-9a-f]{64}$"},
        "synthetic": {"type": "boolean"},
        "source": _TEXT,
        "group": _TEXT,
        "kind": {"enum": [*_KIND["enum"], None]},
        "view": _TEXT,
        "verdict": {"enum": [*(word.value for word in Verdict), None]},
        "scores": _of({"type": "number"}),
        "error": _MAYBE_TEXT,
        "problems": _of(_TEXT),
    }
)
EVALUATION_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": SCHEMA,
    **_all_of(
        {
            "schema": {"const": SCHEMA},
            "made_at": _TEXT,
            "material": _all_of({"name": _TEXT, "files": _COUNT, "sha256": _TEXT, "limit": _COUNT}),
            "seed": _COUNT,
            "draws": _COUNT,
            "views": _of(_of(_TEXT)),
            "versions": _of(_TEXT),
            "bundles": _of(_all_of({"name": _TEXT, "sha256": _TEXT})),
            "peers": _of(_TEXT),
            "failures": _of(_COUNT),
            "rows": {"type": "array", "items": _ROW},
            "comparisons": {"type": "array", "items": _COMPARISON},
            "outcomes": {"type": "array", "items": _OUTCOME},
        }
    ),
}
EVALUATION_SCHEMA["properties"]["groups"] = {"type": "array", "items": _GROUP}  # not in all
