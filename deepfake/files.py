"""Files that are replaced as a whole, so that nobody ever reads half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


@contextmanager
def replaced(path: Path) -> Iterator[TextIO]:
    """What takes the place of ``path`` at the end of the block, on the disk by then; after an
    error nothing does. Everybody may read it. Raises ``OSError``.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    partial = Path(name)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
    partial.chmod(0o644)
    partial.replace(path)
