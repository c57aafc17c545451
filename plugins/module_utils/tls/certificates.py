# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Certificates and keys as users provide them: read them, and report what is wrong with them in one line.

Runs on the controller and on hosts, whose Debian has version 38 of the library cryptography.
"""

from __future__ import annotations

import os
import re
import ssl
import traceback
from base64 import b64decode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

try:
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    IMPORT_ERROR = None
except ImportError:
    IMPORT_ERROR = traceback.format_exc()

BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----\n?", re.DOTALL)
SIGN_OF_TEXT = "-----BEGIN "
# The identifier of prime fields, which a named curve does not contain.
FIELD_OF_A_CURVE = bytes.fromhex("06072a8648ce3d0101")


class CertificateError(Exception):
    """One line that names the file or value and what is wrong with it."""


@dataclass(frozen=True)
class Pem:
    """A text and its origin: a path, or the name of an option."""

    origin: str
    text: str

    def blocks(self, kind: str) -> list[str]:
        return [match.group() for match in BLOCK.finditer(self.text) if match.group(1).endswith(kind)]


@dataclass(frozen=True)
class Certificate:
    """The contents of a certificate."""

    origin: str
    pem: str
    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    is_authority: bool
    fingerprint: str
    public_key: bytes

    def __str__(self) -> str:
        """Return the certificate as diffs show it."""
        lines = [f"subject: {self.subject}", f"issuer: {self.issuer}"]
        lines += [f"names: {', '.join(self.names)}"] if self.names else []
        lines += [f"valid: {self.not_before:%Y-%m-%d %H:%M} to {self.not_after:%Y-%m-%d %H:%M} UTC"]
        return "\n".join([*lines, f"fingerprint: {self.fingerprint}", ""])

    def days_left(self, now: datetime | None = None) -> float:
        return (self.not_after - (now or utc_now())) / timedelta(days=1)

    def require_validity(self, minimum_days: float = 0) -> None:
        if self.not_before > utc_now():
            raise CertificateError(f"{self.origin}: not valid before {self.not_before:%Y-%m-%d %H:%M} UTC")
        if self.days_left() <= 0:
            raise CertificateError(f"{self.origin}: expired on {self.not_after:%Y-%m-%d %H:%M} UTC")
        if self.days_left() < minimum_days:
            raise CertificateError(
                f"{self.origin}: expires on {self.not_after:%Y-%m-%d %H:%M} UTC, in less than {minimum_days:g} days"
            )


def utc_now() -> datetime:
    return datetime.now(timezone.utc)  # noqa: UP017


# --- reading ---------------------------------------------------------------------------------------------------------


def read(path: str, what: str = "certificate") -> Pem:
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise CertificateError(f"{path}: {error.strerror}") from error
    return text_of(content, path, what)


def text_of(content: bytes, origin: str, what: str = "certificate") -> Pem:
    """Return the content as PEM text."""
    if not content.strip():
        raise CertificateError(f"{origin}: is empty")
    if content[:1] == b"\x30":
        option = "x509" if what == "certificate" else "pkey"
        raise CertificateError(f"{origin}: is DER, not PEM; convert it with: openssl {option} -inform der")
    text = content.decode(errors="replace")  # comments may be in any encoding
    if SIGN_OF_TEXT not in text:
        raise CertificateError(f"{origin}: holds no PEM text")
    return Pem(origin, text)


def certificate(pem: Pem) -> Certificate:
    """Return the only certificate of this text."""
    if pem.blocks("PRIVATE KEY"):
        raise CertificateError(f"{pem.origin}: holds a private key; a certificate alone belongs there")
    found = certificates(pem)
    if len(found) != 1:
        raise CertificateError(f"{pem.origin}: holds {len(found)} certificates; one alone belongs there")
    return found[0]


def certificates(pem: Pem) -> list[Certificate]:
    """Return all certificates of this text; raise an error if there are none."""
    blocks = pem.blocks("CERTIFICATE")
    if not blocks:
        raise CertificateError(f"{pem.origin}: holds no certificate")
    return [_parsed(pem.origin, block) for block in blocks]


def authority(pem: Pem) -> Certificate:
    """Return the only certificate of this text, which must be an authority's."""
    found = certificate(pem)
    if not found.is_authority:
        raise CertificateError(f"{pem.origin}: is not the certificate of an authority (CA) but of {found.subject}")
    return found


def public_key(pem: Pem) -> bytes:
    """Return the public half of the only private key of this text, in a comparable form."""
    blocks = pem.blocks("PRIVATE KEY")
    if len(blocks) != 1:
        raise CertificateError(f"{pem.origin}: holds {len(blocks) or 'no'} private keys; one belongs there")
    try:
        key = load_pem_private_key(blocks[0].encode(), password=None)
    except TypeError:
        raise CertificateError(f"{pem.origin}: is a key with a pass phrase, which a service cannot enter") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError(f"{pem.origin}: is not a readable private key") from None
    _refuse_explicit_curve(pem.origin, blocks[0])
    return _comparable(key.public_key())


def described(content: bytes) -> str:
    """Return the first certificate of a file as diffs show it; nothing without a file."""
    if not content:
        return ""
    try:
        return str(certificates(text_of(content, "former"))[0])
    except CertificateError as error:
        return f"{error}\n"


def _parsed(origin: str, block: str) -> Certificate:
    try:
        found = x509.load_pem_x509_certificate(block.encode())
        _refuse_explicit_curve(origin, block)
        return _said(origin, block, found)
    except CertificateError:
        raise
    except Exception as error:  # the library's errors in these calls have no common base class
        raise CertificateError(f"{origin}: is not a readable certificate: {error}") from error


def _refuse_explicit_curve(origin: str, block: str) -> None:
    """Refuse an explicit curve: Debian 12's library accepts named ones only, unlike newer ones on the controller."""
    if FIELD_OF_A_CURVE in b64decode("".join(line for line in block.splitlines() if "-----" not in line)):
        raise CertificateError(
            f"{origin}: has a key with explicit curve parameters, which hosts cannot read; create one on a named curve"
        )


def _said(origin: str, block: str, found: Any) -> Certificate:
    constraints = _extension(found, x509.BasicConstraints)
    alternatives = _extension(found, x509.SubjectAlternativeName) or []
    return Certificate(
        origin=origin,
        pem=block if block.endswith("\n") else f"{block}\n",
        subject=found.subject.rfc4514_string(),
        issuer=found.issuer.rfc4514_string(),
        names=tuple(str(name.value) for name in alternatives),
        not_before=_utc(found, "not_valid_before"),
        not_after=_utc(found, "not_valid_after"),
        is_authority=bool(constraints and constraints.ca),
        fingerprint=found.fingerprint(hashes.SHA256()).hex(),
        public_key=_comparable(found.public_key()),
    )


def _utc(found: Any, name: str) -> datetime:
    """Return a time in UTC: the old library has only times without a zone, and the new one warns about them."""
    if hasattr(found, f"{name}_utc"):
        return getattr(found, f"{name}_utc")
    return getattr(found, name).replace(tzinfo=timezone.utc)  # noqa: UP017


def _extension(found: Any, kind: Any) -> Any:
    try:
        return found.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _comparable(key: Any) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


# --- a pair ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """The certificate that a service presents, and its key."""

    certificate: Certificate
    chain: tuple[Certificate, ...]
    key: str

    @property
    def full_chain(self) -> str:
        return "".join(found.pem for found in (self.certificate, *self.chain))


def pair(
    certificate_pem: Pem,
    key_pem: Pem,
    chain_pem: Pem | None,
    authorities: Iterable[Pem],
    names: Iterable[str] = (),
    minimum_days: float = 0,
) -> Pair:
    """Return the pair, if OpenSSL accepts it as the server of each of these names."""
    leaf = certificate(certificate_pem)
    chain = tuple(certificates(chain_pem)) if chain_pem else ()
    for link in (leaf, *chain):
        link.require_validity(minimum_days)
    for link in chain:
        if not link.is_authority:
            raise CertificateError(f"{link.origin}: holds the certificate of {link.subject}, which is not an authority")
    if public_key(key_pem) != leaf.public_key:
        raise CertificateError(f"{key_pem.origin}: is not the key of {leaf.origin}")
    result = Pair(leaf, chain, key_pem.blocks("PRIVATE KEY")[0])
    trusted = list(authorities)
    for name in names or [""]:
        _require_trust(result, trusted, name)
    return result


def _require_trust(shown: Pair, authorities: list[Pem], name: str) -> None:
    """Do a handshake with the pair as a client that trusts these authorities."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = bool(name)
    client.hostname_checks_common_name = False  # like browsers and Python's libraries
    try:
        client.load_verify_locations(
            cadata="".join(block for pem in authorities for block in pem.blocks("CERTIFICATE"))
        )
    except (ssl.SSLError, ValueError) as error:
        origins = ", ".join(pem.origin for pem in authorities) or "authorities"
        raise CertificateError(f"{origins}: holds no authority that OpenSSL can read: {error}") from error
    if not client.cert_store_stats()["x509_ca"]:
        raise CertificateError(f"{', '.join(pem.origin for pem in authorities)}: holds no authority's certificate")
    origin = shown.certificate.origin
    # A file without a name, because OpenSSL requires a file, and the key must not outlive this process.
    with open(os.memfd_create("pair"), "w") as file:  # noqa: PTH123
        file.write(shown.key + shown.full_chain)
        file.flush()
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            server.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        except ssl.SSLError as error:
            raise CertificateError(f"{origin}: OpenSSL refuses it and its key: {error.reason}") from error
    try:
        _greet(client, server, name)
    except ssl.SSLCertVerificationError as error:
        raise CertificateError(f"{origin}: {_explained(error, shown, authorities, name)}") from error
    except ssl.SSLError as error:
        raise CertificateError(f"{origin}: OpenSSL refuses it: {error.reason}") from error


def _greet(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> None:
    """Do a handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=name or None),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    while sides:
        for side in list(sides):
            try:
                side.do_handshake()
                sides.remove(side)
            except ssl.SSLWantReadError:
                continue


def _explained(error: ssl.SSLCertVerificationError, shown: Pair, authorities: list[Pem], name: str) -> str:
    message = error.verify_message
    if "ismatch" in message:
        return f"is not valid for {name}, only for {', '.join(shown.certificate.names) or 'no name'}"
    if "issuer" in message or "self-signed" in message or "self signed" in message or "first certificate" in message:
        trusted = ", ".join(pem.origin for pem in authorities)
        last = (shown.certificate, *shown.chain)[-1]
        return f"its chain does not lead to an authority of {trusted}; the certificate of {last.issuer} is missing"
    return message
