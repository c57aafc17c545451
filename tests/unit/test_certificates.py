"""Certificates as users provide them: errors are reported in a line that begins with the file."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils.tls import certificates
from ansible_collections.mlfleet.stack.plugins.module_utils.tls.certificates import CertificateError, Pem
from ansible_collections.mlfleet.stack.plugins.plugin_utils import authority
from cryptography.hazmat.primitives import serialization

from tests.certificates import DER, NOW, PEM, PKCS8, Made, make

FILES = Path(__file__).parent / "certificates"


def pem(made: Made) -> Pem:
    return Pem("ca.crt", made.certificate)


@pytest.fixture(scope="module")
def root() -> Made:
    return make("root", is_authority=True)


@pytest.fixture(scope="module")
def leaf(root: Made) -> Made:
    return make("www", root)


def pair(certificate: str, key: str, root: Made, chain: str = "", names: tuple[str, ...] = ("www",), days: float = 0):
    return certificates.pair(
        certificates.text_of(certificate.encode(), "www.crt"),
        certificates.text_of(key.encode(), "www.key", "key"),
        certificates.text_of(chain.encode(), "chain.crt") if chain else None,
        [pem(root)],
        names,
        days,
    )


def test_good_pair_is_taken(root: Made, leaf: Made) -> None:
    found = pair(leaf.certificate, leaf.private, root)
    assert found.certificate.names == ("www",)
    assert found.full_chain == leaf.certificate


def test_chain_leads_to_the_authority(root: Made) -> None:
    between = make("between", root, is_authority=True)
    leaf = make("www", between)
    found = pair(leaf.certificate, leaf.private, root, chain=between.certificate)
    assert found.full_chain == leaf.certificate + between.certificate
    with pytest.raises(CertificateError, match=r"^www.crt: its chain does not lead .* CN=between is missing$"):
        pair(leaf.certificate, leaf.private, root)
    with pytest.raises(CertificateError, match=r"^chain.crt: .*CN=www, which is not an authority$"):
        pair(leaf.certificate, leaf.private, root, chain=leaf.certificate)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda r, c: {"key": make("www", r).private}, r"www\.key: is not the key of www\.crt"),
        (lambda r, c: {"key": "hello"}, r"www\.key: holds no PEM text"),
        (lambda r, c: {"key": c.certificate}, r"www\.key: holds no private keys"),
        (lambda r, c: {"key": c.private + c.private}, r"www\.key: holds 2 private keys"),
        (lambda r, c: {"certificate": ""}, r"www\.crt: is empty"),
        (lambda r, c: {"certificate": c.private}, r"www\.crt: holds a private key"),
        (lambda r, c: {"certificate": c.certificate + r.certificate}, r"www\.crt: holds 2 certificates"),
        (lambda r, c: {"names": ("www", "api")}, r"www\.crt: is not valid for api, only for www"),
        (lambda r, c: {"names": ("192.0.2.1",)}, r"www\.crt: is not valid for 192\.0\.2\.1, only for www"),
        (lambda r, c: {"days": 200}, r"www\.crt: expires on .*, in less than 200 days"),
        (lambda r, c: {"root": make("root", is_authority=True)}, r"www\.crt: (its chain|certificate signature)"),
        (lambda r, c: {"root": c}, r"ca\.crt: holds no authority's certificate"),
    ],
)
def test_fault_is_named(root: Made, leaf: Made, change: Callable, line: str) -> None:
    arguments = {"certificate": leaf.certificate, "key": leaf.private, "root": root} | change(root, leaf)
    with pytest.raises(CertificateError, match=f"^{line}"):
        pair(**arguments)


@pytest.mark.parametrize(
    ("start", "end", "line"),
    [
        (NOW - timedelta(days=9), NOW - timedelta(days=1), r"^www\.crt: expired on "),
        (NOW + timedelta(days=1), NOW + timedelta(days=9), r"^www\.crt: not valid before "),
    ],
)
def test_wrong_time_is_named(root: Made, start: datetime, end: datetime, line: str) -> None:
    leaf = make("www", root, start=start, end=end)
    with pytest.raises(CertificateError, match=line):
        pair(leaf.certificate, leaf.private, root)


def test_name_in_the_subject_alone_is_none(root: Made) -> None:
    """Browsers and Python's libraries check only the alternative names."""
    leaf = make("www", root, alternatives=False)
    with pytest.raises(CertificateError, match=r"^www\.crt: is not valid for www, only for no name$"):
        pair(leaf.certificate, leaf.private, root)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("sm2.crt", "is not a readable certificate: .+"),
        ("explicit_curve.crt", "has a key with explicit curve parameters, which hosts cannot read; .*"),
    ],
)
def test_certificate_that_a_library_cannot_take_is_named(name: str, line: str) -> None:
    path = str(FILES / name)
    with pytest.raises(CertificateError, match=f"^{path}: {line}$"):
        certificates.certificate(certificates.read(path))


def test_key_on_a_curve_that_is_spelt_out_is_refused() -> None:
    words = ["openssl", "ecparam", "-name", "prime256v1", "-param_enc", "explicit", "-genkey", "-noout"]
    key = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    with pytest.raises(CertificateError, match=r"^www\.key: has a key with explicit curve parameters"):
        certificates.public_key(Pem("www.key", key))


def test_der_is_named_with_its_mend(leaf: Made) -> None:
    with pytest.raises(CertificateError, match=r"^x: is DER, not PEM; convert it with: openssl x509 -inform der$"):
        certificates.text_of(leaf.der, "x")
    with pytest.raises(CertificateError, match="openssl pkey -inform der"):
        certificates.text_of(leaf.key.private_bytes(DER, PKCS8, serialization.NoEncryption()), "x", "key")


def test_key_with_a_pass_phrase_is_refused(leaf: Made) -> None:
    locked = leaf.key.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"secret")).decode()
    with pytest.raises(CertificateError, match="pass phrase"):
        certificates.public_key(Pem("www.key", locked))


# --- issuing ---------------------------------------------------------------------------------------------------------

NAMES = ["db1", "localhost", "127.0.0.1"]


def issued(root: Made, days: float = 90) -> tuple[certificates.Certificate, str]:
    certificate, key = authority.issue(pem(root), Pem("ca.key", root.private), NAMES, days)
    return certificates.certificate(Pem("host.crt", certificate)), key


def test_issued_pair_serves_each_of_its_names(root: Made) -> None:
    found, key = issued(root)
    assert certificates.pair(Pem("host.crt", found.pem), Pem("host.key", key), None, [pem(root)], NAMES)
    assert set(found.names) == set(NAMES)
    assert authority.why_renew(found, certificates.authority(pem(root)), reversed(NAMES), 30) == ""


def test_certificate_is_renewed_for_a_reason(root: Made) -> None:
    found, _key = issued(root, days=20)
    issuer = certificates.authority(pem(root))
    other = certificates.authority(pem(make("root", is_authority=True)))
    assert "fits" in authority.why_renew(None, issuer, NAMES, 30)
    assert "names" in authority.why_renew(found, issuer, [*NAMES, "new"], 10)
    assert "authority" in authority.why_renew(found, other, NAMES, 10)
    assert "30 days" in authority.why_renew(found, issuer, NAMES, 30)


def test_certificate_that_ends_with_its_authority_is_not_renewed_for_ever(root: Made) -> None:
    found, _key = issued(root, days=9999)
    assert authority.why_renew(found, certificates.authority(pem(root)), NAMES, 9000) == ""


def test_key_of_another_authority_issues_nothing(root: Made) -> None:
    other = make("root", is_authority=True)
    with pytest.raises(CertificateError, match=r"^ca\.key: is not the key of ca\.crt$"):
        authority.issue(pem(root), Pem("ca.key", other.private), NAMES, 90)


# --- trusting --------------------------------------------------------------------------------------------------------


def collect(directory: Path, *sources: str) -> list[str]:
    found = authority.collect(sources, directory, lambda path: Path(path).read_bytes())
    return [each.subject for each in found]


def test_sources_are_files_directories_and_texts(root: Made, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "root.crt").write_text(root.certificate)
    (tmp_path / "more/a.pem").write_text(make("a", is_authority=True).certificate)
    (tmp_path / "more/notes.txt").write_text("not a certificate")
    text = make("text", is_authority=True).certificate
    assert collect(tmp_path, "root.crt", "more", text, "root.crt") == ["CN=root", "CN=a", "CN=text"]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (lambda root: make("leaf", root).certificate, "is not the certificate of an authority (CA) but of CN=leaf"),
        (lambda root: root.private, "holds a private key"),
        (lambda root: root.certificate * 2, "holds 2 certificates"),
        (
            lambda root: make("old", None, True, NOW - timedelta(days=9), NOW - timedelta(days=1)).certificate,
            "expired on",
        ),
        (lambda root: "", "is empty"),
    ],
)
def test_source_that_is_no_authority_is_named(root: Made, tmp_path: Path, content: Callable, line: str) -> None:
    (tmp_path / "x.crt").write_text(content(root))
    with pytest.raises(CertificateError, match=re.escape(f"{tmp_path}/x.crt: {line}")):
        collect(tmp_path, "x.crt")


def test_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="nowhere: does not exist"):
        collect(tmp_path, "nowhere")


# --- declarations ----------------------------------------------------------------------------------------------------


def declared(tmp_path: Path, services: tuple[str, ...] = ("nginx",), **settings: object) -> authority.Settings:
    values: dict[str, object] = {
        "topology_tls_mode": "internal",
        "topology_nginx_tls_mode": "internal",
        "topology_tls_authority_dir": str(tmp_path / "ca"),
        "topology_ca_sources": [],
        "topology_ca_certificates_extra": [],
        "topology_tls_pairs": {},
        "topology_tls_client_certificates": False,
        "topology_tls_valid_days": 365,
        "topology_tls_renew_days": 30,
        "topology_nginx_server_names": ["www"],
        "topology_nginx_names": {},
        "topology_nginx_hosts": ["edge"],
        "topology_balancer_clients": [],
        "topology_balancer": "10.0.0.1",
    } | {f"topology_{name}": value for name, value in settings.items()}
    return authority.Settings(values.__getitem__, services)


def problems(tmp_path: Path, *arguments: tuple[str, ...], **settings: object) -> list[str]:
    return list(authority.problems(declared(tmp_path, *arguments, **settings), tmp_path))


def problem_of_own(tmp_path: Path, **settings: object) -> str:
    settings = declared(tmp_path, **settings)
    return authority.problem_of_own(settings, str(tmp_path), lambda path: Path(path).read_bytes())


def write_authority(tmp_path: Path, made: Made) -> None:
    (tmp_path / "ca").mkdir(exist_ok=True)
    (tmp_path / "ca/ca.crt").write_text(made.certificate)
    (tmp_path / "ca/ca.key").write_text(made.private)


def test_authority_that_cannot_issue_names_the_mend(root: Made, tmp_path: Path) -> None:
    line = problem_of_own(tmp_path)
    assert "ca/ca.crt" in line and line.endswith(f"run: mlfleet init {tmp_path}")
    assert problem_of_own(tmp_path, tls_mode="off", nginx_tls_mode=False) == ""
    write_authority(
        tmp_path, make("old", is_authority=True, start=NOW - timedelta(days=9), end=NOW - timedelta(days=1))
    )
    line = problem_of_own(tmp_path)
    assert "ca/ca.crt: expired on" in line
    assert line.endswith(f"remove {tmp_path}/ca and run: mlfleet init {tmp_path}")
    write_authority(tmp_path, root)
    assert problem_of_own(tmp_path) == ""


@pytest.mark.parametrize("name", ["ca.key", "ca.crt"])
def test_key_that_is_another_authoritys_is_named_with_the_mend(root: Made, tmp_path: Path, name: str) -> None:
    write_authority(tmp_path, root)
    other = make("other", is_authority=True)
    (tmp_path / "ca" / name).write_text(other.private if name == "ca.key" else other.certificate)
    line = problem_of_own(tmp_path)
    assert f"{tmp_path}/ca/ca.key: is not the key of {tmp_path}/ca/ca.crt" in line and "mlfleet init" in line
    (tmp_path / "ca" / name).unlink()
    assert f"authority is missing: {tmp_path}/ca/{name} " in problem_of_own(tmp_path)
    (tmp_path / "ca" / name).write_text("-----BEGIN PRIVATE KEY-----\nnothing\n-----END PRIVATE KEY-----\n")
    assert problem_of_own(tmp_path).startswith(f"{tmp_path}/ca/{name}: ")


def test_authority_that_is_missed_elsewhere_is_named(root: Made, tmp_path: Path) -> None:
    """With several inventories, or with hosts in a subdirectory, the message ends with the right directory."""
    elsewhere = str(tmp_path / "hosts.d/ca")
    line = problem_of_own(tmp_path, tls_authority_dir=elsewhere)
    assert f"{elsewhere}/ca.crt" in line
    assert line.endswith(f"run: mlfleet init {tmp_path}, and set topology_tls_authority_dir: {tmp_path}/ca")


def test_what_ends_soon_is_told(tmp_path: Path) -> None:
    soon, later = NOW + timedelta(days=20), NOW + timedelta(days=400)
    write_authority(tmp_path, make("later", is_authority=True, end=later))
    leaf = make("www", end=soon)
    settings = {
        "nginx_tls_mode": "provided",
        "tls_pairs": {"nginx": {"certificate": leaf.certificate, "key": leaf.private}},
        "ca_certificates_extra": [make("company", is_authority=True, end=later).certificate],
    }

    def told(**changes: object) -> list[str]:
        return list(authority.warnings(declared(tmp_path, **(settings | changes)), tmp_path))

    date = f"{soon:%Y-%m-%d}"
    assert told() == [f"topology_tls_pairs.nginx: ends on {date}; give another in time"]
    assert told(tls_renew_days=10) == []
    assert told(nginx_tls_mode="internal") == []
    shared = {"host": settings["tls_pairs"]["nginx"]}
    assert told(tls_pairs=shared) == [f"topology_tls_pairs.host: ends on {date}; give another in time"]
    extra = {"ca_certificates_extra": [make("company", is_authority=True, end=soon).certificate], "tls_pairs": {}}
    assert told(**extra) == [f"the text at place 1: ends on {date}; give another in time"]
    (line,) = told(tls_valid_days=500, tls_pairs={})
    assert line.startswith(f"{tmp_path}/ca/ca.crt: ends on") and line.endswith(
        "replace it with playbooks/rotate_ca.yml"
    )


def test_provided_pair_is_checked_before_any_host_is_asked(root: Made, leaf: Made, tmp_path: Path) -> None:
    off = {"tls_mode": "off", "nginx_tls_mode": "provided", "ca_sources": [root.certificate]}
    good = {"certificate": leaf.certificate, "key": leaf.private, "chain": ""}
    assert problems(tmp_path, **off, tls_pairs={"nginx": good}) == []
    assert problems(tmp_path, **off, tls_pairs={"host": good}) == []
    assert problems(tmp_path, **off) == [
        "topology_tls_pairs: has no certificate and key for nginx or host, which mode provided needs"
    ]
    assert len(problems(tmp_path, **off, tls_pairs={"nginx": None})) == 1
    (line,) = problems(tmp_path, **off, tls_pairs={"nginx": good | {"key": ""}})
    assert line == "topology_tls_pairs.nginx: has no key"
    (line,) = problems(tmp_path, **off, tls_pairs={"nginx": good}, nginx_server_names=["api"])
    assert line == "topology_tls_pairs.nginx.certificate: is not valid for api, only for www"
    (line,) = problems(tmp_path, **off, tls_pairs={"nginx": good}, nginx_names={"mlflow": "mlflow.www"})
    assert line == "topology_tls_pairs.nginx.certificate: is not valid for mlflow.www, only for www"


def test_nginx_shows_clients_of_minio_its_certificate_where_it_balances(root: Made, leaf: Made, tmp_path: Path) -> None:
    pairs = {"nginx": {"certificate": leaf.certificate, "key": leaf.private}}
    off = {"tls_mode": "off", "nginx_tls_mode": "provided", "ca_sources": [root.certificate], "tls_pairs": pairs}
    (line,) = problems(tmp_path, **off, balancer_clients=["app"])
    assert line.endswith("is not valid for 10.0.0.1, only for www")


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"tls_mode": "provided"}, "topology_nginx_tls_mode: internal does not go with topology_tls_mode provided"),
        ({"restapi_tls_mode": "provided"}, "topology_restapi_tls_mode: provided needs topology_tls_mode provided"),
        ({"tls_mode": "off", "tls_client_certificates": True}, "needs topology_tls_mode internal"),
        ({"tls_valid_days": 30}, "must be more than topology_tls_renew_days"),
    ],
)
def test_what_does_not_go_together_is_named(root: Made, tmp_path: Path, settings: dict, line: str) -> None:
    (tmp_path / "ca").mkdir()
    for name in ("ca.crt", "ca.key"):
        (tmp_path / "ca" / name).write_text(root.certificate)
    values = {"restapi_tls_mode": "internal", "restapi_host": "api", "restapi_tls_name": "restapi"} | settings
    found = problems(tmp_path, ("nginx", "restapi"), **values)
    assert any(line in each for each in found), found


def test_pgadmin_behind_nginx_needs_a_name(root: Made, leaf: Made, tmp_path: Path) -> None:
    values = {
        "tls_mode": "provided",
        "pgadmin_tls_mode": "provided",
        "tls_pairs": {"host": {"certificate": leaf.certificate, "key": leaf.private}},
        "ca_sources": [root.certificate],
        "pgadmin_hosts": ["pages"],
    }
    (line,) = problems(tmp_path, ("pgadmin",), **values, pgadmin_host="192.0.2.71", pgadmin_tls_name="192.0.2.71")
    assert line.startswith("topology_pgadmin_tls_name: nginx cannot verify the address 192.0.2.71")
    assert problems(tmp_path, ("pgadmin",), **values, pgadmin_host="www", pgadmin_tls_name="www") == []


def test_minio_behind_nginx_needs_a_name(root: Made, leaf: Made, tmp_path: Path) -> None:
    pairs = {"host": {"certificate": leaf.certificate, "key": leaf.private}}
    values = {
        "tls_mode": "provided",
        "minio_tls_mode": "provided",
        "tls_pairs": pairs,
        "ca_sources": [root.certificate],
    }
    values["minio_hosts"] = ["store1"]
    (line,) = problems(tmp_path, ("minio",), **values, minio_host="127.0.0.1", minio_tls_name="127.0.0.1")
    assert line.startswith("topology_minio_tls_name: nginx cannot verify the address 127.0.0.1")
    assert problems(tmp_path, ("minio",), **values, minio_host="www", minio_tls_name="www") == []
    values |= {"minio_hosts": ["store1", "store2"], "address": "store1"}
    (line,) = problems(tmp_path, ("minio",), **values, minio_host="www", minio_tls_name="www")
    assert line.endswith("is not valid for store1, only for www")


def test_comment_in_any_language_is_no_fault(root: Made) -> None:
    text = certificates.text_of(b"# F\xc5\x91tan\xc3\xbas\xc3\xadtv\xe1ny\n" + root.certificate.encode(), "bundle")
    assert certificates.authority(text).subject == "CN=root"


def test_names_are_compared_as_they_are_meant(root: Made) -> None:
    certificate, _key = authority.issue(pem(root), Pem("ca.key", root.private), ["2001:DB8::1"], 90)
    found = certificates.certificate(Pem("host.crt", certificate))
    assert authority.why_renew(found, certificates.authority(pem(root)), ["2001:db8:0::1"], 30) == ""
    with pytest.raises(CertificateError, match="neither an address nor an ASCII name"):
        authority.issue(pem(root), Pem("ca.key", root.private), ["bücher.example.org"], 90)
