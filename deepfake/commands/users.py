"""``deepfake users``: who may sign in to the page and the cases."""

from __future__ import annotations

import argparse
import getpass
import importlib
import sys
from typing import Any

from ..errors import SettingsError
from .keys import opened_store
from .options import make_console
from .serve import add_data

ROLES = ("reader", "examiner", "moderator", "admin")


def add_users(commands: Any) -> None:
    """Add the command."""
    users = commands.add_parser("users", help="make, list and disable accounts of people")
    actions = users.add_subparsers(dest="action", required=True, metavar="ACTION")
    add = actions.add_parser("add", help="make an account; its password is asked for")
    add.add_argument("name", help="by which somebody signs in, as an e-mail address")
    add.add_argument("--tenant", required=True, help="whose jobs and reports they see")
    add.add_argument(
        "--role",
        choices=ROLES,
        default="moderator",
        help="reader: sees reports; examiner: sends files, too; moderator: rules, too; admin: all "
        "(%(default)s)",
    )
    add.add_argument(
        "--openid",
        action="store_true",
        help="they sign in at the provider of OpenID Connect, which has verified NAME as their "
        "e-mail address; there is no password",
    )
    add.set_defaults(act=_add)
    actions.add_parser("list", help="show all accounts").set_defaults(act=_list)
    password = actions.add_parser("password", help="set a password, and end what is signed in")
    password.add_argument("name")
    password.set_defaults(act=_set_password)
    disable = actions.add_parser("disable", help="let nobody sign in as this user, at once")
    disable.add_argument("name")
    disable.set_defaults(act=_disable)
    for action in actions.choices.values():
        add_data(action)
        action.set_defaults(run=run_users)


def run_users(options: argparse.Namespace) -> int:
    """``deepfake users add|list|password|disable``."""
    with opened_store(options) as (database, keys):
        module = importlib.import_module("deepfake_service.store.users")
        options.act(module.Users(database, keys.derive("users")), module, options)
    return 0


def _add(users: Any, module: Any, options: argparse.Namespace) -> None:
    users.add(
        options.name,
        tenant=options.tenant,
        role=module.Role(options.role),
        password=None if options.openid else _ask_password(),
    )
    print(f"added {module.fold(options.name)}")


def _set_password(users: Any, module: Any, options: argparse.Namespace) -> None:
    users.set_password(options.name, _ask_password())
    print(f"changed the password of {module.fold(options.name)}")


def _disable(users: Any, module: Any, options: argparse.Namespace) -> None:
    users.disable(options.name)
    print(f"disabled {module.fold(options.name)}")


def _list(users: Any, module: Any, options: argparse.Namespace) -> None:
    from ..show.console import print_table

    rows = [
        [
            user.name,
            user.tenant,
            user.role,
            "OpenID Connect" if user.openid else "password",
            "active" if user.disabled is None else "disabled",
        ]
        for user in users.known()
    ]
    print_table(["name", "tenant", "role", "signs in by", "state"], rows, make_console())


def _ask_password() -> str:
    """The password from the terminal, twice, or one line of standard input."""
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("Password: ")
    if getpass.getpass("Once more: ") != password:
        raise SettingsError("password: was not the same twice", hint="try again")
    return password
