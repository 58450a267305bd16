"""An authority of a federation's own and the certificates of its server and sites, and TLS that
knows both ends.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deepfake.errors import SettingsError

AUTHORITY, SERVER = "authority", "server"
DAYS = 365
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def make_certificates(folder: Path, *, sites: Sequence[str], hosts: Sequence[str]) -> list[Path]:
    """Write ``authority.pem``, and ``NAME.pem`` with certificate and private key for the server,
    which may be reached as ``hosts``, and for every site. The key of the authority is not kept, so
    that nobody can be added later; make all anew for that.

    Raises ``SettingsError`` for names that cannot be used and for a folder that has some already.
    """
    for name in sites:
        if not _NAME.fullmatch(name) or name in (AUTHORITY, SERVER):
            raise SettingsError(
                f"site {name!r}: is no name of a site",
                hint="use small letters, digits, dots and hyphens; not 'server' or 'authority'",
            )
    if len(set(sites)) < max(len(sites), 1):
        raise SettingsError("option --sites: needs names, each once", hint="--sites north south")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise SettingsError(
            f"folder {folder}: cannot be made ({error.strerror})",
            hint="name one that is not there yet",
        ) from error
    key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate(
        AUTHORITY, key.public_key(), issuer=AUTHORITY, signer=key, hosts=(), usage=None
    )
    paths = [folder / f"{AUTHORITY}.pem"]
    paths[0].write_bytes(authority.public_bytes(Encoding.PEM))
    for name in (SERVER, *sites):
        own = ec.generate_private_key(ec.SECP256R1())
        certificate = _certificate(
            name,
            own.public_key(),
            issuer=AUTHORITY,
            signer=key,
            hosts=hosts if name == SERVER else (),
            usage=ExtendedKeyUsageOID.SERVER_AUTH
            if name == SERVER
            else ExtendedKeyUsageOID.CLIENT_AUTH,
        )
        path = folder / f"{name}.pem"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(certificate.public_bytes(Encoding.PEM))
            file.write(own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        paths.append(path)
    return paths


def _certificate(
    name: str,
    key: ec.EllipticCurvePublicKey,
    *,
    issuer: str,
    signer: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str],
    usage: x509.ObjectIdentifier | None,
) -> x509.Certificate:
    """Of an authority where ``usage`` is None."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=usage is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()),
            critical=False,
        )
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=usage is None,
                crl_sign=usage is None,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if hosts:
        names = x509.SubjectAlternativeName([_host(host) for host in hosts])
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, SHA256())


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def open_context(folder: Path, name: str) -> ssl.SSLContext:
    """TLS 1.3 as ``name``, with whoever the authority in ``folder`` has signed, and nobody else.

    Raises ``SettingsError`` for files that are missing or are no certificates.
    """
    purpose = ssl.Purpose.CLIENT_AUTH if name == SERVER else ssl.Purpose.SERVER_AUTH
    own = folder / f"{name}.pem"
    try:
        context = ssl.create_default_context(purpose, cafile=str(folder / f"{AUTHORITY}.pem"))
        context.load_cert_chain(own)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"certificates {folder}: {name}.pem or {AUTHORITY}.pem cannot be used ({error})",
            hint="make them with deepfake train --federated certificates; each site has its own",
        ) from error
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.check_hostname = name != SERVER
    return context


def name_of(certificate: object) -> str | None:
    """The common name of a peer's certificate, as ``ssl`` gives it once it is verified."""
    if not isinstance(certificate, dict):
        return None
    subject = [pair for part in certificate.get("subject", ()) for pair in part]
    names = [value for key, value in subject if key == "commonName"]
    return names[0] if len(names) == 1 else None
