"""A small provider of OpenID Connect on a port of this machine, which can be made to lie."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey

CLIENT, SECRET = "deepfake", "a secret between both"


class Provider:
    """Signs everybody in at once as ``claims`` say; ``lies`` replace what an ID token holds, and
    ``key`` and ``algorithm`` how it is signed.
    """

    def __init__(self) -> None:
        self.issuer = ""
        self.own = _own_key()
        self.key: Any = self.own
        self.algorithm = "RS256"
        self.claims: dict[str, Any] = {
            "sub": "subject-1",
            "email": "Anna@Example.org",
            "email_verified": True,
        }
        self.lies: dict[str, Any] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.metadata: dict[str, Any] = {}

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
        if path == "/.well-known/openid-configuration":
            return _json(
                {
                    "issuer": self.issuer,
                    "authorization_endpoint": f"{self.issuer}/authorize",
                    "token_endpoint": f"{self.issuer}/token",
                    "jwks_uri": f"{self.issuer}/jwks",
                    "id_token_signing_alg_values_supported": ["RS256", "HS256", "none"],
                }
                | self.metadata
            )
        if path == "/jwks":
            return _json({"keys": [self.own.as_dict(private=False)]})
        if path == "/authorize":
            assert query["client_id"] == CLIENT
            assert query["response_type"] == "code"
            assert query["code_challenge_method"] == "S256"
            code = secrets.token_urlsafe()
            self.codes[code] = query
            back = urlencode({"code": code, "state": query["state"]})
            return 302, {"Location": f"{query['redirect_uri']}?{back}"}, b""
        return 404, {}, b""

    def exchange(self, form: dict[str, str], authorization: str) -> tuple[int, Any, bytes]:
        wanted = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        asked = self.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if (
            authorization != f"Basic {wanted}"
            or asked is None
            or asked["code_challenge"] != challenge
            or asked["redirect_uri"] != form.get("redirect_uri")
        ):
            return _json({"error": "invalid_grant"}, 400)
        now = int(time.time())
        claims = {
            **{"iss": self.issuer, "aud": CLIENT, "iat": now, "exp": now + 60},
            **{"nonce": asked["nonce"]},
            **self.claims,
            **self.lies,
        }
        header = {"alg": self.algorithm, "kid": "one"}
        if self.algorithm == "none":
            parts = (json.dumps(part).encode() for part in ({"alg": "none"}, claims))
            token = (
                ".".join(base64.urlsafe_b64encode(it).decode().rstrip("=") for it in parts) + "."
            )
        else:
            token = jwt.encode(header, claims, self.key, algorithms=[self.algorithm])
        return _json({"access_token": "x", "token_type": "Bearer", "id_token": token})

    def sign_with_secret(self) -> None:
        """As whoever knows what the client knows could."""
        self.key, self.algorithm = OctKey.import_key(SECRET), "HS256"


@cache
def _own_key() -> RSAKey:
    """Made once a process, since that takes longer than a test."""
    return RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})


@contextlib.contextmanager
def provided() -> Iterator[Provider]:
    """The provider, on a port."""
    provider = Provider()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            self._send(*provider.answer(parts.path, _first(parts.query)))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            authorization = self.headers.get("Authorization", "")
            self._send(*provider.exchange(_first(body), authorization))

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider.issuer = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _first(query: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(query).items()}


def _json(value: Any, status: int = 200) -> tuple[int, dict[str, str], bytes]:
    return status, {"Content-Type": "application/json"}, json.dumps(value).encode()
