"""A site's side of a federation: asks for its task, computes, sends, and waits; what it sent is
kept, so that it goes on after a stop and never pays twice for one round.
"""

from __future__ import annotations

import json
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec

from deepfake.errors import ServiceError, SettingsError
from deepfake.files import replaced
from deepfake.text import printable

from .site import Site
from .terms import (
    DONE,
    STATISTICS,
    Common,
    RefusedUpdate,
    Terms,
    decode,
    encode,
    unpack_head,
    unpack_scale,
)

TIMEOUT_SECONDS = 30.0
POLL_SECONDS = 1.0
_TERMS_BYTES = 16384


class Client:
    """Requests to one server over mutual TLS. A server that does not answer is asked again for
    ``patience_seconds``.
    """

    def __init__(
        self, address: str, context: ssl.SSLContext, *, patience_seconds: float = 600.0
    ) -> None:
        self._patience = patience_seconds
        self._http = httpx.Client(
            base_url=address,
            verify=context,
            timeout=TIMEOUT_SECONDS,
            trust_env=False,
            follow_redirects=False,
        )

    def close(self) -> None:
        """End the connections."""
        self._http.close()

    def terms(self) -> Terms:
        """The recipe; raises ``ServiceError`` for one that cannot be followed."""
        _, body = self._ask("GET", "/v1/terms", most=_TERMS_BYTES)
        try:
            terms = msgspec.json.decode(body, type=Terms)
            terms.check()
        except (msgspec.MsgspecError, RefusedUpdate) as error:
            raise ServiceError(
                f"terms of the server: cannot be followed ({printable(str(error), most=200)})",
                hint="sites and server need the same release",
            ) from error
        return terms

    def task(self, terms: Terms) -> tuple[int, str, Common | None, bool]:
        """Round, phase, the common numbers where there are some, and whether to wait."""
        response, body = self._ask("GET", "/v1/task", most=2 * terms.most_bytes)
        try:
            number, phase = int(response.headers["x-round"]), response.headers["x-phase"]
            if response.status_code == 204:
                return number, phase, None, True
            if phase == STATISTICS:
                decode(body)
                return number, phase, None, False
            lengths = {"scale": terms.numbers(STATISTICS), "head": terms.features + 2}
            found = decode(body, **lengths)
        except (KeyError, ValueError, RefusedUpdate) as error:
            raise ServiceError(
                f"task of the server: cannot be read ({printable(str(error), most=200)})"
            ) from error
        scale = unpack_scale(found["scale"], started=terms.started)
        return number, phase, Common(scale, unpack_head(found["head"])), False

    def send(self, number: int, body: bytes) -> bool:
        """Send an update; False where the round has ended meanwhile or it was refused."""
        response, text = self._ask("PUT", f"/v1/updates/{number}", most=4096, content=body)
        if response.status_code == 409:
            reason = printable(text.decode("utf-8", "replace"), most=200)
            print(f"not taken: {reason}", file=sys.stderr)
        return response.status_code == 204

    def _ask(
        self, method: str, path: str, *, most: int, **given: Any
    ) -> tuple[httpx.Response, bytes]:
        """A response, and its body of at most so many bytes."""
        until = time.monotonic() + self._patience
        while True:
            try:
                with self._http.stream(method, path, **given) as response:
                    body = b""
                    for part in response.iter_bytes():
                        body += part
                        if len(body) > most:
                            raise ServiceError(f"server: answers with more than {most} bytes")
            except httpx.ConnectError as error:
                if "certificate" in str(error).lower() or time.monotonic() > until:
                    raise _unreachable(error) from error
            except httpx.TransportError as error:
                if time.monotonic() > until:
                    raise _unreachable(error) from error
            else:
                if response.status_code in (200, 204) or (method, response.status_code) == (
                    "PUT",
                    409,
                ):
                    return response, body
                if response.status_code != 503:
                    reason = printable(body.decode("utf-8", "replace"), most=200)
                    raise ServiceError(f"server: refuses ({response.status_code}: {reason})")
            time.sleep(POLL_SECONDS)


def _unreachable(error: Exception) -> ServiceError:
    return ServiceError(
        f"server: cannot be reached ({printable(str(error) or type(error).__name__, most=200)})",
        hint="look at --address and the certificates, and whether it runs; then say it again",
    )


def take_part(
    client: Client,
    site: Site,
    *,
    folder: Path,
    told: Callable[[str], None],
    poll_seconds: float = POLL_SECONDS,
) -> Common:
    """Follow the rounds to the end and return what all sites share then.

    ``folder`` keeps the last update and what was spent. A round that is asked for again gets the
    same update again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    notes, last = folder / "site.json", folder / "update.safetensors"
    before = json.loads(notes.read_text(encoding="utf-8")) if notes.exists() else {}
    if before and before["terms"] != msgspec.to_builtins(site.terms):
        raise SettingsError(
            f"folder {folder}: holds what this site sent to a federation with other terms",
            hint="choose another --output",
        )
    site.history[:] = [(float(a), float(b), int(c)) for a, b, c in before.get("history", [])]
    made, refused = before.get("round", -1), -1
    while True:
        number, phase, common, wait = client.task(site.terms)
        if phase == DONE and common is not None:
            return common
        if wait or refused == number:
            time.sleep(poll_seconds)
            continue
        if made != number:
            if phase == STATISTICS:
                update = site.statistics()
            elif common is None:
                raise ServiceError("task of the server: has no common head")
            else:
                update = site.step(common, number)
            with replaced(last) as partial:
                partial.write_bytes(encode(update=update))
            # noted before it is sent: what was spent stays spent
            state = {
                "terms": msgspec.to_builtins(site.terms),
                "round": number,
                "history": site.history,
            }
            with replaced(notes) as partial:
                partial.write_text(json.dumps(state) + "\n", encoding="utf-8")
            made = number
        if client.send(number, last.read_bytes()):
            told(f"round {number} of {site.terms.rounds}: sent")
        else:
            refused = number
