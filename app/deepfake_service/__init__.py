"""The service: an HTTP interface over a Detector with keys, jobs and limits, beside the page.

What needs its packages (extra ``server``) is imported by the first call.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from deepfake_app import check_address, prepare
from deepfake_app.address import is_loopback

from deepfake.errors import SettingsError

from .settings import Action, ServiceSettings, WatchSettings, default_folder

if TYPE_CHECKING:
    from deepfake.detector import Detector


__all__ = ["Action", "ServiceSettings", "WatchSettings", "check_binding", "default_folder", "serve"]


def check_binding(host: str, port: int, *, settings: ServiceSettings) -> None:
    """Raise ``SettingsError`` for a port that does not exist, for an address that other machines
    can reach while the service has no valid key, and for a folder that cannot be used. Makes no
    socket.
    """
    check_address(host, port, public=True)
    if not is_loopback(host):
        from .service import open_store

        with open_store(settings) as (_, keys):
            require_keys(host, keys=keys.any_active())


def require_keys(host: str, *, keys: bool) -> None:
    """Raise ``SettingsError`` for an address that other machines can reach where there are no
    ``keys`` that are valid: everybody could then have media examined.
    """
    if not keys and not is_loopback(host):
        raise SettingsError(
            f"host {host!r}: can be reached from other machines, and the service has no key",
            hint="make one with: deepfake keys create, or leave --host away",
        )


def serve(
    detector: Detector,
    *,
    host: str,
    port: int,
    public: bool = False,
    allowed_hosts: Iterable[str] = (),
    settings: ServiceSettings | None = None,
) -> None:
    """Serve the interface and the page at ``host`` and ``port`` until Ctrl-C or SIGTERM.

    An address that other machines can reach needs a valid key, and the page there ``public``, as
    it asks nobody for one. ``allowed_hosts`` are more names under which both answer. Raises
    ``SettingsError`` when the address is taken or not allowed, or the folder cannot be used.
    """
    prepare()
    from .serving import serve as serve_all

    serve_all(
        detector,
        host=host,
        port=port,
        public=public,
        allowed_hosts=allowed_hosts,
        settings=settings or ServiceSettings(),
    )
