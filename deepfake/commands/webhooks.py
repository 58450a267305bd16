"""``deepfake webhooks``: the addresses that the service tells of events."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Any

from ..errors import MissingDependency, SettingsError
from .options import make_console
from .serve import add_data, find_service, read_store

EVENTS = ("job.done", "job.failed", "report.ruled", "report.revised")


def add_webhooks(commands: Any) -> None:
    """Add the command."""
    webhooks = commands.add_parser("webhooks", help="the addresses that are told of jobs")
    actions = webhooks.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="tell an address of events; its secret is shown once")
    add.add_argument("url", help="with https, of a host that others can reach")
    add.add_argument(
        "--events",
        default=",".join(EVENTS),
        metavar="EVENT,…",
        help="which (%(default)s)",
    )
    add.add_argument(
        "--private-host",
        action="append",
        default=[],
        metavar="HOST",
        help="as serve has it: a host that may lie in a private network",
    )
    add.set_defaults(act=_add)
    actions.add_parser("list", help="show them").set_defaults(act=_list)
    for name, act, text in (
        ("remove", _remove, "tell an address nothing more, and forget what waits"),
        ("rotate", _rotate, "make a new secret; the old one signs beside it for a while"),
        ("deliveries", _deliveries, "what was sent, waits, or is dead"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("id", help="of the webhook, as webhooks list shows it")
        action.set_defaults(act=act)
    actions.choices["rotate"].add_argument(
        "--overlap-hours",
        type=float,
        default=24.0,
        help="how long the old secret signs too (%(default)g)",
    )
    retry = actions.add_parser("retry", help="send a dead message again")
    retry.add_argument("id", help="of the webhook, as webhooks list shows it")
    retry.add_argument("message", help="as webhooks deliveries shows it")
    retry.set_defaults(act=_retry)
    for action in actions.choices.values():
        action.add_argument("--tenant", required=True, help="whose webhooks")
        add_data(action)
        action.set_defaults(run=run_webhooks)


def run_webhooks(options: argparse.Namespace) -> int:
    """``deepfake webhooks add|list|remove|rotate|deliveries|retry``."""
    service = find_service()
    if service is None:
        raise MissingDependency("sqlalchemy", extra="server")
    settings = service.ServiceSettings(**read_store(options))
    store = importlib.import_module("deepfake_service.service")
    module = importlib.import_module("deepfake_service.store.webhooks")
    with store.open_store(settings) as (database, keys):
        tenant = keys.tenant(options.tenant)
        options.act(module.Webhooks(database, keys.derive("webhooks")), tenant, options)
    return 0


def _add(webhooks: Any, tenant: int, options: argparse.Namespace) -> None:
    events = {name.strip() for name in options.events.split(",") if name.strip()}
    if not events or not events <= set(EVENTS):
        raise SettingsError(
            f"events {options.events[:60]!r}: are not known",
            hint=f"choose some of {', '.join(EVENTS)}",
        )
    addresses = importlib.import_module("deepfake_service.outside.addresses")
    addresses.Guard(options.private_host).read(options.url)
    row, secret = webhooks.add(tenant, options.url, events)
    print(f"{row.id} {secret}")
    print("The secret is not shown again.", file=sys.stderr)


def _rotate(webhooks: Any, tenant: int, options: argparse.Namespace) -> None:
    if not 0 <= options.overlap_hours <= 8760:
        raise SettingsError(
            f"overlap {options.overlap_hours:g}: out of range", hint="give hours, from 0 to 8760"
        )
    row, secret = webhooks.rotate(tenant, options.id, overlap_hours=options.overlap_hours)
    print(f"{row.id} {secret}")
    print("The secret is not shown again.", file=sys.stderr)


def _remove(webhooks: Any, tenant: int, options: argparse.Namespace) -> None:
    print(f"removed {webhooks.remove(tenant, options.id).id}")


def _retry(webhooks: Any, tenant: int, options: argparse.Namespace) -> None:
    print(f"in line again {webhooks.retry(tenant, options.id, options.message).id}")


def _list(webhooks: Any, tenant: int, options: argparse.Namespace) -> None:
    from ..show.console import print_table

    rows = [
        [row.id, row.url, ",".join(row.events), "active" if row.gone is None else "gone"]
        for row in webhooks.known(tenant)
    ]
    print_table(["id", "url", "events", "state"], rows, make_console())


def _deliveries(webhooks: Any, tenant: int, options: argparse.Namespace) -> None:
    from ..show.console import print_table

    rows = [
        [row.id, row.event, row.state, str(row.attempt), row.error or ""]
        for row in webhooks.deliveries(tenant, options.id, most=200)
    ]
    print_table(["message", "event", "state", "tries", "last error"], rows, make_console())
