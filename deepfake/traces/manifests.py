"""C2PA manifests, validated offline through ``c2pa-python`` (C2PA 2.x).

Runs inside the limited decoder child. Nothing is fetched: the reader's default would follow a URL
that is named inside the file.
"""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Mapping
from typing import Any, BinaryIO

from ..errors import SettingsError
from ..text import printable
from .metadata_blocks import jpeg_segments

_MIME = {
    "jpeg": "image/jpeg",
    "png": "image/png",
    "webp": "image/webp",
    "avif": "image/avif",
    "heif": "image/heif",
    "gif": "image/gif",
    "tiff": "image/tiff",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "avi": "video/avi",
}
_TRUSTED, _UNTRUSTED = "signingCredential.trusted", "signingCredential.untrusted"
_LABEL = re.compile(r"/c2pa/([^/]+)")
MANIFEST_CHARACTERS = 1024**2
MOST_SEARCHED_BYTES = 64 * 1024**2
_WORDS = (b"c2pa", b"C2PA", b"jumb", b"caBX", b"provenance")
"""Of JUMBF boxes (ISO 19566-5), of the chunks that hold them, and of XMP's dcterms:provenance."""
MISMATCHES = ("Hash.mismatch", "hashedURI.mismatch", "claimSignature.mismatch")
"""Ends of the validation codes that mean tampering: content, assertion or signature differ."""


def read_manifest(
    stream: BinaryIO, *, format: str, trust_anchors: str | None = None
) -> dict[str, Any]:
    """The C2PA manifest of a file, validated offline.

    ``trust_anchors`` is PEM text. ``state`` is ``absent``; ``present``: there is a manifest, or a
    link to one, that could not be validated; ``valid``: hashes and signature hold, the signer is on
    no trust list; ``trusted``: the signer also chains to an anchor; ``tampered``: content or
    signature do not match; ``unreadable``. With it come ``manifest`` (the active one, bounded),
    ``ancestors`` (manifests of its ingredients by label), ``trusted`` (labels of those ancestors
    whose signers chain to an anchor too, by the word of trusted signers alone), ``problems``
    (validation codes), ``remote`` where a link was not followed. Raises ``SettingsError`` for
    broken anchors.
    """
    if format not in _MIME:
        return {"state": "absent", "problems": ["format_without_c2pa"]}
    if not _may_hold_manifest(stream, format):
        return {"state": "absent"}
    import c2pa

    stream.seek(0)
    context = _c2pa_context(trust_anchors)
    try:
        with c2pa.Reader(_MIME[format], stream, context=context) as reader:
            store = json.loads(reader.json())
    except c2pa.C2paError as error:
        return _without_store(error)
    except (ValueError, RecursionError):
        return {"state": "unreadable", "problems": ["json"]}
    return _from_store(store)


def _may_hold_manifest(stream: BinaryIO, format: str) -> bool:
    """Whether a file holds a word without which it can carry neither a manifest nor a link to one;
    looking for them is much quicker than loading the validator. Large files are not searched.
    """
    if format == "jpeg":
        try:
            return any(_holds_word(data) for _, data in jpeg_segments(stream))
        except struct.error:  # cut off within a segment
            return True
    size = stream.seek(0, os.SEEK_END)
    if size > MOST_SEARCHED_BYTES:
        return True
    stream.seek(0)
    return _holds_word(stream.read(size))


def _holds_word(content: bytes) -> bool:
    return any(word in content for word in _WORDS)


def _c2pa_context(trust_anchors: str | None) -> Any:
    """Settings under which nothing is fetched: neither remote manifests nor OCSP."""
    import c2pa

    settings: dict[str, Any] = {
        "core": {"allowed_network_hosts": []},
        "verify": {
            "remote_manifest_fetch": False,
            "ocsp_fetch": False,
            "verify_trust": True,
            "verify_after_reading": True,
        },
    }
    if trust_anchors:
        settings["trust"] = {"user_anchors": trust_anchors}
    try:
        return c2pa.Context.from_dict(settings)
    except c2pa.C2paError as error:
        raise SettingsError(
            "trust anchors: not readable", hint="give a PEM file of CA certificates"
        ) from error


def _without_store(error: Exception) -> dict[str, Any]:
    kind, _, text = str(error).partition(":")
    if kind == "ManifestNotFound":
        return {"state": "absent"}
    if kind in ("Remote", "RemoteManifest"):
        link = text.rpartition(" ")[2]
        return {
            "state": "present",
            "remote": printable(link, most=300),
            "problems": ["manifest.remote_not_fetched"],
        }
    return {"state": "unreadable", "problems": [printable(kind or type(error).__name__, most=80)]}


def _from_store(store: Any) -> dict[str, Any]:
    if not isinstance(store, dict) or not isinstance(store.get("manifests"), dict):
        return {"state": "unreadable", "problems": ["no_manifests"]}
    results = store.get("validation_results") or {}
    codes = _codes(results, "activeManifest", "failure")
    every = codes + [str(item.get("code")) for item in store.get("validation_status") or []]
    state = "present"
    if str(store.get("validation_state")) in ("Trusted", "Valid"):  # one unknown parent: Valid
        trusted = _TRUSTED in _codes(results, "activeManifest", "success")
        state = "trusted" if trusted else "valid"
    elif any(code.endswith(MISMATCHES) for code in codes):
        state = "tampered"
    active = str(store.get("active_manifest"))
    manifests = {key: value for key, value in store["manifests"].items() if key != active}
    believed = _trusted_ancestors(store["manifests"], active, results) if state == "trusted" else ()
    return {
        "state": state,
        "manifest": _fit(store["manifests"].get(active) or {}),
        "ancestors": _fit(dict(list(manifests.items())[:32])),
        "trusted": sorted(believed)[:32],
        "problems": [printable(code) for code in dict.fromkeys(every)][:32],
    }


def _codes(results: dict[str, Any], part: str, outcome: str) -> list[str]:
    found = (results.get(part) or {}).get(outcome) or []
    return [str(item.get("code")) for item in found]


def _trusted_ancestors(
    manifests: Mapping[str, Any], active: str, results: dict[str, Any]
) -> set[str]:
    """Labels of the manifests of ingredients whose signers chain to an anchor, found from the
    trusted active manifest on.

    The validator notes only where it found something else than is recorded in the ingredient. The
    record is that of whoever signed its holder, so only holders that are trusted are asked.
    """
    found: dict[str, set[str]] = {"success": set(), "failure": set()}
    for delta in results.get("ingredientDeltas") or []:
        for outcome, labels in found.items():
            for item in (delta.get("validationDeltas") or {}).get(outcome) or []:
                if outcome == "failure" or item.get("code") == _TRUSTED:
                    labels.update(_LABEL.findall(str(item.get("url"))))
    reached: set[str] = set()
    waiting = [active]
    while waiting:
        for ingredient in (manifests.get(waiting.pop()) or {}).get("ingredients") or []:
            label = str(ingredient.get("active_manifest"))
            if label in reached | found["failure"]:
                continue
            if _is_trusted(ingredient, now=label in found["success"]):
                reached.add(label)
                waiting.append(label)
    return reached


def _is_trusted(ingredient: dict[str, Any], *, now: bool) -> bool:
    """Whether an ingredient was valid, and its signer trusted then, or ``now`` by the validator."""
    record = ingredient.get("validation_results") or {}
    failures = set(_codes(record, "activeManifest", "failure"))
    failures |= {str(item.get("code")) for item in ingredient.get("validation_status") or []}
    if now:
        return failures <= {_UNTRUSTED}
    return not failures and _TRUSTED in _codes(record, "activeManifest", "success")


def _fit(value: dict[str, Any]) -> dict[str, Any]:
    """The fullest bounded copy of at most ``MANIFEST_CHARACTERS``; {} where none is."""
    for characters, entries, depth in ((2000, 64, 12), (300, 32, 10), (100, 8, 10)):
        copy = bounded(value, characters=characters, entries=entries, depth=depth)
        if len(json.dumps(copy)) <= MANIFEST_CHARACTERS:
            return dict(copy)
    return {}


def bounded(value: Any, *, characters: int = 2000, entries: int = 64, depth: int = 12) -> Any:
    """A copy of a JSON value with short texts, short lists and little depth."""
    if isinstance(value, str):
        return value[:characters]
    if isinstance(value, dict | list) and depth == 0:
        return None
    options = {"characters": characters, "entries": entries, "depth": depth - 1}
    if isinstance(value, dict):
        items = list(value.items())[:entries]
        return {str(key)[:200]: bounded(item, **options) for key, item in items}
    if isinstance(value, list):
        return [bounded(item, **options) for item in value[:entries]]
    return value
