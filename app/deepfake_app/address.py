"""Where the page may listen, and under which names it answers."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable

from deepfake.errors import SettingsError

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
PUBLIC_WARNING = """\
WARNING: the page can be reached from other machines, by everybody who can reach this one.
It asks nobody for a password and does not encrypt: whoever connects can examine files, read the
reports that they ask for and keep this machine busy. Put a proxy with TLS and a login before it,
or a firewall around it, and name the hosts that visitors use with --allow-host.
"""


def check_address(host: str, port: int, *, public: bool) -> None:
    """Raise ``SettingsError`` for a port that does not exist, and for an address that other
    machines can reach unless ``public`` says that this is meant. Makes no socket.
    """
    if not 0 <= port <= 65535:
        raise SettingsError(
            f"port {port}: does not exist", hint="give one from 1 to 65535, or 0 for any free one"
        )
    if not public and not is_loopback(host):
        raise SettingsError(
            f"host {host!r}: can be reached from other machines, and the page asks nobody for a "
            "password",
            hint="leave --host away, or add --public if that is meant",
        )


def is_loopback(host: str) -> bool:
    """Whether ``host`` is this machine alone by what it says, without asking a name server."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def warn_of(host: str) -> str:
    """What it means to listen on ``host``; nothing where only this machine can reach it."""
    return "" if is_loopback(host) else PUBLIC_WARNING


def open_listener(host: str, port: int, *, public: bool) -> socket.socket:
    """A socket bound to ``host`` and ``port`` (0 for any free one), not yet listening.

    Raises ``SettingsError`` as :func:`check_address`, and when the address cannot be used.
    """
    check_address(host, port, public=public)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        check_address(str(address[0]), port, public=public)  # what "localhost" stands for here
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError:
            listener.close()
            raise
    except OSError as error:
        raise SettingsError(
            f"address {host}:{port}: cannot be used ({error})",
            hint="choose another --host or --port",
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The address to open in a browser on this machine."""
    host, port = listener.getsockname()[:2]
    if ipaddress.ip_address(host).is_unspecified:
        host = "127.0.0.1"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


class Names:
    """The host names under which the page answers: those of this machine, the one that it was
    bound to, and those that were allowed. A ``public`` page also answers to every numeric
    address, which a name server of an attacker cannot redirect (DNS rebinding needs a name).
    """

    def __init__(self, host: str, *, allowed: Iterable[str] = (), public: bool = False) -> None:
        self._names = LOOPBACK_NAMES | {name.strip("[]").lower() for name in (host, *allowed)}
        self._public = public

    def hold(self, authority: str) -> bool:
        """Whether the page answers to ``authority``, a host with or without its port."""
        host = host_of(authority)
        return host in self._names or (self._public and _is_numeric(host))


def host_of(authority: str) -> str:
    """The host of ``host:port`` in lower case, without the brackets of an IPv6 address."""
    host, _, port = authority.rpartition(":")
    if not host or not port.isascii() or not port.isdigit():
        host = authority
    return host.removesuffix(".").strip("[]").lower()


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
