"""The service: an HTTP interface over a Detector with keys, jobs and limits, beside the page.

What needs its packages (extra ``server``) is imported by the first call.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from deepfake_app import check_address, prepare
from deepfake_app.address import is_loopback

from deepfake.errors import SettingsError

from .settings import Action, OpenId, ServiceSettings, WatchSettings, default_folder

if TYPE_CHECKING:
    from deepfake.detector import Detector


__all__ = [
    "Action",
    "OpenId",
    "ServiceSettings",
    "WatchSettings",
    "check_binding",
    "default_folder",
    "serve",
]


def check_binding(host: str, port: int, *, settings: ServiceSettings) -> None:
    """Raise ``SettingsError`` for a port that does not exist, for an address that other machines
    can reach while the service has neither a valid key nor an account, and for a folder that cannot
    be used. Makes no socket.
    """
    check_address(host, port, public=True)
    if not is_loopback(host):
        from .service import open_store

        with open_store(settings) as (_, keys):
            known = keys.any_active()
        if not known and not has_users(settings):
            raise SettingsError(
                f"host {host!r}: can be reached from other machines, and the service has no key "
                "and no account",
                hint="make one with: deepfake keys create, or deepfake users add; or leave --host "
                "away",
            )


def has_users(settings: ServiceSettings) -> bool:
    """Whether there is an account that somebody can sign in with, so that the page asks for one."""
    from .service import open_store
    from .store.users import Users

    with open_store(settings) as (database, keys):
        return Users(database, keys.derive("users")).any_active()


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

    An address that other machines can reach needs a valid key or an account, and the page there an
    account or ``public``, as without one it asks nobody who they are. ``allowed_hosts`` are more
    names under which both answer. Raises ``SettingsError`` when the address is taken or not
    allowed, or the folder cannot be used.
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
