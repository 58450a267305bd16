"""``deepfake train --federated``: one head from the files of many sites that keep them."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

from ..errors import MissingDependency, SettingsError

ROLES = ("certificates", "server", "client")
HELP = """\
train one head with other sites that keep their files. `certificates` makes --certificates, a
folder of which the server gets authority.pem and server.pem, and every site authority.pem and its
own; then `server` waits for the --sites, and each runs `client` with --name
"""


def add_federated(train: argparse.ArgumentParser) -> None:
    """Add the options to those of ``deepfake train``."""
    group = train.add_argument_group("with other sites")
    group.add_argument("--federated", choices=ROLES, help=HELP)
    group.add_argument("--certificates", type=Path, metavar="FOLDER", help="see --federated")
    group.add_argument("--sites", nargs="+", metavar="NAME", help="who takes part")
    group.add_argument("--name", help="of this site, as its certificate says")
    group.add_argument(
        "--address",
        default="127.0.0.1:8443",
        metavar="HOST:PORT",
        help="of the server; for certificates the host that sites will ask (%(default)s)",
    )
    group.add_argument(
        "--rule",
        choices=("fedavg", "median", "trimmed", "krum"),
        default="median",
        help="how updates become one; fedavg trusts every site (%(default)s)",
    )
    group.add_argument("--rounds", type=int, default=30, help="(%(default)s)")
    group.add_argument("--steps", type=int, default=5, help="of a site in a round (%(default)s)")
    group.add_argument(
        "--least", type=int, metavar="N", help="sites that a round needs (all of them)"
    )
    group.add_argument(
        "--wait",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="for the others, from the first update of a round on (%(default)s)",
    )


def run_federated(options: argparse.Namespace, wish: Any) -> int:
    """One of the three roles; ``wish`` makes that of a client once it is known to be wanted."""
    if options.certificates is None:
        raise SettingsError(
            "option --certificates: is missing",
            hint="make them with --federated certificates --certificates FOLDER --sites NAME …",
        )
    if options.federated == "certificates":
        return _make_certificates(options)
    if options.federated == "server":
        return _serve(options)
    if not options.name:
        raise SettingsError("option --name: is missing", hint="give the name of this site")
    _federated("own").join(
        wish(),
        address=f"https://{options.address}",
        certificates=options.certificates,
        name=options.name,
    )
    return 0


def _make_certificates(options: argparse.Namespace) -> int:
    paths = _federated("certificates").make_certificates(
        options.certificates, sites=options.sites or [], hosts=[_split(options.address)[0]]
    )
    print(f"wrote {', '.join(path.name for path in paths)} into {options.certificates}")
    print("give each site authority.pem and its own file, by a way that nobody else can read")
    return 0


def _serve(options: argparse.Namespace) -> int:
    host, port = _split(options.address)
    if options.slot is None or options.output is None or not options.sites:
        raise SettingsError(
            "options --slot, --output and --sites: are needed by a server",
            hint="--slot image --output models/ours-1 --sites north south",
        )
    _federated("hub").run(
        slot=options.slot,
        models=options.models,
        start=options.start,
        output=options.output,
        sites=options.sites,
        least=options.least or len(options.sites),
        rule=options.rule,
        rounds=options.rounds,
        steps=options.steps,
        wait_seconds=options.wait,
        host=host,
        port=port,
        certificates=options.certificates,
    )
    return 0


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise SettingsError(
            f"option --address {address}: is no host and port", hint="as 127.0.0.1:8443"
        )
    return host.strip("[]"), int(port)


def _federated(module: str) -> Any:
    """A module of the room; raises ``MissingDependency`` naming the extra."""
    try:
        return importlib.import_module(f"deepfake_training.federated.{module}")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing.startswith("deepfake") and missing != "deepfake_training":
            raise
        raise MissingDependency(missing, extra="federated") from error
