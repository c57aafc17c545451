"""What a port's TLS is like, by sslyze."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from .conftest import Lab

SCAN = ("uv", "run", "--no-project", "--with-requirements", "constraints/sslyze.txt", "sslyze", "--quiet")
SCANS = ("certinfo", "sslv2", "sslv3", "tlsv1", "tlsv1_1", "tlsv1_2", "tlsv1_3", "heartbleed", "compression")
HSTS_SECONDS = 31536000


def scan(lab: Lab, targets: Iterable[str], path: Path, *words: str) -> dict[str, dict]:
    """Return sslyze's results for each target."""
    scans = [f"--{name}" for name in SCANS]
    trust = ("--certinfo_ca_file", str(lab.inventory.resolve() / "ca/ca.crt"), "--mozilla_config", "disable")
    command = (*SCAN, *scans, *trust, "--json_out", str(path), *words, *targets)
    lab.command(*command, env={**os.environ, "UV_SYSTEM_CERTS": "1"})
    found = json.loads(path.read_text())["server_scan_results"]
    places = [result["server_location"] for result in found]
    return {
        f"{place['hostname']}:{place['port']}": result["scan_result"]
        for place, result in zip(places, found, strict=True)
    }


def modern(result: dict, label: str, has_hsts: bool = False) -> str:
    """Assert that a port speaks modern TLS only, with a certificate of the deployment, and return a line about it."""
    suites = {
        name.removesuffix("_cipher_suites"): found["result"]["accepted_cipher_suites"]
        for name, found in result.items()
        if name.endswith("_cipher_suites")
    }
    accepted = {name: [suite["cipher_suite"]["name"] for suite in found] for name, found in suites.items() if found}
    (deployment,) = result["certificate_info"]["result"]["certificate_deployments"]
    is_verified = any(each["was_validation_successful"] for each in deployment["path_validation_results"])
    headers = (result.get("http_headers") or {}).get("result") or {}
    hsts = (headers.get("strict_transport_security_header") or {}).get("max_age")
    versions = ", ".join(sorted(accepted))
    verdict = "verifies" if is_verified else "DOES NOT VERIFY"
    row = f"{label} {versions:17} chain {verdict}  HSTS {hsts or '-'}"
    assert set(accepted) == {"tls_1_2", "tls_1_3"}, row
    names = [name for found in accepted.values() for name in found]
    assert all("GCM" in name or "CHACHA20" in name or "CCM" in name for name in names), names
    assert is_verified, row
    assert hsts == HSTS_SECONDS or not has_hsts, row
    return row
