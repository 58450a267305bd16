"""Which addresses the service may send requests to: none of a private network.

Whoever names an address could otherwise reach, through the service, what only its machine can: its
own ports, its neighbours, and the metadata of its cloud.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection
from typing import NamedTuple
from urllib.parse import urlsplit

from deepfake.errors import ServiceError
from deepfake.reasons import Code
from deepfake.text import printable

MOST_CHARACTERS = 2000
PORTS = {"http": 80, "https": 443}
_HOST = re.compile(r"[0-9A-Za-z]([0-9A-Za-z._-]{0,251}[0-9A-Za-z])?\.?")
_TARGET = re.compile(r"[\x21-\x7e]*")
_REFUSED = tuple(
    map(
        ipaddress.ip_network,
        (
            "100.64.0.0/10",  # shared by a provider, with the metadata of some clouds
            "168.63.129.16/32",  # metadata of a cloud, at a public address
            "192.0.0.0/24",
            "192.88.99.0/24",  # 6to4 and Teredo, which lead to IPv4
            "2002::/16",
            "2001::/32",
            "64:ff9b:1::/48",  # local translation to IPv4
            "5f00::/16",  # segment routing
            "fec0::/10",  # of one site
        ),
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Target(NamedTuple):
    """An address in its parts, so that nothing reads it a second time and otherwise."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"


class Guard:
    """Refuses addresses, except those of ``private_hosts``, which may lie anywhere."""

    def __init__(self, private_hosts: Collection[str] = ()) -> None:
        self._private = frozenset(map(_plain, private_hosts))

    def read(self, url: str, *, schemes: Collection[str] = ("https",)) -> Target:
        """The parts of an address; of a private host it may be plain HTTP too. Asks no name server.

        Raises ``ServiceError`` (``address_refused``, 422) for one that is not absolute, has another
        scheme, a user, a fragment or odd characters, or names an address that is refused.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise _refused(url, "is no address") from error
        if len(url) > MOST_CHARACTERS or not _TARGET.fullmatch(url) or "\\" in url:
            raise _refused(url, "is too long, or has characters that must be escaped")
        if parts.username is not None or parts.password is not None or parts.fragment:
            raise _refused(url, "has a user or a fragment")
        literal = _literal(host)
        if literal is None and not _HOST.fullmatch(host):
            raise _refused(url, "names no host")
        if parts.scheme not in (PORTS if _plain(host) in self._private else schemes):
            raise _refused(url, f"is not of the scheme {' or '.join(schemes)}")
        if port == 0:
            raise _refused(url, "has no port")
        if literal is not None:
            self._require_public(host, [literal])
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return Target(parts.scheme, host, port or PORTS[parts.scheme], path)

    def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a host to connect to; nobody may ask for them again.

        Raises ``ServiceError`` (``address_refused``) when any of its addresses is refused, and
        ``OSError`` when it has none.
        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = [ipaddress.ip_address(str(it[4][0]).partition("%")[0]) for it in found]
        self._require_public(host, addresses)
        return list(dict.fromkeys(map(str, addresses)))

    def _require_public(self, host: str, addresses: list[Address]) -> None:
        if _plain(host) not in self._private and not all(map(is_public, addresses)):
            raise _refused(host, "leads into a private network")


def is_public(address: Address) -> bool:
    """Whether everybody can reach an address, or the IPv4 address that it stands for."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in _REFUSED)
    )


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _plain(host: str) -> str:
    return host.lower().strip("[]").rstrip(".")


def _refused(what: str, why: str) -> ServiceError:
    return ServiceError(
        f"address {printable(what, most=100)!r}: {why}",
        code=Code.ADDRESS_REFUSED,
        hint="name one that everybody can reach, with https and without a user",
        status=422,
    )
