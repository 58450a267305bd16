"""A provider of OpenID Connect that signs people in (OpenID Connect Core 1.0; code flow, PKCE)."""

from __future__ import annotations

from typing import Any, NoReturn

import httpx
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.starlette_client import OAuth
from joserfc.errors import JoseError
from starlette.requests import Request
from starlette.responses import Response

from deepfake.errors import ServiceError
from deepfake.reasons import Code

from ..settings import OpenId

RETURN_PATH = "/login/openid/return"
TIMEOUT_SECONDS = 10
SIGNATURES = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")
"""With keys of the provider: neither none at all nor the secret, which others may know."""
_FAILURES = (AuthlibBaseError, JoseError, httpx.HTTPError, RuntimeError, ValueError, KeyError)


class Provider:
    """The provider that ``openid`` names."""

    def __init__(self, openid: OpenId) -> None:
        self._openid = openid
        self._return = openid.address.rstrip("/") + RETURN_PATH
        issuer = openid.issuer.rstrip("/")
        self._client = OAuth().register(
            "provider",
            client_id=openid.client,
            client_secret=openid.secret,
            server_metadata_url=f"{issuer}/.well-known/openid-configuration",
            client_kwargs={
                "scope": "openid email",
                "code_challenge_method": "S256",
                "timeout": TIMEOUT_SECONDS,
                "trust_env": False,
            },
        )

    async def send_away(self, request: Request) -> Response:
        """The way to the provider. Raises ``ServiceError`` (503) when it does not answer."""
        try:
            metadata = await self._client.load_server_metadata()
            if metadata.get("issuer") != self._openid.issuer:
                raise ValueError("another issuer")
            offered = metadata.get("id_token_signing_alg_values_supported", ["RS256"])
            metadata["id_token_signing_alg_values_supported"] = [
                name for name in offered if name in SIGNATURES
            ] or ["RS256"]
            answer: Response = await self._client.authorize_redirect(request, self._return)
        except _FAILURES as error:
            raise ServiceError(
                "sign-in: the provider cannot be used now",
                code=Code.NO_ANSWER,
                hint="try again later, or ask whoever runs the service",
                status=503,
                retry_seconds=30,
            ) from error
        return answer

    async def read_answer(self, request: Request) -> tuple[str, str | None]:
        """The subject whom the provider has signed in, and their e-mail address if it was verified.

        Raises ``ServiceError`` (401) for an answer to nothing that was asked in this browser, and
        for one that is not the provider's word for this service, now.
        """
        try:
            token: dict[str, Any] = await self._client.authorize_access_token(
                request,
                claims_options={
                    "iss": {"essential": True, "values": [self._openid.issuer]},
                    "sub": {"essential": True},
                },
            )
            claims = token["userinfo"]
            subject = str(claims["sub"])
        except _FAILURES as error:
            _refuse(error)
        verified = claims.get("email_verified") is True and isinstance(claims.get("email"), str)
        return subject, claims["email"] if verified else None


def _refuse(error: Exception) -> NoReturn:
    raise ServiceError(
        "sign-in: the provider's answer is none to this browser, or is too old",
        code=Code.WRONG_PASSWORD,
        hint="begin anew",
        status=401,
    ) from error
