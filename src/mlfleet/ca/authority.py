"""A deployment's own certificate authority: created once, its key encrypted like the secrets, replaced step by step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from mlfleet.project import MlfleetError, write_atomically
from mlfleet.secrets.vault import Vault

DIRECTORY = "ca"
PARTS = ("ca.crt", "ca.key")
RETIRED = "former.retired"  # not trusted; marks an unfinished replacement
VALID_DAYS = 3650
BACKDATED = timedelta(hours=1)


@dataclass(frozen=True)
class Authority:
    """The authority in an inventory's directory `ca`.

    `ca.crt` and `ca.key` issue. Hosts trust `next.crt` before it issues, and `former.crt` as long as one of
    its certificates may be in use; `former.key` is kept as long. Key and certificate are compared before either is
    replaced.
    """

    vault: Vault

    @property
    def directory(self) -> Path:
        return self.vault.inventory / DIRECTORY

    def path(self, name: str) -> Path:
        return self.directory / name

    def create_missing(self) -> bool:
        """Create the authority if there is none; return whether there was none.

        Raises:
            MlfleetError: one of its files is missing, or belongs to another authority.
        """
        with self._settled():
            if self._existing(*PARTS):
                return False
            self._create("ca")
            return True

    def next(self) -> bool:
        """Create the next authority, which hosts then trust; do nothing if a replacement is under way."""
        with self._settled(is_key_wanted=False):
            if not self._existing("ca.crt"):
                raise MlfleetError(f"{self.path('ca.crt')} does not exist: run `mlfleet init {self.vault.inventory}`.")
            if self._existing("next.crt", "former.crt", RETIRED):
                return False
            self._create("next")
            return True

    def promote(self) -> bool:
        """Let the next authority issue from now on; the previous one stays trusted."""
        with self._settled(is_key_wanted=False):
            if not self._existing("next.crt"):
                return False
            self._keep("crt")
            self._keep("key")
            self.path("next.key").replace(self.path("ca.key"))
            self.path("next.crt").replace(self.path("ca.crt"))
            return True

    def retire(self) -> bool:
        """Stop trusting the former authority."""
        with self._settled():
            if self._existing("next.crt"):
                raise MlfleetError(f"{self.path('next.crt')} does not issue yet: run `mlfleet ca … promote` first.")
            if not self._existing("former.crt"):
                return False
            self.path("former.crt").replace(self.path(RETIRED))
            return True

    def finish(self) -> bool:
        """End the replacement, after no host trusts the former authority any more."""
        with self._settled():
            if self._existing("next.crt", "former.crt"):
                raise MlfleetError(f"hosts still trust two authorities: {self.state()}.")
            existed = bool(self._existing("former.key", RETIRED))
            for name in ("former.key", RETIRED):  # the certificate last, because it marks the replacement as unfinished
                self.path(name).unlink(missing_ok=True)
            return existed

    def state(self) -> str:
        """Return the state of a replacement in one line."""
        if self._existing("next.crt"):
            return "ca.crt issues; next.crt is trusted as well, once site.yml has run"
        if self._existing("former.crt"):
            return "ca.crt issues; former.crt is trusted until it is retired"
        if self._existing(RETIRED):
            return "ca.crt issues and is the only one trusted, once site.yml has run"
        return "ca.crt issues and is the only one trusted" if self._existing("ca.crt") else "there is none"

    def _existing(self, *names: str) -> list[str]:
        return [name for name in names if self.path(name).exists()]

    @contextmanager
    def _settled(self, is_key_wanted: bool = True) -> Iterator[None]:
        """Lock the files, and complete what a killed step has left, with each certificate beside its key."""
        with self.vault.locked():
            self._settle()
            self._require_whole(is_key_wanted)
            yield

    def _settle(self) -> None:
        for name in ("ca", "next"):
            made = self._staged(name)
            if made.exists() and not self._existing(f"{name}.crt") and self._fits(f"{name}.key", made):
                made.replace(self.path(f"{name}.crt"))
        promoted = self._existing("next.crt", "former.crt") == ["next.crt", "former.crt"]
        if promoted and not self._existing("next.key") and self._fits("ca.key", self.path("next.crt")):
            self.path("next.crt").replace(self.path("ca.crt"))

    def _require_whole(self, is_key_wanted: bool) -> None:
        """Raise unless the files are a complete authority, and perhaps the next one, or there are none."""
        command = f"mlfleet ca {self.vault.inventory}"
        another = f"create another authority with `{command} next` and then `{command} promote`"
        rest = self._existing("ca.key", "next.crt", "next.key", "former.crt", "former.key", RETIRED)
        if not self._existing("ca.crt") and rest:
            raise MlfleetError(
                f"{self.path('ca.crt')} is missing beside {', '.join(rest)}: put it back, "
                "or remove those as well if no host has a certificate of it."
            )
        if self._existing("ca.crt") and not self._existing("ca.key") and is_key_wanted:
            raise MlfleetError(f"{self.path('ca.key')} is missing: put it back; if it is lost, {another}.")
        if self._existing(*PARTS) == list(PARTS) and not self._fits("ca.key", self.path("ca.crt")):
            raise MlfleetError(
                f"{self.path('ca.key')} is not the key of ca.crt: put the right one of the two back; "
                f"if the key is lost, remove ca.key, and {another}."
            )
        halves = self._existing("next.crt", "next.key")
        if len(halves) == 1 or (halves and not self._fits("next.key", self.path("next.crt"))):
            raise MlfleetError(
                f"{self.path('next.crt')} and next.key are not a pair: put the other half back, "
                f"or remove {' and '.join(halves)} and run `{command} next`."
            )

    def _fits(self, key: str, certificate: Path) -> bool:
        if not self._existing(key):
            return False
        try:
            private = serialization.load_pem_private_key(self.vault.decrypt(self.path(key)), password=None)
            wanted = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
        except MlfleetError:
            raise
        except Exception:  # the library's errors in these calls have no common base class
            unread = f"{self.path(key)} and {certificate.name} cannot be read as key and certificate"
            raise MlfleetError(f"{unread}: put the right ones back.") from None
        return bool(private.public_key() == wanted)

    def _keep(self, part: str) -> None:
        """Copy a file that is about to be replaced, without overwriting what an earlier replacement has kept."""
        if not self._existing(f"ca.{part}"):
            return
        content, kept = self.path(f"ca.{part}").read_bytes(), self.path(f"former.{part}")
        if kept.exists() and kept.read_bytes() != content:
            raise MlfleetError(f"{kept} belongs to an unfinished replacement: move it away if it is no longer needed.")
        write_atomically(kept, content, mode=self.path(f"ca.{part}").stat().st_mode & 0o777)

    def _staged(self, name: str) -> Path:
        return self.path(f".{name}.crt.made")

    def _create(self, name: str) -> None:
        """Write key and certificate; after a kill between the two, the next step puts the certificate in place."""
        certificate, key = _self_signed(f"mlfleet {self.vault.inventory.resolve().name}")
        self.directory.mkdir(parents=True, exist_ok=True)
        write_atomically(self._staged(name), certificate)
        write_atomically(self.path(f"{name}.key"), self.vault.encrypt(key), mode=0o600)
        self._staged(name).replace(self.path(f"{name}.crt"))


def _self_signed(name: str) -> tuple[bytes, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    # The day of creation distinguishes two authorities of one deployment.
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
