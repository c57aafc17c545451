"""The inventory of a lab: a copy of another inventory, and two files with the differences between lab and machines."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from mlfleet.project import MlfleetError, write_atomically

HEADER = "# Made by `mlfleet lab up`; changes here are lost.\n"
OVERLAY = "lab.yml"  # read by Ansible after hosts.yml
VARIABLES = "group_vars/all/lab.yml"
VAULT = "group_vars/all/vault.yml"
MARKER = ".lab"  # names the copied inventory; a directory without it is not ours to change or remove
UV_CACHE = "/var/cache/mlfleet/uv"
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
# The variables that determine how a host is reached, with their continuation lines.
CONNECTION_LINE = re.compile(
    rb"^(ansible_(host|port|connection|user|ssh_\w+)|topology_address)\s*:.*\n?(^[ \t].*\n?)*", re.MULTILINE
)


@dataclass(frozen=True)
class LabInventory:
    """The directory of one lab; its last path component names the lab."""

    path: Path

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise MlfleetError(f"{self.name} cannot name a lab: use lower-case letters, digits, '.', '_' and '-'.")

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def marker(self) -> Path:
        return self.path / MARKER

    @property
    def key(self) -> Path:
        return self.path / ".ssh/id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.path / ".ssh/known_hosts"

    @property
    def overlay(self) -> Path:
        return self.path / OVERLAY

    def create(self, like: Path) -> bool:
        """Copy inventory *like* here unless that was done before; an existing vault is kept.

        Returns:
            Whether anything was copied. An interrupted copy is finished, regardless of *like*.

        Raises:
            MlfleetError: *like* is not an inventory directory, or this directory is an inventory that is not a lab's.
        """
        if self.overlay.exists() and self.marker.exists():
            return False
        if self.marker.exists():
            like = Path(self.marker.read_text().strip())
        elif foreign := [path for path in _files(self.path) if path != Path(VAULT)]:
            raise MlfleetError(f"{self.path} holds {foreign[0]} and is not a lab: name another directory for the lab.")
        if not like.is_dir():
            raise MlfleetError(f"{like} is not an inventory directory: name one with --like.")
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.marker, f"{like.resolve()}\n".encode())
        write_atomically(self.path / ".gitignore", b"*\n")  # wherever it is, its keys must not be committed
        for file in _files(like):
            if file not in (Path(VAULT), Path(OVERLAY), Path(VARIABLES)):
                content = (like / file).read_bytes()
                if file.parts[0] == "host_vars":  # which outrank the overlay
                    content = CONNECTION_LINE.sub(b"", content)
                (self.path / file).parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self.path / file, content, (like / file).stat().st_mode & 0o777)
        return True

    def create_key(self) -> str:
        """Create the key pair unless it exists; return the public key in OpenSSH's format."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        self.key.parent.mkdir(mode=0o700, exist_ok=True)
        if not self.key.exists():
            private = Ed25519PrivateKey.generate()
            pem = private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
            write_atomically(self.key, pem, mode=0o600)
        done = subprocess.run(
            ["ssh-keygen", "-y", "-f", str(self.key)], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    def hosts(self) -> list[str]:
        """Return the names of the inventory's hosts, in its order.

        Raises:
            MlfleetError: there are none, or a name cannot be a container's.
        """
        # Not needed to sign in to a host, which need not take half a second.
        from ansible.inventory.manager import InventoryManager  # type: ignore[import-untyped]
        from ansible.parsing.dataloader import DataLoader  # type: ignore[import-untyped]

        # lab.yml is left out, because it may still name hosts that have been removed from the inventory.
        sources = [
            str(path)
            for path in sorted(self.path.iterdir())
            if path.is_file() and path.suffix in ("", ".yml", ".yaml") and path.name != OVERLAY and path.name[0] != "."
        ]
        names = [str(host.name) for host in InventoryManager(loader=DataLoader(), sources=sources).get_hosts()]
        if not names:
            raise MlfleetError(f"{self.path} names no hosts.")
        for name in names:
            if not NAME.fullmatch(name):
                raise MlfleetError(f"host {name} of {self.path} cannot be in a lab: its name is not a container name.")
        return names

    def addresses(self) -> dict[str, str]:
        """Return the address of each host that `mlfleet lab up` has reached.

        Raises:
            MlfleetError: there is no such lab.
        """
        if not (self.marker.exists() and self.overlay.exists()):
            raise MlfleetError(f"{self.path} is not a lab yet: run `mlfleet lab up {self.path}`.")
        hosts = yaml.safe_load(self.overlay.read_text())["all"]["hosts"]
        return {name: str(variables["ansible_host"]) for name, variables in hosts.items()}

    def ssh_options(self) -> list[str]:
        """Return the options with which ssh trusts exactly the keys that were read from the containers."""
        options = (
            f'UserKnownHostsFile="{self.known_hosts}"',
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            # A shared connection must not outlive the container behind it.
            "ServerAliveInterval=10",
            "ServerAliveCountMax=3",
        )
        return [argument for option in options for argument in ("-o", option)]

    def ssh_command(self, address: str, *options: str) -> list[str]:
        """Return the command that signs in to a lab host like Ansible; a remote command can be appended."""
        return ["ssh", "-i", str(self.key), *self.ssh_options(), *options, f"ops@{address}"]

    def write_overlay(self, addresses: dict[str, str]) -> bool:
        """Write how Ansible reaches each host; return whether that changed anything."""
        common = " ".join(f"'{argument}'" if '"' in argument else argument for argument in self.ssh_options())
        hosts = {
            name: {
                "ansible_host": address,
                "ansible_port": 22,
                "ansible_connection": "ssh",
                "ansible_user": "ops",
                "ansible_ssh_private_key_file": str(self.key),
                "ansible_ssh_common_args": common,
                # A lab is one network, even if the copied inventory has several.
                "topology_address": address,
            }
            for name, address in addresses.items()
        }
        return _write_yaml(self.overlay, {"all": {"hosts": hosts}})

    def write_known_hosts(self, lines: str) -> None:
        """Replace the trusted host keys of this lab."""
        write_atomically(self.known_hosts, lines.encode(), mode=0o600)

    def write_variables(self, variables: dict[str, object]) -> bool:
        """Write the variables that only a lab has; return whether that changed anything."""
        return _write_yaml(self.path / VARIABLES, variables, mode=0o600)

    def remove(self) -> None:
        """Remove the directory with its vault; the marker goes last, so that an interrupted removal can be repeated."""
        for directory, names, files in os.walk(self.path, topdown=False):
            for name in files:
                if Path(directory, name) != self.marker:
                    Path(directory, name).unlink()
            for name in names:
                entry = Path(directory, name)
                entry.unlink() if entry.is_symlink() else entry.rmdir()
        self.marker.unlink()
        self.path.rmdir()


def lab_variables(certificates: bool, index_url: str | None, base_archive: str | None = None) -> dict[str, object]:
    """Return what a lab host must know about the controller's network, and where the shared caches are.

    Args:
        certificates: whether the controller trusts additional authorities, such as a proxy's.
        index_url: the package index that the controller is configured to use, if any.
        base_archive: archive from which hosts with an engine build their container images.
    """
    environment: dict[str, str] = {}
    if certificates:
        environment |= {"SSL_CERT_FILE": CA_BUNDLE, "PIP_CERT": CA_BUNDLE}
    if index_url:
        environment |= {"UV_INDEX_URL": index_url, "PIP_INDEX_URL": index_url}
    # A lab host has a single file system.
    variables: dict[str, object] = {"python_app_cache_dir": UV_CACHE, "minio_root_drives_allowed": True}
    if environment:
        variables["python_app_environment"] = environment
    if base_archive:
        variables["image_base_archive"] = base_archive
    return variables


def controller_index_url() -> str | None:
    """Return the package index that pip is configured to use on this machine, or None for the default one."""
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return os.environ.get("PIP_INDEX_URL") or done.stdout.strip() or None


def public_line(address: str, public_key: str) -> str:
    """Return the known_hosts line of one host; *public_key* is the content of its `.pub` file."""
    kind, key = public_key.split()[:2]
    return f"{address} {kind} {key}\n"


def _files(directory: Path) -> list[Path]:
    """List an inventory's files, relative to it, without the hidden ones, which Ansible ignores as well."""
    found = (path.relative_to(directory) for path in sorted(directory.rglob("*")) if path.is_file())
    return [path for path in found if not any(part.startswith(".") for part in path.parts)]


def _write_yaml(path: Path, content: dict[str, object], mode: int = 0o644) -> bool:
    text = (HEADER + "---\n" + yaml.safe_dump(content, sort_keys=False, width=1000)).encode()
    if path.exists() and path.read_bytes() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text, mode)
    return True
