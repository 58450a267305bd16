"""Signed provenance: what a C2PA manifest declares, and how far it can be believed.

Five states are kept apart, because moderators mix them up:

* *absent* – no manifest; most genuine files have none, so this means nothing;
* *present* – a manifest, or a link to one, that could not be validated here;
* *valid* – content and signature match, but nobody vouches for the signer. Valid is not trusted:
  anyone can make such a certificate;
* *trusted* – the signer also chains to an authority on the given trust list;
* *tampered* – the content or the manifest was changed after signing. Untrusted is not tampered, and
  tampered proves neither synthesis nor its absence: a resave by an old program does the same.

A declaration of AI in a valid or trusted manifest is conclusive even from an unknown signer,
because forgers hide synthesis and do not declare it. The exception is someone who relabels a
genuine picture to discredit it, so the claim always says whether the signer is trusted. A
declaration of a camera original is what a forger would sign, so it never lowers the score; it is
strong from a trusted signer and weak from any other.

Standards: C2PA 2.x (actions, ingredients), IPTC Digital Source Type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import SettingsError
from ..text import printable
from ..traces.generators import SOURCE_TYPES, source_type
from ..traces.manifests import MISMATCHES
from ..types import Evidence, Kind, Status

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..media.opening import Media
    from ..settings import DetectOptions

SCORE = 0.999
_SOURCE_TYPE_KEYS = ("digitalSourceType", "Iptc4xmpExt:DigitalSourceType", "digital_source_type")
_MAKING = ("c2pa.created", "c2pa.opened", "c2pa.converted", "c2pa.published")
_AUTHORITY_BYTES = 4 * 1024**2

_STATES = {
    "absent": "The file carries no C2PA manifest, which says nothing about how it was made.",
    "present": "The file carries a C2PA manifest that could not be validated here, so nothing in "
    "it counts.",
    "unreadable": "The file carries C2PA data that cannot be read, so nothing in it counts.",
    "tampered": "The content or its C2PA manifest was changed after it was signed, which neither "
    "proves nor disproves synthesis.",
}
_SIGNERS = {
    "valid": "a valid C2PA manifest, whose signer {signer} is not on a trust list",
    "trusted": "a C2PA manifest of the trusted signer {signer}",
}


def read_trust_anchors(path: Path | None) -> str | None:
    """The PEM text of a trust list, or None without one.

    Raises ``SettingsError`` for a file that cannot be read or holds no certificate.
    """
    if path is None:
        return None
    hint = "give a PEM file of CA certificates"
    try:
        if path.stat().st_size > _AUTHORITY_BYTES:
            raise SettingsError(f"trust anchors {str(path)!r}: over 4 MiB", hint=hint)
        text = path.read_text(encoding="ascii")
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SettingsError(f"trust anchors {str(path)!r}: {reason}", hint=hint) from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"trust anchors {str(path)!r}: not PEM text", hint=hint) from error
    if not re.search(r"-----BEGIN CERTIFICATE-----.+-----END CERTIFICATE-----", text, re.S):
        raise SettingsError(f"trust anchors {str(path)!r}: no certificate inside", hint=hint)
    return text


class Provenance:
    """Reads the C2PA manifest of a file; ``trust_anchors`` is PEM text."""

    name = "provenance"
    kinds = frozenset(Kind)

    def __init__(self, trust_anchors: str | None = None) -> None:
        self._trust_anchors = trust_anchors

    def analyze(self, media: Media, engine: Engine, options: DetectOptions) -> list[Evidence]:
        found = media.manifest(trust_anchors=self._trust_anchors)
        return [judge(found)]


def judge(found: dict[str, Any]) -> Evidence:
    """Evidence from the result of ``container.read_manifest``; ``{}`` counts as absent.

    ``details["declares"]`` is what counts; what an unvalidated manifest says is ``unverified``.
    """
    state = str(found.get("state", "absent"))
    manifest = _mapping(found.get("manifest"))
    declares, kind = declaration(manifest, _mapping(found.get("ancestors")))
    details: dict[str, Any] = {
        "state": state,
        "declares": declares if state in _SIGNERS else None,
        "unverified": None if state in _SIGNERS else declares,
        "digital_source_type": kind,
        "generator": generator(manifest),
        "signer": _signer(manifest),
        "problems": list(found.get("problems", [])),
    }
    if "remote" in found:
        details["remote"] = found["remote"]
    if state == "absent":
        return _evidence(_STATES[state], details, status=Status.SKIPPED, reason="no_manifest")
    if state not in _SIGNERS:
        return _evidence(_STATES.get(state, _STATES["unreadable"]), details)
    return _declared(state, declares, details)


def _declared(state: str, declares: str | None, details: dict[str, Any]) -> Evidence:
    signer = details["signer"] or "of no name"
    by = _SIGNERS[state].format(signer=signer)
    tool = f" with {details['generator']}" if details["generator"] else ""
    if declares == "generated":
        claim = f"The file is declared to be made by a generative model{tool}, in {by}."
        return _evidence(claim, details, score=SCORE, conclusive=True)
    if declares == "edited":
        claim = (
            f"The file is declared to be edited by, or composed with, a generative model{tool}, "
            f"in {by}."
        )
        return _evidence(claim, details, score=SCORE, conclusive=True)
    if declares == "capture":
        details["strength"] = "strong" if state == "trusted" else "weak"
        weight = (
            "strong evidence of a camera original"
            if state == "trusted"
            else "only weak evidence of a camera original, because anyone can sign so"
        )
        return _evidence(f"The file is declared to be a capture, in {by}: {weight}.", details)
    return _evidence(f"The file carries {by}; it declares neither AI nor a capture.", details)


def _evidence(
    claim: str,
    details: dict[str, Any],
    *,
    status: Status = Status.OK,
    reason: str | None = None,
    score: float | None = None,
    conclusive: bool = False,
) -> Evidence:
    return Evidence(
        source=Provenance.name,
        status=status,
        claim=claim,
        reason=reason,
        score=score,
        conclusive=conclusive,
        details=details,
    )


def declaration(
    manifest: dict[str, Any], ancestors: dict[str, Any]
) -> tuple[str | None, str | None]:
    """What a manifest declares (``generated``, ``edited``, ``capture``, None) and by which term.

    What its parent was made by counts as its own making; an ingredient that was generated and
    placed in it counts as an edit.
    """
    findings = list(_findings(manifest, ancestors))
    for word in ("generated", "edited", "capture"):
        for declared, kind in findings:
            if declared == word:
                return word, kind
    return None, None


def _findings(manifest: dict[str, Any], ancestors: dict[str, Any]) -> Iterator[tuple[str, str]]:
    waiting = [(manifest, "parentOf")]
    seen: set[tuple[str, str]] = set()
    while waiting:
        current, role = waiting.pop(0)
        for declared, kind in _own_findings(current):
            if role == "parentOf":
                yield declared, kind
            elif declared != "capture":
                yield "edited", kind
        for ingredient in map(_mapping, _list(current.get("ingredients"))[:64]):
            relation = str(ingredient.get("relationship"))
            if relation not in ("parentOf", "componentOf") or _is_tampered(ingredient):
                continue
            label = str(ingredient.get("active_manifest"))
            step = (label, relation if role == "parentOf" else role)
            if label in ancestors and step not in seen:
                seen.add(step)
                waiting.append((_mapping(ancestors[label]), step[1]))


def _is_tampered(ingredient: dict[str, Any]) -> bool:
    results = _mapping(_mapping(ingredient.get("validation_results")).get("activeManifest"))
    failures = [*_list(results.get("failure")), *_list(ingredient.get("validation_status"))]
    return any(str(_mapping(item).get("code")).endswith(MISMATCHES) for item in failures)


def _own_findings(manifest: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for assertion in map(_mapping, _list(manifest.get("assertions"))):
        data = _mapping(assertion.get("data"))
        if not str(assertion.get("label")).startswith("c2pa.actions"):
            kind = source_type(_source_type_of(data))
            if kind in SOURCE_TYPES:
                yield SOURCE_TYPES[kind], kind
            continue
        for action in map(_mapping, _list(data.get("actions"))):
            kind = source_type(_source_type_of(action))
            if kind not in SOURCE_TYPES:
                continue
            declared = SOURCE_TYPES[kind]
            # A trained model named in an edit changed a part; it made the whole only in a creation.
            part = declared == "generated" and action.get("action") not in _MAKING
            yield ("edited" if part else declared), kind


def _source_type_of(action: dict[str, Any]) -> str:
    for holder in (action, _mapping(action.get("parameters"))):
        for key in _SOURCE_TYPE_KEYS:
            if isinstance(holder.get(key), str):
                return str(holder[key])
    return ""


def generator(manifest: dict[str, Any]) -> str | None:
    """The software agent of an action that names an AI source type, else the claim generator."""
    names: list[str] = []
    for assertion in _list(manifest.get("assertions")):
        actions = _list(_mapping(_mapping(assertion).get("data")).get("actions"))
        for action in map(_mapping, actions):
            agent = action.get("softwareAgent")
            name = agent.get("name") if isinstance(agent, dict) else agent
            declared = SOURCE_TYPES.get(source_type(_source_type_of(action)))
            if isinstance(name, str):
                names.insert(0 if declared in ("generated", "edited") else len(names), name)
    for info in map(_mapping, _list(manifest.get("claim_generator_info"))):
        if isinstance(info.get("name"), str):
            names.append(info["name"])
    if isinstance(manifest.get("claim_generator"), str):
        names.append(manifest["claim_generator"])
    return printable(names[0], most=60) if names else None


def _signer(manifest: dict[str, Any]) -> str | None:
    info = _mapping(manifest.get("signature_info"))
    names = (info.get("common_name"), info.get("issuer"))
    known = [printable(name, most=60) for name in names if isinstance(name, str) and name]
    return ", ".join(dict.fromkeys(known)) or None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
