"""Envelopes: what is signed, with both signatures (DSSE 1.0, the Dead Simple Signing Envelope).

Signed is the pre-authentication encoding ``DSSEv1 LEN(type) type LEN(body) body``, so that what was
signed as one thing never passes for another. An envelope is one line of JSON with sorted keys and
no spaces; any other way to write the same is refused, so that no byte of it can be changed. There
are exactly two signatures, Ed25519 first; which algorithm a signature is of follows from the
trusted key that its ``keyid`` names, never from the envelope.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from .keys import ALGORITHMS, PrivatePair, PublicPair

MOST_BYTES = 256 * 1024


class Unsealed(Exception):
    """Why an envelope cannot be believed, as a clause; ``hint`` is the remedy."""

    def __init__(self, why: str, *, hint: str) -> None:
        self.hint = hint
        super().__init__(why)


def canonical(values: Any) -> bytes:
    """Values as JSON in the one way that is signed: sorted keys, no spaces, ASCII."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return text.encode("ascii")


def encode(kind: str, body: bytes) -> bytes:
    """The pre-authentication encoding of a body of a media type."""
    name = kind.encode("utf-8")
    return b"DSSEv1 %d %s %d %s" % (len(name), name, len(body), body)


def seal(body: bytes, kind: str, pair: PrivatePair) -> bytes:
    """An envelope around a body of a media type, signed by both keys."""
    signatures = pair.sign(encode(kind, body))
    values = {
        "payload": base64.b64encode(body).decode("ascii"),
        "payloadType": kind,
        "signatures": [
            {"keyid": keyid, "sig": base64.b64encode(signature).decode("ascii")}
            for keyid, signature in zip(pair.public.ids, signatures, strict=True)
        ],
    }
    return canonical(values) + b"\n"


def unseal(
    raw: bytes, kind: str, trusted: Mapping[str, PublicPair], revoked: Mapping[str, str]
) -> tuple[bytes, PublicPair]:
    """The body and the trusted pair that signed it; raises :class:`Unsealed`.

    ``trusted`` holds pairs by the id of their Ed25519 key, ``revoked`` reasons by the id of a key.
    """
    values = _parse(raw, kind)
    one, other = values["signatures"]
    keyids = one["keyid"], other["keyid"]
    for keyid in keyids:
        if keyid in revoked:
            raise Unsealed(
                f"its key {keyid[:12]} is revoked ({revoked[keyid]})",
                hint="get it again from its publisher, signed by a key that stands",
            )
    pair = trusted.get(keyids[0])
    if pair is None or keyids != pair.ids:
        raise Unsealed(
            f"is not signed by a trusted pair of keys (it names {keyids[0][:12]} and "
            f"{keyids[1][:12]})",
            hint="if you know its publisher, give the public keys with --trusted-keys FOLDER; a "
            "bundle of your own is signed by: deepfake models sign FOLDER",
        )
    body = _decode(values["payload"])
    wrong = pair.verify((_decode(one["sig"]), _decode(other["sig"])), encode(kind, body))
    if wrong is not None:
        raise _broken(f"its {wrong} signature is wrong")
    return body, pair


def _parse(raw: bytes, kind: str) -> dict[str, Any]:
    """The values of an envelope that is written as it must be."""
    if len(raw) > MOST_BYTES:
        raise _broken("is larger than any signature")
    try:
        values: dict[str, Any] = json.loads(raw)
        exact = isinstance(values, dict) and canonical(values) + b"\n" == raw
    except (ValueError, RecursionError):
        exact = False
    if not exact or set(values) != {"payload", "payloadType", "signatures"}:
        raise _broken("its signature is not an envelope")
    if values["payloadType"] != kind:
        raise _broken("its signature is about something else")
    signatures = values["signatures"]
    if not isinstance(signatures, list) or len(signatures) != len(ALGORITHMS):
        raise _broken(f"has not exactly two signatures ({' and '.join(ALGORITHMS)})")
    for one in signatures:
        whole = isinstance(one, dict) and set(one) == {"keyid", "sig"}
        if not whole or not all(isinstance(value, str) for value in one.values()):
            raise _broken("its signature is not an envelope")
    if signatures[0]["keyid"] == signatures[1]["keyid"]:
        raise _broken("is signed twice by one key")
    return values


def _decode(text: Any) -> bytes:
    """Base64, written in the only way."""
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError) as error:
        raise _broken("its signature is not an envelope") from error
    if base64.b64encode(content).decode("ascii") != text:
        raise _broken("its signature is not an envelope")
    return content


def _broken(why: str) -> Unsealed:
    return Unsealed(why, hint="do not use it; restore it from where it came")
