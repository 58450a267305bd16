"""``deepfake keys``: who may use the HTTP interface."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from ..errors import MissingDependency, SettingsError
from .options import make_console
from .serve import add_data, find_service, read_store

SCOPES = ("detect", "read", "feedback", "webhooks", "admin")
POLICIES = ("full", "rounded", "verdict")


def add_keys(commands: Any) -> None:
    """Add the command."""
    keys = commands.add_parser("keys", help="make, list, replace and revoke keys of the service")
    actions = keys.add_subparsers(dest="action", required=True, metavar="ACTION")
    create = actions.add_parser("create", help="make a key, which is shown once")
    create.add_argument("--tenant", required=True, help="whose jobs and reports it sees")
    create.add_argument("--label", default="", help="what it is for")
    create.add_argument(
        "--scopes",
        default="detect,read",
        metavar="SCOPE,…",
        help=f"what it may do: some of {', '.join(SCOPES)} (%(default)s)",
    )
    create.add_argument(
        "--policy",
        choices=POLICIES,
        default="full",
        help="how much of a report it sees (%(default)s)",
    )
    create.add_argument("--days", type=float, help="how long it is valid (for ever)")
    create.add_argument("--rate", help="most requests, as 60/minute (no limit)")
    create.add_argument("--files-a-day", type=int, metavar="N", help="most files (no limit)")
    create.add_argument(
        "--seconds-a-day",
        type=float,
        metavar="N",
        help="most playing time of sounds and videos, after which nothing is taken (no limit)",
    )
    create.set_defaults(act=_create)
    actions.add_parser("list", help="show all keys, without what they open").set_defaults(act=_list)
    rotate = actions.add_parser("rotate", help="make a key that takes the place of another")
    rotate.add_argument("prefix", help="of the key, as keys list shows it")
    rotate.add_argument(
        "--overlap-hours",
        type=float,
        default=24.0,
        help="how long the old one stays valid (%(default)g)",
    )
    rotate.set_defaults(act=_rotate)
    revoke = actions.add_parser("revoke", help="make a key invalid at once")
    revoke.add_argument("prefix", help="of the key, as keys list shows it")
    revoke.set_defaults(act=_revoke)
    resume = actions.add_parser("resume", help="end what an alarm did to a key")
    resume.add_argument("prefix", help="of the key, as keys list shows it")
    resume.set_defaults(act=_resume)
    for action in actions.choices.values():
        add_data(action)
        action.set_defaults(run=run_keys)


def run_keys(options: argparse.Namespace) -> int:
    """``deepfake keys create|list|rotate|revoke|resume``."""
    with opened_store(options) as (_, keys):
        module = importlib.import_module("deepfake_service.store.keys")
        options.act(keys, module, options)
    return 0


@contextmanager
def opened_store(options: argparse.Namespace) -> Iterator[tuple[Any, Any]]:
    """The database in the folder of the service, and the keys in it."""
    service = find_service()
    if service is None:
        raise MissingDependency("sqlalchemy", extra="server")
    settings = service.ServiceSettings(**read_store(options))
    store = importlib.import_module("deepfake_service.service")
    with store.open_store(settings) as opened:
        yield opened


def _create(keys: Any, module: Any, options: argparse.Namespace) -> None:
    names = [name.strip() for name in options.scopes.split(",") if name.strip()]
    for name in names:
        if name not in SCOPES:
            raise SettingsError(
                f"scope {name[:40]!r}: unknown", hint=f"choose some of {', '.join(SCOPES)}"
            )
    key = keys.create(
        tenant=options.tenant,
        label=options.label,
        scopes=frozenset(map(module.Scope, names)),
        policy=module.Policy(options.policy),
        allowance=module.Allowance(
            rate=options.rate,
            files_a_day=options.files_a_day,
            seconds_a_day=options.seconds_a_day,
        ),
        days=options.days,
    )
    _show_once(key)


def _rotate(keys: Any, module: Any, options: argparse.Namespace) -> None:
    _show_once(keys.rotate(options.prefix, overlap_hours=options.overlap_hours))


def _revoke(keys: Any, module: Any, options: argparse.Namespace) -> None:
    keys.revoke(options.prefix)
    print(f"revoked {options.prefix}")


def _resume(keys: Any, module: Any, options: argparse.Namespace) -> None:
    keys.restrict(options.prefix, None)
    alarms = importlib.import_module("deepfake_service.store.alarms").Alarms(keys.database)
    alarms.release(options.prefix)
    print(f"resumed {options.prefix}")


def _list(keys: Any, module: Any, options: argparse.Namespace) -> None:
    from ..show.console import print_table

    rows = [
        [
            key.prefix,
            key.tenant,
            key.label,
            ",".join(key.scopes),
            f"{key.policy} ({key.restricted})" if key.restricted else key.policy,
            _word_limits(key.allowance),
            key.state,
            _word_day(key.expires),
        ]
        for key in keys.known()
    ]
    heads = ["prefix", "tenant", "label", "scopes", "policy", "limits", "state", "expires"]
    print_table(heads, rows, make_console())


def _show_once(key: str) -> None:
    print(key)
    print("The key is not shown again; only a hash of it is kept.", file=sys.stderr)


def _word_limits(allowance: Any) -> str:
    parts = [
        allowance.rate,
        None if allowance.files_a_day is None else f"{allowance.files_a_day} files/day",
        None if allowance.seconds_a_day is None else f"{allowance.seconds_a_day:g} s/day",
    ]
    return ", ".join(part for part in parts if part) or "none"


def _word_day(moment: int | None) -> str:
    return "never" if moment is None else f"{datetime.fromtimestamp(moment / 1000, UTC):%Y-%m-%d}"
