"""Signatures of webhooks after the Standard Webhooks specification (version 1, symmetric keys)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from .errors import ServiceError, SettingsError
from .reasons import Code

PREFIX = "whsec_"
TOLERANCE_SECONDS = 300.0


class WebhookEvent(NamedTuple):
    """What a webhook tells. ``id`` is the same each time that it is sent: whoever has seen it has
    nothing to do. ``time`` is ISO 8601 in UTC.
    """

    id: str
    type: str
    time: str
    data: Mapping[str, Any]


def sign(secret: str, *, id: str, timestamp: int, body: bytes) -> str:
    """One signature of a message that is sent at ``timestamp`` (seconds since 1970).

    Raises ``SettingsError`` for what is no secret of a webhook.
    """
    signed = f"{id}.{timestamp}.".encode() + body
    digest = hmac.new(_key(secret), signed, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def verify_webhook(
    body: bytes,
    headers: Mapping[str, str],
    secret: str,
    *,
    tolerance_seconds: float = TOLERANCE_SECONDS,
) -> WebhookEvent:
    """The event in the body of a request, exactly as it came, if the service has signed it.

    Raises ``ServiceError`` (``forged``) when it was not signed with ``secret``, was changed, or was
    sent longer ago than ``tolerance_seconds``, or so far in the future. A message that is sent
    again within that time has the ``id`` of before: keep those that were seen. Raises
    ``SettingsError`` for what is no secret of a webhook.
    """
    found = {name.lower(): value for name, value in headers.items()}
    id, moment = found.get("webhook-id", ""), found.get("webhook-timestamp", "")
    if not (moment.isascii() and moment.isdigit() and len(moment) < 12):
        raise _forged("carries no time")
    expected = sign(secret, id=id, timestamp=int(moment), body=body).encode()
    signatures = found.get("webhook-signature", "").split()
    if not any(hmac.compare_digest(one.encode(), expected) for one in signatures):
        raise _forged("is not signed with this secret")
    if abs(time.time() - int(moment)) > tolerance_seconds:
        raise _forged("is too old, or from the future")
    try:
        said = json.loads(body)
        return WebhookEvent(id, said["type"], said["timestamp"], said["data"])
    except (ValueError, KeyError, TypeError) as error:
        raise _forged("holds no event") from error


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (ValueError, binascii.Error):
        key = b""
    if len(key) < 24:
        raise SettingsError(
            "secret: is none of a webhook", hint="give it as the service showed it, whsec_…"
        )
    return key


def _forged(why: str) -> ServiceError:
    return ServiceError(f"webhook: {why}", code=Code.FORGED, status=None)
