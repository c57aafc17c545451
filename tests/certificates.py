"""Certificates for tests, good and bad."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

NOW = datetime.now(UTC)
PEM, DER = serialization.Encoding.PEM, serialization.Encoding.DER
PKCS8 = serialization.PrivateFormat.PKCS8


@dataclass
class Made:
    """A certificate with its key, as texts."""

    found: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate(self) -> str:
        return self.found.public_bytes(PEM).decode()

    @property
    def private(self) -> str:
        return self.key.private_bytes(PEM, PKCS8, serialization.NoEncryption()).decode()

    @property
    def der(self) -> bytes:
        return self.found.public_bytes(DER)


def make(
    name: str,
    issuer: Made | None = None,
    is_authority: bool = False,
    start: datetime = NOW - timedelta(days=1),
    end: datetime = NOW + timedelta(days=100),
    addresses: tuple[str, ...] = (),
    alternatives: bool = True,
) -> Made:
    """Create a certificate of this name, signed by the issuer or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = [x509.DNSName(name), *(x509.IPAddress(ipaddress.ip_address(each)) for each in addresses)]
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.found.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return Made(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)
