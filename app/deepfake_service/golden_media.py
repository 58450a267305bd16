"""Media of the operator whose verdicts are known: changed models, or a changed machine, that turn
one around are noticed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from deepfake.detector import Detector
from deepfake.errors import MediaError
from deepfake.trust.registry import write_json
from deepfake.types import Verdict

SCHEMA = "deepfake-golden-verdicts/1"
_ACCUSING = frozenset({Verdict.SUSPICIOUS, Verdict.SYNTHETIC})
_FIRM = _ACCUSING | {Verdict.AUTHENTIC}


class Drift(NamedTuple):
    """The ``files`` that were accused and are cleared now, or the other way round, and the
    ``bundles`` by slot that are other ones than those that had judged them.
    """

    files: list[str]
    bundles: dict[str, str]


@dataclass(frozen=True)
class GoldenMedia:
    """The files of ``folder``. What was said of them is kept in the file ``record``, until
    models say as much of all of them; to accept what others say, remove it.
    """

    folder: Path
    record: Path

    def compare(self, detector: Detector) -> Drift | None:
        """What differs from the record; None where nothing does, or it was told before."""
        verdicts = self._judge(detector)
        active = detector.engine.active
        digests = {slot: bundle.sha256 for slot, bundle in active.items()}
        before = self._read()
        known = before.get("verdicts", {})
        turned = {name: said for name, said in verdicts.items() if _turns(known.get(name), said)}
        told = {**before, "told": turned}
        if not turned:
            told = {"schema": SCHEMA, "verdicts": verdicts, "bundles": digests, "told": {}}
        write_json(self.record, told)
        if not turned or turned == before.get("told"):
            return None
        moved = {
            slot: bundle.name
            for slot, bundle in active.items()
            if before["bundles"].get(slot) != bundle.sha256
        }
        return Drift(sorted(turned), moved)

    def _judge(self, detector: Detector) -> dict[str, str]:
        """The verdict on each file by its name; one that cannot be examined has none."""
        found = {}
        for path in sorted(path for path in self.folder.iterdir() if path.is_file()):
            try:
                found[path.name] = detector.detect(path).verdict.value
            except MediaError:
                continue
        return found

    def _read(self) -> dict[str, Any]:
        try:
            values = json.loads(self.record.read_bytes())
            if values["schema"] != SCHEMA or not all(
                isinstance(values[key], dict) for key in ("verdicts", "bundles", "told")
            ):
                return {}
            return dict(values)
        except (OSError, ValueError, KeyError, TypeError):
            return {}  # the first time, or damaged: begun anew


def _turns(before: str | None, now: str) -> bool:
    firm = before in _FIRM and now in _FIRM
    return firm and (before in _ACCUSING) != (now in _ACCUSING)
