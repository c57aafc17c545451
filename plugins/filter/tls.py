# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Values that follow from a service's TLS mode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.mlfleet.stack.plugins.module_utils.tls.certificates import CertificateError
from ansible_collections.mlfleet.stack.plugins.plugin_utils import authority


def uses_tls(mode: Any) -> bool:
    """Return whether this mode uses TLS; an unquoted C(off) is a boolean in YAML."""
    return mode in ("internal", "provided")


def scheme(mode: Any) -> str:
    """The scheme of a service's URLs."""
    return "https" if uses_tls(mode) else "http"


def tls_pair(mode: Any, service: str, pairs: Mapping[str, Mapping[str, str]], directory: str) -> dict[str, str]:
    """Return a service's certificate and key for ssl_toggle: the given texts, or the host's files."""
    if not uses_tls(mode):
        return {}
    if mode == "provided":
        given = pairs.get(service) or pairs["host"]
        return {{"key": "key_text"}.get(part, part): text for part, text in given.items()}
    return {"certificate": f"{directory}/host.crt", "key": f"{directory}/host.key"}


def authority_texts(sources: Iterable[str], directory: str) -> list[str]:
    """Return the authorities' certificates that ca_bundle would install, each as text."""
    try:
        found = authority.collect(sources, Path(directory), lambda path: Path(path).read_bytes())
    except CertificateError as error:
        raise AnsibleFilterError(str(error)) from None
    return [each.pem for each in found]


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "uses_tls": uses_tls,
            "scheme": scheme,
            "tls_pair": tls_pair,
            "authority_texts": authority_texts,
        }
