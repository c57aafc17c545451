# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The deployment's own certificate authority, and other authorities that hosts trust; on the controller only.

C(mlfleet init) creates the authority in the inventory's directory C(ca): C(ca.crt) and, encrypted, C(ca.key). While it
is being replaced, there is also a C(next.crt) or C(former.crt), which hosts trust too.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

from ansible_collections.mlfleet.stack.plugins.module_utils.tls import certificates
from ansible_collections.mlfleet.stack.plugins.module_utils.tls.certificates import Certificate, CertificateError, Pem
from ansible_collections.mlfleet.stack.plugins.plugin_utils import services

try:
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
except ImportError:
    pass  # certificates.IMPORT_ERROR has it

CERTIFICATE, KEY = "ca.crt", "ca.key"
SUFFIXES = (".crt", ".pem")
COMMON_NAME_LENGTH = 64
# Clocks differ, and a certificate that has just been issued must be valid everywhere.
BACKDATED = timedelta(hours=1)


def issue(authority_pem: Pem, key_pem: Pem, names: Iterable[str], days: float) -> tuple[str, str]:
    """Issue a certificate for a host with these names, as server and as client; return it with its new key."""
    issuer = certificates.authority(authority_pem)
    issuer.require_validity()
    if certificates.public_key(key_pem) != issuer.public_key:
        raise CertificateError(f"{key_pem.origin}: is not the key of {authority_pem.origin}")
    parent = x509.load_pem_x509_certificate(issuer.pem.encode())
    signer = cast(CertificateIssuerPrivateKeyTypes, serialization.load_pem_private_key(key_pem.text.encode(), None))
    key = ec.generate_private_key(ec.SECP256R1())
    alternatives = [_general_name(name) for name in names]
    common_name = next((str(name.value) for name in alternatives), "host")[:COMMON_NAME_LENGTH]
    now = certificates.utc_now()
    found = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(parent.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(max(now - BACKDATED, issuer.not_before))
        .not_valid_after(min(now + timedelta(days=days), issuer.not_after))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(_key_usage(), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    pem, private = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return (
        found.public_bytes(pem).decode(),
        key.private_bytes(pem, private, serialization.NoEncryption()).decode(),
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        return x509.DNSName(name)
    except ValueError:
        raise CertificateError(
            f"{name!r} cannot be in a certificate: it is neither an address nor an ASCII name"
        ) from None


def _key_usage() -> x509.KeyUsage:
    names = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "key_cert_sign")
    others = (*names, "crl_sign", "encipher_only", "decipher_only")
    return x509.KeyUsage(digital_signature=True, **dict.fromkeys(others, False))


def why_renew(found: Certificate | None, issuer: Certificate, names: Iterable[str], renew_days: float) -> str:
    """Return why a host needs another certificate than the one found, or nothing."""
    if found is None:
        return "there is none that its key fits, with owner and mode as they were made"
    if set(found.names) != {str(_general_name(name).value) for name in names}:
        return "its names have changed"
    if not _is_signed_by(found, issuer):
        return "it is not of the authority that now issues"
    # An authority that expires soon cannot issue for more days than it has left.
    if found.days_left() < renew_days and found.not_after < issuer.not_after:
        return f"it ends in less than {renew_days:g} days"
    return ""


def _is_signed_by(found: Certificate, issuer: Certificate) -> bool:
    try:
        x509.load_pem_x509_certificate(found.pem.encode()).verify_directly_issued_by(
            x509.load_pem_x509_certificate(issuer.pem.encode())
        )
    except (ValueError, InvalidSignature):  # other names or algorithms, or another key
        return False
    except (TypeError, UnsupportedAlgorithm) as error:
        raise CertificateError(f"whose certificate {found.subject} is cannot be told: {error}") from None
    return True


# --- other authorities -----------------------------------------------------------------------------------------------


def collect(sources: Iterable[str], directory: Path, read: Callable[[str], bytes]) -> list[Certificate]:
    """Return the authorities of all sources: a text, a file, or every C(*.crt) and C(*.pem) of a directory.

    Each contains one certificate. A path is relative to the given directory.
    """
    found: dict[str, Certificate] = {}
    for number, source in enumerate(sources, start=1):
        for pem in _texts(source, number, directory, read):
            authority = certificates.authority(pem)
            authority.require_validity()
            found.setdefault(authority.fingerprint, authority)
    return list(found.values())


def _texts(source: str, number: int, directory: Path, read: Callable[[str], bytes]) -> list[Pem]:
    if certificates.SIGN_OF_TEXT in source:
        return [certificates.text_of(source.encode(), f"the text at place {number}")]
    path = directory / source
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
    elif path.is_file():
        files = [path]
    else:
        raise CertificateError(f"{path}: does not exist")
    return [certificates.text_of(read(str(file)), str(file)) for file in files]


# --- an inventory's declarations -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """The TLS settings of one host in the inventory. C(get) returns a setting of topology by its name."""

    get: Callable[[str], Any]
    services: Iterable[str]

    @property
    def names_of_modes(self) -> dict[str, str]:
        """The settings with the TLS modes of the host and its services, each with the service that it concerns."""
        return {"topology_tls_mode": "host"} | {f"topology_{service}_tls_mode": service for service in self.services}

    @property
    def modes(self) -> dict[str, Any]:
        return {service: self.get(name) for name, service in self.names_of_modes.items()}

    def pair_of(self, service: str) -> str:
        """Return whose pair the service presents: its own, or the host's."""
        return service if service in self.get("topology_tls_pairs") else "host"

    @property
    def own(self) -> Path:
        """The directory of the deployment's own authority."""
        return Path(self.get("topology_tls_authority_dir"))


def problem_of_own(settings: Settings, inventory: str, decrypted: Callable[[str], bytes]) -> str:
    """Return why the deployment's own authority cannot issue although it must, or nothing."""
    if "internal" not in settings.modes.values():
        return ""
    mend = f"run: mlfleet init {inventory}"
    certificate, key = str(settings.own / CERTIFICATE), str(settings.own / KEY)
    if missing := [path for path in (certificate, key) if not Path(path).is_file()]:
        made = Path(inventory).resolve() / "ca"
        if settings.own.resolve() != made:  # such as with several inventories, or with hosts in files of a subdirectory
            mend += f", and set topology_tls_authority_dir: {made}"
        return f"the deployment's authority is missing: {', '.join(missing)} – {mend}"  # noqa: RUF001
    try:
        found = certificates.authority(certificates.read(certificate))
        if certificates.public_key(certificates.text_of(decrypted(key), key, "key")) != found.public_key:
            return f"{key}: is not the key of {certificate} – {mend}, which explains how to fix it"  # noqa: RUF001
    except CertificateError as error:
        return str(error)
    if found.days_left() > 0:
        return ""
    mend = f"for another one remove {settings.own} and run: mlfleet init {inventory}"
    return f"{found.origin}: expired on {found.not_after:%Y-%m-%d} – {mend}"  # noqa: RUF001


def warnings(settings: Settings, directory: Path) -> Iterator[str]:
    """Warn of certificates that expire soon and are not renewed automatically."""
    get = settings.get
    if "internal" in settings.modes.values():
        found = certificates.authority(certificates.read(str(settings.own / CERTIFICATE)))
        if found.days_left() < get("topology_tls_valid_days"):
            yield f"{found.origin}: ends on {found.not_after:%Y-%m-%d}; replace it with playbooks/rotate_ca.yml"
    mine = [
        certificates.certificate(certificates.text_of(str(pair["certificate"]).encode(), f"topology_tls_pairs.{name}"))
        for name, pair in get("topology_tls_pairs").items()
        if name in {settings.pair_of(service) for service, mode in settings.modes.items() if mode == "provided"}
    ]
    mine += collect(get("topology_ca_certificates_extra"), directory, lambda path: Path(path).read_bytes())
    for found in mine:
        if found.days_left() < get("topology_tls_renew_days"):
            yield f"{found.origin}: ends on {found.not_after:%Y-%m-%d}; give another in time"


def problems(settings: Settings, directory: Path) -> Iterator[str]:
    """Yield problems with the certificates that a host's services must use."""
    get, modes = settings.get, settings.modes
    try:
        trusted = collect(get("topology_ca_sources"), directory, lambda path: Path(path).read_bytes())
    except CertificateError as error:
        yield f"topology_ca_certificates_extra: {error}"
        return
    yield from _mixtures(modes, get)
    if get("topology_tls_valid_days") <= get("topology_tls_renew_days"):
        yield "topology_tls_valid_days: must be more than topology_tls_renew_days, otherwise each run renews"
    pairs = get("topology_tls_pairs")
    for service in (service for service, mode in modes.items() if mode == "provided"):
        name = settings.pair_of(service)
        if not isinstance(pairs.get(name), Mapping):
            choice = "host" if service == "host" else f"{service} or host"
            yield f"topology_tls_pairs: has no certificate and key for {choice}, which mode provided needs"
            continue
        try:
            authorities = [Pem(found.origin, found.pem) for found in trusted] + _of_this_machine()
            _require_pair(f"topology_tls_pairs.{name}", pairs[name], authorities, _names(service, get))
        except CertificateError as error:
            yield str(error)


def _mixtures(modes: Mapping[str, Any], get: Callable[[str], Any]) -> Iterator[str]:
    """Yield incompatible modes: a host has one certificate, which some services present, and clients too."""
    of_host = modes["host"]
    for service, mode in modes.items():
        setting = f"topology_{service}_tls_mode"
        if (mode, of_host) == ("internal", "provided"):
            yield f"{setting}: internal does not go with topology_tls_mode provided; set that to internal"
        has_own = service in get("topology_tls_pairs") or of_host != "provided"
        if service in services.with_tls(services.TLS_OF_HOST) and mode == "provided" and has_own:
            yield f"{setting}: provided needs topology_tls_mode provided, and shows the pair of host"
    if get("topology_tls_client_certificates") and of_host != "internal":
        yield "topology_tls_client_certificates: needs topology_tls_mode internal, whose certificates clients show"


def _names(service: str, get: Callable[[str], Any]) -> list[str]:
    """Return the names by which clients reach a service; nginx is a client of four."""
    if service == "host":
        return []
    if service == "nginx":
        balancer = [get("topology_balancer")] if get("topology_balancer_clients") else []
        return [*get("topology_nginx_server_names"), *get("topology_nginx_names").values(), *balancer]
    if service not in services.behind_balancer():
        return [get(f"topology_{service}_host")]
    # With several hosts, each uses its own service.
    names = [get("topology_address") if len(get(f"topology_{service}_hosts")) > 1 else get(f"topology_{service}_host")]
    if get("topology_nginx_hosts"):
        names.append(name := get(f"topology_{service}_tls_name"))
        if _is_address(name):
            raise CertificateError(
                f"topology_{service}_tls_name: nginx cannot verify the address {name}; give a name of the certificate"
            )
    return names


def _is_address(name: str) -> bool:
    return isinstance(_general_name(name), x509.IPAddress)


def _require_pair(origin: str, given: Mapping[str, str], authorities: list[Pem], names: list[str]) -> None:
    for part in ("certificate", "key"):
        if not given.get(part):
            raise CertificateError(f"{origin}: has no {part}")
    texts = {part: certificates.text_of(str(text).encode(), f"{origin}.{part}") for part, text in given.items() if text}
    certificates.pair(texts["certificate"], texts["key"], texts.get("chain"), authorities, names)


def _of_this_machine() -> list[Pem]:
    """Return the authorities that the controller trusts, assuming that hosts trust the same public ones."""
    path = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"
    return [certificates.read(path)] if Path(path).is_file() else []
