# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Data for a host that checks the others: its key, the hosts that it knows, and the project."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

with contextlib.suppress(ImportError):
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

# Prometheus has the runbooks among its pages.
FILES = ("ansible.cfg", "docs/runbooks.md", "galaxy.yml", "site.yml")
DIRECTORIES = ("constraints", "meta", "playbooks", "plugins", "roles", "scripts", "src")
SSH_PORT = 22
HOST_KEYS = ("ssh_host_key_ed25519", "ssh_host_key_ecdsa", "ssh_host_key_rsa")  # facts


def _key(secret: str) -> Any:
    """Return the same key for the same secret, so that nothing else is stored and each run writes the same file."""
    number = int.from_bytes(hashlib.sha512(f"mlfleet ssh {secret}".encode()).digest(), "big")
    return ec.derive_private_key(number % (2**255) + 1, ec.SECP256R1())


def ssh_private_key(secret: str) -> str:
    """Return the private key that is derived from a secret, in OpenSSH's format."""
    form = serialization.PrivateFormat.TraditionalOpenSSL
    return _key(secret).private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def ssh_public_key(secret: str) -> str:
    """Return its public half, as in a line of authorized_keys."""
    public = _key(secret).public_key()
    return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def known_hosts(hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> str:
    """Return known_hosts from the facts of all hosts; nothing if one has none, because a part would drop others."""
    lines = []
    for host in hosts:
        variables = hostvars[host]
        facts = variables.get("ansible_facts", {})
        keys = [name for name in HOST_KEYS if facts.get(f"{name}_public")]
        if not keys:
            return ""
        address, port = variables.get("ansible_host", host), int(variables.get("ansible_port") or SSH_PORT)
        names = address if port == SSH_PORT else f"[{address}]:{port}"
        lines += [f"{names} {facts[f'{name}_public_keytype']} {facts[f'{name}_public']}\n" for name in keys]
    return "".join(sorted(lines))


def project_files(project: str, inventory: str, directory: str, group: str) -> list[dict[str, Any]]:
    """Return the project and one of its inventories for config_files, in directories that contain nothing else."""
    root = Path(project)
    parts = {Path(directory, name): root / name for name in FILES + DIRECTORIES}
    parts[Path(directory, "inventories", Path(inventory).name)] = Path(inventory)
    found = [_directory(Path(directory), group), _directory(Path(directory, "inventories"), group)]
    for target, source in parts.items():
        found += _tree(source, target, group, sensitive=source == Path(inventory))
    return found


def _tree(source: Path, target: Path, group: str, sensitive: bool) -> Iterator[dict[str, Any]]:
    """Leave out hidden and generated files, such as bytecode, and binary ones, which the controller has read."""
    if source.is_file():
        mode = "0750" if source.stat().st_mode & 0o100 else "0640"
        with contextlib.suppress(UnicodeDecodeError):
            content = source.read_text()
            yield {"path": str(target), "content": content, "group": group, "mode": mode, "sensitive": sensitive}
        return
    yield _directory(target, group)
    for entry in sorted(source.iterdir()):
        if not entry.name.startswith((".", "__")) or entry.name in ("__init__.py", "__main__.py"):
            yield from _tree(entry, target / entry.name, group, sensitive)


def builds(directory: str) -> list[str]:
    """Return what the controller has built and read, each in its own directory, without remains of a killed run."""
    files = (path for path in Path(directory).glob("*/*") if path.is_file() and not path.name.startswith("."))
    return sorted(str(path.relative_to(directory)) for path in files)


def _directory(path: Path, group: str) -> dict[str, Any]:
    return {"path": str(path), "state": "directory", "group": group, "mode": "0750", "purge": True}


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "known_hosts": known_hosts,
            "builds": builds,
            "project_files": project_files,
            "ssh_private_key": ssh_private_key,
            "ssh_public_key": ssh_public_key,
        }
