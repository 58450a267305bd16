"""Accounts in the store, the command that makes them, and what they open."""

from __future__ import annotations

import io
import json
import sqlite3
import stat
from pathlib import Path

import pytest
from alembic import command
from argon2 import extract_parameters
from deepfake_service import check_binding, has_users
from deepfake_service.service import open_store
from deepfake_service.settings import ServiceSettings
from deepfake_service.store import database as database_module
from deepfake_service.store.cases import Cases, Filter
from deepfake_service.store.database import Database
from deepfake_service.store.users import Role, Users

from deepfake.commands.cli import main
from deepfake.errors import ServiceError, SettingsError
from deepfake.types import Verdict
from tests.reports import make_report

PASSWORD = "correct horse battery"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "service"


def run(folder: Path, *words: str) -> int:
    return main(["users", *words, "--data", str(folder)])


def give(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def test_accounts_are_made_listed_changed_and_disabled_by_the_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ServiceSettings(folder=folder)
    assert not has_users(settings)
    with pytest.raises(SettingsError, match="deepfake users add"):
        check_binding("0.0.0.0", 7860, settings=settings)
    give(monkeypatch, PASSWORD)
    assert run(folder, "add", "Anna@Example.org", "--tenant", "shop", "--role", "admin") == 0
    check_binding("0.0.0.0", 7860, settings=settings)
    assert run(folder, "add", "bert", "--tenant", "shop", "--openid") == 0
    assert run(folder, "list") == 0
    said = capsys.readouterr().out
    assert "anna@example.org  shop    admin" in said
    assert "OpenID Connect" in said
    with open_store(settings) as (database, keys):
        users = Users(database, keys.derive("users"))
        number = users.sign_in("ANNA@example.org ", PASSWORD)
        give(monkeypatch, "another " + PASSWORD)
        assert run(folder, "password", "anna@example.org") == 0
        assert users.sign_in("anna@example.org", "another " + PASSWORD) == number
        with pytest.raises(ServiceError, match="wrong"):
            users.sign_in("anna@example.org", PASSWORD)
    for name in ("anna@example.org", "bert"):
        assert run(folder, "disable", name) == 0
    assert "disabled" in capsys.readouterr().out
    assert not has_users(settings)
    with pytest.raises(SettingsError, match="no account"):
        check_binding("0.0.0.0", 7860, settings=settings)


@pytest.mark.parametrize(
    ("words", "password", "message"),
    [
        (["add", "../up", "--tenant", "shop"], PASSWORD, "is no name"),
        (["add", "a\x1b[31mb", "--tenant", "shop"], PASSWORD, "is no name"),
        (["add", "anna", "--tenant", "../up"], PASSWORD, "is no name"),
        (["add", "anna", "--tenant", "shop"], "short", "12 to 256"),
        (["add", "anna", "--tenant", "shop"], "x" * 257, "12 to 256"),
        (["add", "averylongname", "--tenant", "shop"], "AVeryLongName", "not the name"),
        (["add", "anna", "--tenant", "shop"], "", "12 to 256"),
        (["password", "nobody"], PASSWORD, "deepfake users list"),
        (["disable", "' OR 1=1"], "", "deepfake users list"),
    ],
)
def test_a_wrong_use_of_the_command_says_what_is_right(
    *,
    folder: Path,
    words: list[str],
    password: str,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    give(monkeypatch, password)
    assert run(folder, *words) == 2
    error = capsys.readouterr().err
    assert message in error
    assert not password or password not in error
    assert not has_users(ServiceSettings(folder=folder))


def test_a_name_is_taken_once(folder: Path) -> None:
    with open_store(ServiceSettings(folder=folder)) as (database, keys):
        users = Users(database, keys.derive("users"))
        users.add("anna", tenant="shop", role=Role.READER, password=PASSWORD)
        with pytest.raises(SettingsError, match="there is one already"):
            users.add("Ａｎｎａ", tenant="shop", role=Role.ADMIN, password=PASSWORD)


def test_of_passwords_and_visits_only_hashes_are_kept(folder: Path) -> None:
    from deepfake_service.store.visits import Visits

    with open_store(ServiceSettings(folder=folder)) as (database, keys):
        users = Users(database, keys.derive("users"))
        users.add("anna", tenant="shop", role=Role.READER, password=PASSWORD)
        token = Visits(database, keys.derive("visits")).begin(users.sign_in("anna", PASSWORD))
        with pytest.raises(ServiceError):
            users.sign_in("somebody.else", PASSWORD)
    for path in folder.iterdir():
        content = path.read_bytes()
        for secret in (PASSWORD, token, "somebody.else"):
            assert secret.encode() not in content, path
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    with sqlite3.connect(folder / "service.sqlite") as file:
        (hashed,) = file.execute("SELECT password FROM users").fetchone()
    file.close()
    used = extract_parameters(hashed)
    assert hashed.startswith("$argon2id$")
    assert (used.memory_cost, used.time_cost, used.parallelism) == (65536, 3, 4)
    assert (used.hash_len, used.salt_len) == (32, 16)


def test_words_of_the_command_are_those_of_the_store() -> None:
    from deepfake.commands.users import ROLES

    assert tuple(Role) == ROLES


def test_reports_of_an_older_release_are_cases_too(folder: Path) -> None:
    folder.mkdir()
    database = Database(f"sqlite:///{folder / 'a.sqlite'}")
    with database._writer.begin() as connection:
        command.upgrade(database_module._alembic(connection), "0001")
    document = json.dumps(make_report().to_dict())
    file = sqlite3.connect(folder / "a.sqlite")
    file.execute("INSERT INTO tenants VALUES (1, 'shop', 1)")
    columns = "number, id, tenant, verdict, sha256, document, created"
    for number in range(1, 4):
        values = (number, f"rep_{number}", 1, "suspicious", "0" * 64, document, number * 1000)
        file.execute(f"INSERT INTO reports ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?)", values)
    for number, ruling in enumerate(("overturn", "confirm"), 1):
        values = (number, f"fbk_{number}", 1, "rep_2", ruling, "a note", 1)
        file.execute(
            "INSERT INTO feedback (number, id, tenant, report, ruling, note, created) "
            "VALUES (?, ?, ?, ?, ?, ?, ?)",
            values,
        )
    file.commit()
    file.close()
    database.migrate()
    rows = Cases(database).page(1, Filter(), most=10)
    assert [(row.report, row.created, row.ruling) for row in rows] == [
        ("rep_3", 3000, None),
        ("rep_2", 2000, "confirm"),
        ("rep_1", 1000, None),
    ]
    assert {(row.name, row.kind, row.verdict, row.probability) for row in rows} == {
        ("a.file", "image", Verdict.SUSPICIOUS, 0.75)
    }
    (notes,) = Cases(database).rulings(1, ["rep_2"]).values()
    assert [ruled.note for ruled in notes] == ["a note", "a note"]
    database.close()
