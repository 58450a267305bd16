"""Memory that a decoder process paints a picture into, so that its pixels cross no socket.

``multiprocessing.shared_memory`` is not used: it opens by name, which a confined process may not.
"""

from __future__ import annotations

import fcntl
import mmap
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a decoder is started before NumPy is imported
    import numpy as np
    import numpy.typing as npt


class SharedPixels:
    """``size_bytes`` of memory, shared with whoever gets the ``descriptor``; ``pixels`` (bytes,).

    Its size is sealed, so that the other side cannot cut it off under a reader. What is written on
    this side stays on this side. Raises ``OSError`` when the system has no memory to share.
    """

    def __init__(self, size_bytes: int) -> None:
        import numpy as np

        self.descriptor = os.memfd_create("pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.descriptor, size_bytes)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, seals)
            memory = mmap.mmap(self.descriptor, size_bytes, access=mmap.ACCESS_COPY)
        except BaseException:
            os.close(self.descriptor)
            raise
        self.pixels = np.frombuffer(memory, np.uint8)

    def close(self) -> None:
        """Let go of the descriptor; ``pixels`` stay as long as somebody uses them."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def map_shared(descriptor: int) -> npt.NDArray[np.uint8]:
    """The shared bytes on the decoder's side, to be written into; takes the descriptor."""
    import numpy as np

    try:
        memory = mmap.mmap(descriptor, os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)
    return np.frombuffer(memory, np.uint8)
