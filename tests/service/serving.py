"""A service over bundles whose scores are known, in this process and on a port."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from deepfake_app.address import Names
from deepfake_app.limits import PageLimits
from deepfake_service import serving
from deepfake_service.service import Service, open_store, opened
from deepfake_service.settings import ServiceSettings
from deepfake_service.store.keys import Keys, Scope
from deepfake_service.web.application import make_app

from deepfake.detector import Detector
from tests.media_files import image_bytes, scene
from tests.waiting import until

EVERYTHING = frozenset(Scope)
ADDRESS = "http://127.0.0.1"
PICTURE = image_bytes(scene())


class Client:
    """Asks the application of a service, without a port."""

    def __init__(self, service: Service, key: str | None = None) -> None:
        self.service = service
        self.app = make_app(service, Names("127.0.0.1"))
        self.key = key

    def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        headers = httpx.Headers(request.pop("headers", {}))
        if self.key is not None and "authorization" not in headers:
            headers["Authorization"] = f"Bearer {self.key}"

        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport, base_url=ADDRESS, timeout=60
            ) as client:
                return await client.request(method, path, headers=headers, **request)

        return asyncio.run(ask())

    def get(self, path: str, **request: Any) -> httpx.Response:
        return self.ask("GET", path, **request)

    def post(self, path: str, **request: Any) -> httpx.Response:
        return self.ask("POST", path, **request)

    def send(self, path: str, content: bytes = PICTURE, **request: Any) -> httpx.Response:
        """Send a file as the body."""
        headers = {"Content-Type": "application/octet-stream", **request.pop("headers", {})}
        return self.post(path, content=content, headers=headers, **request)

    def wait(self, job: str) -> dict[str, Any]:
        """A job once it has ended, and the service is done with what follows from that."""
        text = self.get(f"/v1/jobs/{job}/events").text
        assert "event: end" in text
        until(lambda: not self.service.workers.works_on(job))
        answer: dict[str, Any] = self.get(f"/v1/jobs/{job}").json()
        return answer

    def media(self) -> list[Path]:
        """What lies on disk of media."""
        return [path for path in self.service.uploads.folder.rglob("*") if path.is_file()]


@contextlib.contextmanager
def serviced(detector: Detector, folder: Path, **settings: Any) -> Iterator[Client]:
    """A client of a service in ``folder``."""
    limits = settings.pop("limits", PageLimits())
    quick = {"back_off_seconds": 0.01, "examinations": 2}
    chosen = ServiceSettings(folder=folder, limits=limits, **{**quick, **settings})
    with opened(detector, chosen) as service:
        yield Client(service)


@contextlib.contextmanager
def served(detector: Detector, folder: Path, **settings: Any) -> Iterator[str]:
    """The address of a service with its page on a port of this machine."""
    limits = settings.pop("limits", PageLimits())
    manager = serving.running(
        detector,
        host="127.0.0.1",
        port=0,
        settings=ServiceSettings(folder=folder, limits=limits, **settings),
    )

    async def enter() -> str:  # within a loop gradio makes none of its own
        return manager.__enter__()

    try:
        yield asyncio.run(enter())
    finally:
        manager.__exit__(None, None, None)


@contextlib.contextmanager
def keys_in(folder: Path) -> Iterator[Keys]:
    """The keys of the service in ``folder``, as ``deepfake keys`` opens them."""
    with open_store(ServiceSettings(folder=folder)) as (_, keys):
        yield keys


def break_database(client: Client) -> None:
    """Put something else in the place of the database. The files beside it are taken away and not
    changed, because threads may have one of them mapped.
    """
    client.service.database.close()
    for path in client.service.settings.folder.glob("service.sqlite-*"):
        path.unlink(missing_ok=True)
    client.service.settings.database.write_bytes(b"this is no database " * 500)
