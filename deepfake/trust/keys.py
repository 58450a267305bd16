"""Pairs of keys: Ed25519 and, against quantum computers, ML-DSA-65 (FIPS 204). Both must verify.

A pair called ``NAME`` is four PEM files of a folder: ``NAME.ed25519.pem`` and
``NAME.ml-dsa-65.pem`` (private, PKCS #8, not encrypted) and the public halves
``NAME.ed25519.pub.pem`` and ``NAME.ml-dsa-65.pub.pem`` (SubjectPublicKeyInfo). Only the private
ones sign, only the public ones are ever handed on. The id of a key is the sha256 of its public half
in DER.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from ..errors import SettingsError

ALGORITHMS = ("ed25519", "ml-dsa-65")
"""In the order in which a pair signs."""
OWN = "own"
"""What the pair of a user is called that is made on first use."""
_MOST_BYTES = 16 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

_PUBLIC = {"ed25519": Ed25519PublicKey, "ml-dsa-65": MLDSA65PublicKey}
_PRIVATE = {"ed25519": Ed25519PrivateKey, "ml-dsa-65": MLDSA65PrivateKey}


@dataclass(frozen=True)
class PublicPair:
    """The public halves; ``ids`` are those of the keys, in the order of ``ALGORITHMS``."""

    name: str
    ed25519: Ed25519PublicKey
    ml_dsa_65: MLDSA65PublicKey
    ids: tuple[str, str]

    def verify(self, signatures: tuple[bytes, bytes], message: bytes) -> str | None:
        """The algorithm whose signature is wrong, or None where both are right."""
        algorithm = ALGORITHMS[0]
        try:
            self.ed25519.verify(signatures[0], message)
            algorithm = ALGORITHMS[1]
            self.ml_dsa_65.verify(signatures[1], message)
        except InvalidSignature:
            return algorithm
        return None


@dataclass(frozen=True)
class PrivatePair:
    """Both private keys; they are in no text that this object prints."""

    name: str
    ed25519: Ed25519PrivateKey
    ml_dsa_65: MLDSA65PrivateKey

    @property
    def public(self) -> PublicPair:
        """The public halves."""
        return _pair(self.name, self.ed25519.public_key(), self.ml_dsa_65.public_key())

    def sign(self, message: bytes) -> tuple[bytes, bytes]:
        """One signature by each key."""
        return self.ed25519.sign(message), self.ml_dsa_65.sign(message)


def make_pair(folder: Path, name: str = OWN) -> PrivatePair:
    """Make a pair and write its four files, which nobody but this user may read where private.

    Raises ``SettingsError`` for a name that is taken or odd, and a folder that cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"keys {name[:80]!r}: an odd name", hint="letters, digits, _ and -, as release-2027"
        )
    try:
        pair = PrivatePair(name, Ed25519PrivateKey.generate(), MLDSA65PrivateKey.generate())
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        keys: tuple[Ed25519PrivateKey | MLDSA65PrivateKey, ...] = (pair.ed25519, pair.ml_dsa_65)
        for algorithm, key in zip(ALGORITHMS, keys, strict=True):
            secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            shown = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
            _create(folder / f"{name}.{algorithm}.pem", secret, 0o600)
            _create(folder / f"{name}.{algorithm}.pub.pem", shown, 0o644)
    except FileExistsError as error:
        raise SettingsError(
            f"keys {name!r}: are in {str(folder)!r} already",
            hint="choose another folder; keys are never overwritten",
        ) from error
    except OSError as error:
        raise SettingsError(
            f"keys folder {str(folder)!r}: cannot be written ({error.strerror})",
            hint="choose another folder",
        ) from error
    except UnsupportedAlgorithm as error:
        raise _unsupported() from error
    return pair


def read_private_pair(folder: Path) -> PrivatePair:
    """The one pair of private keys in a folder; raises ``SettingsError``."""
    end = f".{ALGORITHMS[0]}.pem"
    names = sorted(path.name.removesuffix(end) for path in folder.glob(f"*{end}"))
    if len(names) != 1:
        raise SettingsError(
            f"keys folder {str(folder)!r}: holds {len(names) or 'no'} pairs of private keys",
            hint="make one with: deepfake models keygen FOLDER",
        )
    found = [_read(folder / f"{names[0]}.{one}.pem", one, private=True) for one in ALGORITHMS]
    return PrivatePair(
        names[0], cast(Ed25519PrivateKey, found[0]), cast(MLDSA65PrivateKey, found[1])
    )


def read_public_pairs(place: Path) -> list[PublicPair]:
    """The pairs of public keys in a folder, or the one to which a ``.pub.pem`` file belongs.

    Raises ``SettingsError`` for a place without one, and where one half is missing or damaged.
    """
    ends = {f".{algorithm}.pub.pem" for algorithm in ALGORITHMS}
    paths = sorted(place.glob("*.pub.pem")) if place.is_dir() else [place]
    names = sorted(
        {path.name.removesuffix(end) for path in paths for end in ends if path.name.endswith(end)}
    )
    folder = place if place.is_dir() else place.parent
    if not names:
        raise SettingsError(
            f"trusted keys {str(place)!r}: no such pair of keys",
            hint="give a folder with NAME.ed25519.pub.pem and NAME.ml-dsa-65.pub.pem, or one of "
            "the two files",
        )
    return [_read_public(folder, name) for name in names]


def index_pairs(pairs: Iterable[PublicPair]) -> dict[str, PublicPair]:
    """Pairs by the id of their Ed25519 key."""
    return {pair.ids[0]: pair for pair in pairs}


def _read_public(folder: Path, name: str) -> PublicPair:
    found = [_read(folder / f"{name}.{one}.pub.pem", one, private=False) for one in ALGORITHMS]
    return _pair(name, cast(Ed25519PublicKey, found[0]), cast(MLDSA65PublicKey, found[1]))


def _pair(name: str, ed25519: Ed25519PublicKey, ml_dsa_65: MLDSA65PublicKey) -> PublicPair:
    ids = [
        hashlib.sha256(
            key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        ).hexdigest()
        for key in (ed25519, ml_dsa_65)
    ]
    return PublicPair(name, ed25519, ml_dsa_65, (ids[0], ids[1]))


def _read(path: Path, algorithm: str, *, private: bool) -> object:
    """A key of that algorithm and no other."""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES)
        key: object
        if private:
            key, kind = load_pem_private_key(text, password=None), _PRIVATE[algorithm]
        else:
            key, kind = load_pem_public_key(text), _PUBLIC[algorithm]
    except UnsupportedAlgorithm as error:
        raise _unsupported() from error
    except OSError as error:
        raise SettingsError(
            f"key {str(path)!r}: cannot be read ({error.strerror})",
            hint="a pair needs both halves, Ed25519 and ML-DSA-65",
        ) from error
    except (ValueError, TypeError) as error:
        raise SettingsError(
            f"key {str(path)!r}: is no PEM file of a key without a password", hint="restore it"
        ) from error
    if not isinstance(key, kind):
        raise SettingsError(f"key {str(path)!r}: is not of {algorithm}", hint="restore it")
    return key


def _create(path: Path, content: bytes, mode: int) -> None:
    """Write a new file; one that is there stays as it is."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)


def _unsupported() -> SettingsError:
    return SettingsError(
        "package cryptography: is built without ML-DSA-65",
        hint="install its wheel: pip install --force-reinstall --only-binary :all: cryptography",
    )
