"""Media of the operator whose verdicts are known: changed models, or a changed machine, that turn
one around are noticed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from deepfake.detector import Detector
from deepfake.errors import MediaError
from deepfake.trust.registry import write_json
from deepfake.types import Verdict

SCHEMA = "deepfake-golden-verdicts/1"
_ACCUSING = frozenset({Verdict.SUSPICIOUS, Verdict.SYNTHETIC})
_FIRM = _ACCUSING | {Verdict.AUTHENTIC}


@dataclass(frozen=True)
class GoldenMedia:
    """The files of ``folder``; their verdicts are kept in the file ``record``."""

    folder: Path
    record: Path

    def judge(self, detector: Detector) -> dict[str, str]:
        """The verdict on each file by its name; a file that cannot be examined has none."""
        found = {}
        for path in sorted(path for path in self.folder.iterdir() if path.is_file()):
            try:
                found[path.name] = detector.detect(path).verdict.value
            except MediaError:
                continue
        return found

    def turned(self, verdicts: dict[str, str]) -> list[str]:
        """The names of files that were accused and are cleared now, or the other way round. What
        was recorded is replaced, so that a change is told once.
        """
        before = self._read()
        write_json(self.record, {"schema": SCHEMA, "verdicts": verdicts})
        return [name for name, verdict in verdicts.items() if _turns(before.get(name), verdict)]

    def _read(self) -> dict[str, str]:
        try:
            values = json.loads(self.record.read_bytes())
            return dict(values["verdicts"]) if values["schema"] == SCHEMA else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}  # the first time, or damaged: begun anew


def _turns(before: str | None, now: str) -> bool:
    firm = before in _FIRM and now in _FIRM
    return firm and (before in _ACCUSING) != (now in _ACCUSING)
