"""What a visitor of the page may cost."""

from __future__ import annotations

from dataclasses import dataclass

from deepfake.errors import SettingsError

MEBIBYTE = 1024**2


@dataclass(frozen=True, kw_only=True)
class PageLimits:
    """Bounds of the server of the page. Raises ``SettingsError`` for one that is not positive.

    ``disk_bytes`` bounds all uploads together, ``upload_bytes`` each of them; ``json_bytes`` the
    body of any other request. An upload that is not examined within ``abandoned_seconds`` is
    deleted. ``file_seconds`` is the longest examination of one file. A connection is closed when
    the head of a request takes over ``header_seconds``, when nothing of a body or an answer moves
    for ``stall_seconds``, and when a body takes over ``body_seconds``.
    """

    upload_bytes: int = 512 * MEBIBYTE
    disk_bytes: int = 4096 * MEBIBYTE
    json_bytes: int = MEBIBYTE
    abandoned_seconds: float = 1800
    file_seconds: float = 600
    header_seconds: float = 10
    stall_seconds: float = 20
    body_seconds: float = 1200
    connections: int = 200
    requests: int = 150
    queued: int = 32
    files: int = 20

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise SettingsError(
                    f"limit {name} {value}: not positive", hint="give a number above 0"
                )
