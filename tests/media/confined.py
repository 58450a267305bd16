"""Acts that are tried in a process which is confined as the decoder is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

_TRY = """
from deepfake.media.worker import confine

confine(memory_bytes=2 * 1024**3, parent=os.getppid())
for name, act in tries.items():
    try:
        act()
    except PermissionError:
        continue
    print(name)
"""


def try_confined(tries: str, *words: str, pass_fds: Sequence[int] = ()) -> list[str]:
    """The lines that are printed: the names of those ``tries`` (Python that imports ``os`` and
    makes a dictionary of that name, with these ``words`` as arguments) which were not refused.
    """
    done = subprocess.run(
        [sys.executable, "-c", tries + _TRY, *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        pass_fds=pass_fds,
    )
    return done.stdout.splitlines()
