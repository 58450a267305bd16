"""Signed provenance: what a C2PA manifest declares, and how far it can be believed.

Five states are kept apart, because moderators mix them up:

* *absent* – no manifest; most genuine files have none, so this means nothing;
* *present* – a manifest, or a link to one, that could not be validated here;
* *valid* – content and signature match, but nobody vouches for the signer. Valid is not trusted:
  anyone can make such a certificate;
* *trusted* – the signer also chains to an authority on the trust list;
* *tampered* – the manifest is invalid: it or the content was changed after signing. Untrusted is
  not tampered, and tampered proves neither synthesis nor its absence: a resave by an old program
  does the same.

What a trusted signer declares is proof; what a valid manifest of an unknown signer declares is a
claim, of synthesis as of a camera original, because both can be signed by whoever wants to
discredit or to clear a file. The same holds inside a trusted manifest: a program signs what it did
itself, not what it found in the file that it opened. So only its own actions count as proof, and
those of ingredients that it saw signed by a trusted signer; what else it carries (copied metadata,
manifests of unknown signers) stays a claim. A capture clears a file, so it is proof only where the
active manifest itself tells of it and of nothing that could have changed the picture since; that of
a parent says nothing of what was made from it.

Standards: C2PA 2.x (actions, ingredients), IPTC Digital Source Type.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import SettingsError
from ..reasons import Code
from ..text import printable
from ..traces.generators import SOURCE_TYPES, source_type
from ..traces.manifests import MISMATCHES
from ..types import Declares, Evidence, Kind, Status, Weight

if TYPE_CHECKING:
    from ..engine.engine import Engine
    from ..media.opening import Media
    from ..settings import DetectOptions

SCORE = 0.999
_SOURCE_TYPE_KEYS = ("digitalSourceType", "Iptc4xmpExt:DigitalSourceType", "digital_source_type")
_MAKING = ("c2pa.created", "c2pa.opened", "c2pa.converted", "c2pa.published")
_HARMLESS = frozenset(
    [
        "c2pa.created",
        "c2pa.converted",
        "c2pa.published",
        "c2pa.repackaged",
        "c2pa.resized",
        "c2pa.transcoded",
    ]
)
"""Actions after which a capture is still one; cropping, orientation and unknown ones are not."""
_AUTHORITY_BYTES = 4 * 1024**2
TRUST_LIST_DATE = "2026-08-13"
"""When C2PA published the trust list that is shipped (see ``deepfake/trust/c2pa_trust_list``)."""
SHIPPED_ANCHORS = Path(__file__).parents[1] / "trust" / "c2pa_trust_list" / "anchors.pem"

_STATES = {
    "absent": "The file carries no C2PA manifest, which says nothing about how it was made.",
    "present": "The file carries a C2PA manifest that could not be validated here, so nothing in "
    "it counts.",
    "unreadable": "The file carries C2PA data that cannot be read, so nothing in it counts.",
    "tampered": "The file carries an invalid C2PA manifest: it or the content was changed after "
    "it was signed, which neither proves nor disproves synthesis.",
}
_SIGNERS = {
    "valid": "a valid C2PA manifest of an unknown signer ({signer}, not on the trust list)",
    "trusted": "a valid C2PA manifest of a trusted signer ({signer})",
}
_NOT_VOUCHED = "a manifest or note inside it, for which that signer does not vouch"


class Declaration(NamedTuple):
    """What is declared: ``generated``, ``edited`` or ``capture``, by which IPTC source type,
    whether the signer of the active manifest vouches for it, and whether a capture is ``original``:
    the making of this very file, which nothing changed since.
    """

    word: str
    source_type: str
    vouched: bool
    original: bool = False


def read_trust_anchors(path: Path | None) -> str:
    """The PEM text of a trust list: that of C2PA, which is shipped, unless there is another.

    Raises ``SettingsError`` for a file that cannot be read or holds no certificate.
    """
    if path is None:
        return SHIPPED_ANCHORS.read_text(encoding="ascii")
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

    Its ``declares`` is what counts; what an unvalidated manifest says is ``unverified`` among the
    details.
    """
    state = str(found.get("state", "absent"))
    manifest = _mapping(found.get("manifest"))
    trusted = frozenset(map(str, _list(found.get("trusted"))))
    declared = declaration(manifest, _mapping(found.get("ancestors")), trusted=trusted)
    word = declared.word if declared else None
    details: dict[str, Any] = {
        "state": state,
        "declares": word if state in _SIGNERS else None,
        "unverified": None if state in _SIGNERS else word,
        "digital_source_type": declared.source_type if declared else None,
        "generator": generator(manifest),
        "signer": _signer(manifest),
        "problems": list(found.get("problems", [])),
    }
    if "remote" in found:
        details["remote"] = found["remote"]
    if state == "absent":
        return _evidence(_STATES[state], details, status=Status.SKIPPED, reason=Code.NO_MANIFEST)
    if state not in _SIGNERS:
        return _evidence(_STATES.get(state, _STATES["unreadable"]), details)
    return _declared(state, declared, manifest, details)


def _declared(
    state: str, declared: Declaration | None, manifest: dict[str, Any], details: dict[str, Any]
) -> Evidence:
    by = _SIGNERS[state].format(signer=_signer(manifest) or "of no name")
    if declared is None:
        return _evidence(f"The file carries {by}; it declares neither AI nor a capture.", details)
    proof = state == "trusted" and declared.vouched
    if not declared.vouched:
        by += f" – more exactly, in {_NOT_VOUCHED}" if state == "trusted" else ""
    if declared.word == "capture":
        why = "it may have been changed since" if proof else "anyone can sign so"
        return _capture(by, details, proof=proof and declared.original, why=why)
    tool = f" with {name}" if (name := generator(manifest)) else ""
    how = "made by" if declared.word == "generated" else "edited by, or composed with,"
    return _evidence(
        f"The file is declared to be {how} a generative model{tool}, in {by}.",
        details,
        score=SCORE if proof else None,
        weight=Weight.PROOF if proof else Weight.CLAIM,
        declares=Declares(declared.word),
    )


def _capture(by: str, details: dict[str, Any], *, proof: bool, why: str) -> Evidence:
    details["strength"] = "strong" if proof else "weak"
    worth = (
        "strong evidence of a camera original"
        if proof
        else f"only weak evidence of a camera original, because {why}"
    )
    return _evidence(
        f"The file is declared to be a capture, in {by}: {worth}.",
        details,
        weight=Weight.PROOF if proof else Weight.CLAIM,
        declares=Declares.CAPTURE,
    )


def _evidence(
    claim: str,
    details: dict[str, Any],
    *,
    status: Status = Status.OK,
    reason: Code | None = None,
    score: float | None = None,
    weight: Weight = Weight.SCORE,
    declares: Declares | None = None,
) -> Evidence:
    return Evidence(
        source=Provenance.name,
        status=status,
        claim=claim,
        reason=reason,
        score=score,
        weight=weight,
        declares=declares,
        details=details,
    )


def declaration(
    manifest: dict[str, Any], ancestors: dict[str, Any], *, trusted: Set[str] = frozenset()
) -> Declaration | None:
    """What a manifest declares: synthesis before capture, vouched before not, made before edited.

    ``trusted`` holds the labels of the ancestors that are vouched for if the manifest itself is.
    What its parent was generated by counts as its own making; an ingredient that was generated and
    placed in it counts as an edit. Of a parent that was captured it is no original.
    """

    def order(found: Declaration) -> tuple[bool, ...]:
        capture, edited = found.word == "capture", found.word == "edited"
        return capture, not found.vouched, not found.original, edited

    return min(_findings(manifest, ancestors, trusted), key=order, default=None)


def _findings(
    manifest: dict[str, Any], ancestors: dict[str, Any], trusted: Set[str]
) -> Iterator[Declaration]:
    waiting = [(manifest, "parentOf", True)]
    seen: set[tuple[str, str, bool]] = set()
    while waiting:
        current, role, vouched = waiting.pop(0)
        for declared in _own_findings(current):
            known = declared._replace(
                vouched=declared.vouched and vouched,
                original=declared.original and current is manifest and _is_unchanged(manifest),
            )
            if role == "parentOf":
                yield known
            elif declared.word != "capture":
                yield known._replace(word="edited")
        for ingredient in map(_mapping, _list(current.get("ingredients"))[:64]):
            relation = str(ingredient.get("relationship"))
            if relation not in ("parentOf", "componentOf") or _is_tampered(ingredient):
                continue
            label = str(ingredient.get("active_manifest"))
            step = (label, relation if role == "parentOf" else role, vouched and label in trusted)
            if label in ancestors and step not in seen:
                seen.add(step)
                waiting.append((_mapping(ancestors[label]), *step[1:]))


def _is_tampered(ingredient: dict[str, Any]) -> bool:
    results = _mapping(_mapping(ingredient.get("validation_results")).get("activeManifest"))
    failures = [*_list(results.get("failure")), *_list(ingredient.get("validation_status"))]
    return any(str(_mapping(item).get("code")).endswith(MISMATCHES) for item in failures)


def _is_unchanged(manifest: dict[str, Any]) -> bool:
    """Whether a manifest tells of no opened or placed file and of no action that may change one."""
    for ingredient in map(_mapping, _list(manifest.get("ingredients"))):
        if ingredient.get("relationship") != "inputTo":
            return False
    return all(str(action.get("action")) in _HARMLESS for action in _actions(manifest))


def _actions(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for assertion in map(_mapping, _list(manifest.get("assertions"))):
        yield from map(_mapping, _list(_mapping(assertion.get("data")).get("actions")))


def _own_findings(manifest: dict[str, Any]) -> Iterator[Declaration]:
    for assertion in map(_mapping, _list(manifest.get("assertions"))):
        data = _mapping(assertion.get("data"))
        if not str(assertion.get("label")).startswith("c2pa.actions"):
            kind = source_type(_source_type_of(data))
            if kind in SOURCE_TYPES:  # metadata that may have been in the file before
                yield Declaration(SOURCE_TYPES[kind], kind, vouched=False)
            continue
        for action in map(_mapping, _list(data.get("actions"))):
            kind = source_type(_source_type_of(action))
            if kind not in SOURCE_TYPES:
                continue
            declared = SOURCE_TYPES[kind]
            # A trained model named in an edit changed a part; it made the whole only in a creation.
            part = declared == "generated" and action.get("action") not in _MAKING
            word, made = "edited" if part else declared, action.get("action") == "c2pa.created"
            yield Declaration(word, kind, vouched=True, original=declared == "capture" and made)


def _source_type_of(action: dict[str, Any]) -> str:
    for holder in (action, _mapping(action.get("parameters"))):
        for key in _SOURCE_TYPE_KEYS:
            if isinstance(holder.get(key), str):
                return str(holder[key])
    return ""


def generator(manifest: dict[str, Any]) -> str | None:
    """The software agent of an action that names an AI source type, else the claim generator."""
    names: list[str] = []
    for action in _actions(manifest):
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
