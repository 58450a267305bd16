"""What verifying the signatures of the shipped bundles adds to the start of a process.

    python -m benchmarks.signatures

Fresh processes, on a warm disk cache. Importing is that of the signatures after all that a detector
imports anyway; keys are read and parsed; then all bundles are verified. Hashing every file, which
includes reading it and is needed without signatures too for all but the cards, is taken by itself
and subtracted. Milliseconds of processor time of the process, which other programs lengthen less.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from statistics import median

from .startup import UNUSUAL
from .timing import make_console, make_parser, print_machine, print_results

STEPS = ("import", "keys", "verify, without hashing", "all of these", "hashing")
MEASURE = """
import hashlib, json, time
from deepfake.bundle import Bundle
from deepfake.settings import Settings, shipped_models_folder
import deepfake.engine.backends, deepfake.preprocess
clock = time.process_time
folders = sorted(path.parent for path in shipped_models_folder().glob("*/bundle.json"))
bundles = [Bundle.read(folder) for folder in folders]
def hash_all():
    began = clock()
    for folder in folders:
        for path in folder.iterdir():
            hashlib.sha256(path.read_bytes()).hexdigest()
    return clock() - began
hash_all()
begin = clock()
from deepfake.trust.signatures import Trust, require_signed
imported = clock()
trust = Trust.read(Settings())
read = clock()
require_signed(bundles, trust)
verified = clock() - read
hashing = hash_all()
took = [imported - begin, read - imported, verified - hashing]
print(json.dumps([*took, sum(took), hashing, len(bundles)]))
"""


def main(arguments: list[str] | None = None) -> int:
    options = make_parser("signatures", __doc__, repeats=9).parse_args(arguments)
    console = make_console()
    print_machine("cryptography", repeats=options.repeats, console=console)
    found = [measure() for _ in range(options.repeats)]
    rows = [
        [step, f"{1000 * median(one[step] for one in found):.1f}"]
        + [f"{1000 * least(one[step] for one in found):.1f}" for least in (min, max)]
        for step in STEPS
    ]
    title = f"verifying {found[0]['bundles']:.0f} shipped bundles, ms of processor time"
    print_results(title, ["step", "median", "least", "most"], rows, console=console)
    return 0


def measure() -> Mapping[str, float]:
    """Processor seconds of each step in one fresh process, and how many bundles there are."""
    environment = {key: text for key, text in os.environ.items() if key not in UNUSUAL}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], env=environment, check=True, capture_output=True, text=True
    )
    values: Sequence[float] = json.loads(done.stdout)
    return dict(zip((*STEPS, "bundles"), values, strict=True))


if __name__ == "__main__":
    sys.exit(main())
