"""A deployment's own certificate authority: made once, its key encrypted like the secrets, replaced step by step."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mlfleet.project import MlfleetError, write_atomically
from mlfleet.secrets import Vault

DIRECTORY = "ca"
RETIRED = "former.retired"  # not trusted; says that a replacement has not ended
VALID_DAYS = 3650
BACKDATED = timedelta(hours=1)


@dataclass(frozen=True)
class Authority:
    """The authority in an inventory's directory `ca`.

    `ca.crt` and `ca.key` issue. Hosts trust `next.crt` before it issues, and `former.crt` as long as a certificate of
    it may be in use.
    """

    vault: Vault

    @property
    def directory(self) -> Path:
        return self.vault.inventory / DIRECTORY

    def path(self, name: str) -> Path:
        return self.directory / name

    def create_missing(self) -> bool:
        """Make the authority if there is none; return whether there was none.

        Raises:
            MlfleetError: it has lost its key.
        """
        self._settle()
        if self.path("ca.crt").exists() and self.path("ca.key").exists():
            return False
        if self.path("ca.crt").exists():
            raise MlfleetError(
                f"{self.path('ca.key')} is missing: put it back, or make another authority with "
                f"`mlfleet ca {self.vault.inventory} next`."
            )
        self._create("ca")
        return True

    def next(self) -> bool:
        """Make the next authority, which hosts then trust; nothing when a replacement is under way."""
        self._settle()
        if not self.path("ca.crt").exists():
            raise MlfleetError(f"{self.path('ca.crt')} does not exist: run `mlfleet init {self.vault.inventory}`.")
        if any(self.path(name).exists() for name in ("next.crt", "former.crt", RETIRED)):
            return False
        self._create("next")
        return True

    def promote(self) -> bool:
        """Have the next authority issue from now on; the one before it stays trusted."""
        self._settle()
        if not self.path("next.crt").exists():
            return False
        write_atomically(self.path("former.crt"), self.path("ca.crt").read_bytes())
        self.path("next.key").replace(self.path("ca.key"))
        self._settle()
        return True

    def retire(self) -> bool:
        """Trust the former authority no longer."""
        if self.path("next.crt").exists():
            raise MlfleetError(f"{self.path('next.crt')} does not issue yet: run `mlfleet ca … promote` first.")
        if not self.path("former.crt").exists():
            return False
        self.path("former.crt").replace(self.path(RETIRED))
        return True

    def finish(self) -> bool:
        """End the replacement, when no host trusts the former authority any more."""
        if self.path("next.crt").exists() or self.path("former.crt").exists():
            raise MlfleetError(f"hosts trust two authorities still: {self.state()}.")
        existed = self.path(RETIRED).exists()
        self.path(RETIRED).unlink(missing_ok=True)
        return existed

    def state(self) -> str:
        """Say in one line where a replacement stands."""
        if self.path("next.crt").exists():
            return "ca.crt issues; next.crt is trusted as well, once site.yml has run"
        if self.path("former.crt").exists():
            return "ca.crt issues; former.crt is trusted until it is retired"
        if self.path(RETIRED).exists():
            return "ca.crt issues and is trusted alone, once site.yml has run"
        return "ca.crt issues and is trusted alone" if self.path("ca.crt").exists() else "there is none"

    def _settle(self) -> None:
        """Complete what a killed promotion left: its key was moved, and its certificate not yet."""
        if self.path("next.crt").exists() and not self.path("next.key").exists():
            self.path("next.crt").replace(self.path("ca.crt"))

    def _create(self, name: str) -> None:
        """Write key and certificate; the certificate last, since it alone says that there is an authority."""
        certificate, key = _self_signed(f"mlfleet {self.vault.inventory.resolve().name}")
        self.directory.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path(f"{name}.key"), self.vault.encrypt(key), mode=0o600)
        write_atomically(self.path(f"{name}.crt"), certificate)


def _self_signed(name: str) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    # Two authorities of one deployment are told apart by the day they were made.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} CA {now:%Y-%m-%d %H:%M:%S}"[-64:])])
    usage = {"digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"}
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                key_cert_sign=True,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
                **dict.fromkeys(usage, False),
            ),
            critical=True,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), private
