"""Signed bundles: an envelope in the bundle's folder over an in-toto statement (v1) about it.

The subjects of the statement are the sha256 of every file of the folder, ``bundle.json`` with its
thresholds and the card with its pictures among them; the predicate says what the bundle is, what it
was trained on, by which recipe and source commit where these are known, and its licence. A bundle
is believed when both signatures of one trusted pair of keys verify, and every file is there, equal
and no other beside them.

Trusted are the pairs that ship with the package (``public_keys``), the one that this user signs
with (:func:`deepfake.settings.user_keys_folder`), and those of ``Settings.trusted_keys``. What is
in ``revoked.json``, in the package and beside the models, is refused whoever signed it::

    {
      "schema": "deepfake-revoked/1",
      "keys": {"id of a key": "why"},
      "bundles": {"sha256 of a bundle": "why"}
    }
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..bundle import CARD, DESCRIPTION, SIGNATURE, Bundle
from ..errors import ModelError, SettingsError
from ..settings import Settings, user_keys_folder
from ..text import printable
from .envelopes import MOST_BYTES, Unsealed, canonical, seal, unseal
from .keys import (
    PrivatePair,
    PublicPair,
    index_pairs,
    make_pair,
    read_private_pair,
    read_public_pairs,
)

PAYLOAD = "application/vnd.in-toto+json"
STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "urn:deepfake:bundle:1"
REVOKED_SCHEMA = "deepfake-revoked/1"
REVOKED = "revoked.json"
SHIPPED_KEYS = Path(__file__).with_name("public_keys")
SHIPPED_REVOKED = Path(__file__).with_name(REVOKED)
_HEX = re.compile("[0-9a-f]{64}")
_COMMIT = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")


@dataclass(frozen=True)
class Revoked:
    """Reasons by the id of a key, and by the sha256 of a bundle."""

    keys: Mapping[str, str]
    bundles: Mapping[str, str]


@dataclass(frozen=True)
class Trust:
    """Whose bundles are believed: ``pairs`` by the id of their Ed25519 key.

    With ``allow_unsigned`` others are used as well, and told.
    """

    pairs: Mapping[str, PublicPair]
    revoked: Revoked
    allow_unsigned: bool = False

    @classmethod
    def read(cls, settings: Settings) -> Trust:
        """What the settings and this machine trust; raises ``SettingsError`` for keys that cannot
        be read and ``ModelError`` for a damaged list of what is revoked.
        """
        places = [SHIPPED_KEYS, *settings.trusted_keys]
        if any(user_keys_folder().glob("*.pub.pem")):
            places.insert(1, user_keys_folder())
        return cls(
            index_pairs(pair for place in places for pair in read_public_pairs(place)),
            read_revoked(settings.models_folder / REVOKED),
            settings.allow_unsigned,
        )


@dataclass(frozen=True)
class Signed:
    """What a verified envelope says: who signed, and the predicate of the statement."""

    pair: PublicPair
    predicate: Mapping[str, Any]


def shipped_trust() -> Trust:
    """The keys of this release alone."""
    pairs = read_public_pairs(SHIPPED_KEYS)
    return Trust(index_pairs(pairs), read_revoked())


def read_revoked(beside: Path | None = None, *, shipped: bool = True) -> Revoked:
    """What the package, unless not ``shipped``, and a list ``beside`` the models, where there is
    one, revoke together.

    Raises ``ModelError`` for a damaged one: what it revokes is not known then.
    """
    found = Revoked({}, {})
    own = [beside] if beside and beside.exists() else []
    for path in [*([SHIPPED_REVOKED] if shipped else []), *own]:
        try:
            values = json.loads(path.read_bytes())
            if set(values) != {"schema", "keys", "bundles"} or values["schema"] != REVOKED_SCHEMA:
                raise ValueError(f"not of schema {REVOKED_SCHEMA}")
            keys, bundles = dict(values["keys"]), dict(values["bundles"])
            for digest, why in (keys | bundles).items():
                if not _HEX.fullmatch(digest) or not isinstance(why, str):
                    raise ValueError(f"{digest[:80]!r} is no sha256 with a reason")
        except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise ModelError(
                f"revocation list {str(path)!r}: cannot be read ({error})",
                hint="restore it; without it what is revoked is not known",
            ) from error
        words = {digest: printable(why) for digest, why in (keys | bundles).items()}
        found = Revoked(
            {**found.keys, **{one: words[one] for one in keys}},
            {**found.bundles, **{one: words[one] for one in bundles}},
        )
    return found


def require_signed(bundles: Iterable[Bundle], trust: Trust) -> list[str]:
    """Compare every file of the bundles, and raise ``ModelError`` for one that is not signed by a
    trusted pair. With ``trust.allow_unsigned`` the files are held to ``bundle.json`` alone, and
    sentences for the reports come back.
    """
    unsigned = []
    for bundle in bundles:
        try:
            verify_bundle(bundle, trust)
        except NotSigned as error:
            if not trust.allow_unsigned:
                raise
            bundle.verify()
            unsigned.append(f"{bundle.name} ({error.why})")
    if not trust.allow_unsigned:
        return []
    told = f"these are used: {', '.join(unsigned)}" if unsigned else "none is in use"
    return [f"Bundles without a trusted signature are allowed (--allow-unsigned); {told}."]


class NotSigned(ModelError):
    """A bundle without a signature that can be believed; ``why`` is a clause."""

    def __init__(self, bundle: Bundle, why: str, *, hint: str) -> None:
        self.why = why
        super().__init__(f"bundle {bundle.name}: {why}", hint=hint)


def verify_bundle(bundle: Bundle, trust: Trust) -> Signed:
    """Compare the whole folder of a bundle with what a trusted pair signed about it.

    Raises ``ModelError`` for what is revoked and for a file that differs from ``bundle.json``, and
    ``NotSigned`` for all else.
    """
    if why := trust.revoked.bundles.get(bundle.sha256):
        raise ModelError(
            f"bundle {bundle.name}: is revoked ({why})", hint="use another, or a newer release"
        )
    statement, pair = _read_statement(bundle, trust)
    try:
        if statement["_type"] != STATEMENT or statement["predicateType"] != PREDICATE:
            raise ValueError("another kind of statement")
        subjects = {one["name"]: one["digest"]["sha256"] for one in statement["subject"]}
        predicate = statement["predicate"]
        about = predicate["name"], predicate["bundle_sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise NotSigned(
            bundle, "its signature is not about a bundle", hint="get it from its publisher again"
        ) from error
    restore = "do not use it; restore the folder from where it came, or, if the change is meant, "
    restore += f"sign it again: deepfake models sign {bundle.folder}"
    if about[0] != bundle.name:
        raise NotSigned(bundle, f"has the signature of {printable(str(about[0]))}", hint=restore)
    if about[1] != bundle.sha256:
        raise NotSigned(bundle, f"{DESCRIPTION} was changed since it was signed", hint=restore)
    files = _digest_files(bundle)
    present = set(files)
    if missing := sorted(set(subjects) - present):
        raise NotSigned(bundle, f"its file {printable(missing[0])} is missing", hint=restore)
    if extra := sorted(present - set(subjects)):
        raise NotSigned(
            bundle,
            f"file {printable(extra[0])} is not part of it: it was not signed",
            hint=f"remove it, or, if it is meant, run: deepfake models sign {bundle.folder}",
        )
    for name, sha256 in files.items():
        if sha256 != subjects[name]:
            raise NotSigned(
                bundle, f"file {printable(name)} was changed since it was signed", hint=restore
            )
    return Signed(pair, predicate)


def sign_bundle(
    bundle: Bundle, pair: PrivatePair, *, recipe: Path | None = None, commit: str | None = None
) -> None:
    """Sign the folder of a bundle as it is, in place of the signature that it has.

    ``recipe`` is the file that it was trained by, ``commit`` that of the source, in hexadecimal.
    Raises ``ModelError`` for a folder whose files differ from ``bundle.json`` or that holds others,
    and ``SettingsError`` for a commit or recipe that is none.
    """
    if commit is not None and not _COMMIT.fullmatch(commit):
        raise SettingsError(f"commit {commit[:80]!r}: is not 40 or 64 hexadecimal digits")
    try:
        made_by = recipe and {
            "name": recipe.name,
            "digest": {"sha256": hashlib.sha256(recipe.read_bytes()).hexdigest()},
        }
    except OSError as error:
        raise SettingsError(
            f"recipe {str(recipe)!r}: cannot be read ({error.strerror})", hint="check the path"
        ) from error
    bundle = Bundle.read(bundle.folder)
    if extra := bundle.extra_files():
        raise ModelError(
            f"bundle {bundle.name}: file {printable(extra[0])} is not part of it",
            hint="remove it; every file of the folder is signed",
        )
    bundle.card()
    files = _digest_files(bundle)
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": files[name]}} for name in sorted(files)],
        "predicateType": PREDICATE,
        "predicate": {
            "name": bundle.name,
            "slot": bundle.slot,
            "bundle_sha256": bundle.sha256,
            "training_data_sha256": bundle.provenance.get("data_sha256"),
            "recipe": made_by,
            "source_commit": commit,
            "licence": bundle.licence,
        },
    }
    envelope = seal(canonical(statement), PAYLOAD, pair)
    with tempfile.NamedTemporaryFile(
        dir=bundle.folder.parent, prefix=f".{bundle.name}-", delete=False
    ) as file:
        file.write(envelope)
    Path(file.name).chmod(0o644)
    Path(file.name).replace(bundle.folder / SIGNATURE)


def sign_own(bundle: Bundle) -> PublicPair:
    """Sign a bundle with the pair of this user; see :func:`own_pair`."""
    pair = own_pair()
    sign_bundle(bundle, pair)
    return pair.public


def own_pair() -> PrivatePair:
    """The pair that this user signs with, made on first use, whose public halves are trusted on
    this machine; raises ``SettingsError``.
    """
    folder = user_keys_folder()
    has_any = folder.is_dir() and any(folder.glob("*.pem"))
    return read_private_pair(folder) if has_any else make_pair(folder)


def _read_statement(bundle: Bundle, trust: Trust) -> tuple[Mapping[str, Any], PublicPair]:
    try:
        with (bundle.folder / SIGNATURE).open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        body, pair = unseal(raw, PAYLOAD, trust.pairs, trust.revoked.keys)
        statement: Mapping[str, Any] = json.loads(body)
    except FileNotFoundError as error:
        raise NotSigned(
            bundle,
            f"is not signed (no {SIGNATURE})",
            hint=f"sign your own with deepfake models sign {bundle.folder}, get others from their "
            "publisher again; for development there is --allow-unsigned",
        ) from error
    except OSError as error:
        raise NotSigned(
            bundle, f"{SIGNATURE} cannot be read ({error.strerror})", hint="restore it"
        ) from error
    except Unsealed as error:
        raise NotSigned(bundle, str(error), hint=error.hint) from error
    return statement, pair


def _file_names(bundle: Bundle) -> set[str]:
    """All that lies in the folder, but the envelope; a bundle has plain files alone."""
    return {path.name for path in bundle.folder.iterdir()} - {SIGNATURE}


def _digest_files(bundle: Bundle) -> dict[str, str]:
    """The sha256 of every file that a bundle has; those that it lists are compared with it."""
    digests = {}
    for name in sorted(_file_names(bundle) | set(bundle.files) | {DESCRIPTION, CARD}):
        if name in bundle.files:
            bundle.file_bytes(name)
            digests[name] = bundle.files[name]["sha256"]
            continue
        try:
            digests[name] = hashlib.sha256((bundle.folder / name).read_bytes()).hexdigest()
        except OSError as error:
            raise NotSigned(
                bundle,
                f"file {printable(name)} cannot be read ({error.strerror})",
                hint="restore it from where it came",
            ) from error
    return digests
