"""A deployment's secrets: created once, stored in an ansible-vault file, printed only on request."""

from __future__ import annotations

import fcntl
import os
import secrets
import string
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleError  # type: ignore[import-untyped]
from ansible.parsing.dataloader import DataLoader  # type: ignore[import-untyped]
from ansible.parsing.vault import (  # type: ignore[import-untyped]
    VaultLib,
    VaultSecret,
    get_file_vault_secret,
    is_encrypted,
    parse_vaulttext_envelope,
)

from mlfleet.project import MlfleetError, write_atomically

PREFIX = "topology_secret_"
SPECIFICATIONS = "roles/topology/meta/shared_settings"
VAULT = "group_vars/all/vault.yml"
PASSWORD = ".vault_password"
DEFAULT_ID = "default"
ALPHABET = string.ascii_letters + string.digits
LENGTH = 32  # characters; MinIO accepts 8 to 40
LENGTHS = range(16, 41)  # characters; shorter ones are considered mistakes


@dataclass(frozen=True)
class Vault:
    """The encrypted variables of one inventory, and the repository whose password opens them."""

    root: Path
    inventory: Path

    def __post_init__(self) -> None:
        if not self.inventory.is_dir():
            raise MlfleetError(f"{self.inventory} is not a directory: name an inventory such as inventories/prod.")

    @property
    def path(self) -> Path:
        return self.inventory / VAULT

    @property
    def password_path(self) -> Path:
        return self.root / PASSWORD

    def create_missing(self) -> list[str]:
        """Add a new value for each declared secret that the file lacks; return the names added.

        Raises:
            MlfleetError: the file cannot be opened, or a value in it is malformed; nothing is written then.
        """
        with self.locked():
            self._require_sight()
            text = self._read() if self.path.exists() else "---\n"
            present = self._parse(text)
            names = declared(self.root)
            self._check(present, names)
            missing = [name for name in names if name not in present]
            if missing:
                text += "" if text.endswith("\n") else "\n"
                fresh = {name: "".join(secrets.choice(ALPHABET) for _ in range(LENGTH)) for name in missing}
                text += "".join(f'{name}: "{value}"\n' for name, value in fresh.items())
                if self._parse(text) != present | fresh:
                    raise MlfleetError(f"{self.path} does not end in plain `name: value` lines: fix its layout first.")
                self._write(text)
        return missing

    def show(self, name: str) -> str:
        """Return one secret, named in full or without its `topology_secret_` prefix.

        Raises:
            MlfleetError: no such secret is declared, or it is missing or malformed.
        """
        names = declared(self.root)
        full = name if name in names else PREFIX + name
        if full not in names:
            raise MlfleetError(f"{name} is not a secret; known are: {', '.join(names)}.")
        values = self._parse(self._read()) if self.path.exists() else {}
        if full not in values:
            raise MlfleetError(f"{full} is not in {self.path} yet: run `mlfleet init {self.inventory}`.")
        self._check(values, (full,))
        return str(values[full])

    def encrypt(self, content: bytes) -> bytes:
        """Return *content* encrypted like the secrets: with the same password and vault id."""
        library = self._library()
        label, secret = None, library.secrets[0][1]
        if self.path.exists():
            former = self.path.read_bytes()
            label = parse_vaulttext_envelope(former)[3]
            secret = library.decrypt_and_get_vault_id(former)[2]
        return bytes(library.encrypt(content, secret=secret, vault_id=None if label == DEFAULT_ID else label))

    def decrypt(self, path: Path) -> bytes:
        """Return the contents of *path*, encrypted or not.

        Raises:
            MlfleetError: it cannot be opened.
        """
        content = path.read_bytes()
        if not is_encrypted(content):
            return content
        library = self._library()
        try:
            return bytes(library.decrypt(content))
        except AnsibleError as error:
            source = os.environ.get("ANSIBLE_VAULT_PASSWORD_FILE") or self.password_path
            raise MlfleetError(f"{path} cannot be opened: put the password it was made with into {source}.") from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep two commands in one repository from creating or replacing the same files."""
        descriptor = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _require_sight(self) -> None:
        """Raise if Ansible would ignore another file because of the directory of the secrets."""
        directory = self.path.parent
        for suffix in ("", ".yml", ".yaml", ".json"):
            path = directory.with_name(f"{directory.name}{suffix}")
            if path.exists() and not path.is_dir():
                raise MlfleetError(
                    f"{path} is not read beside {self.path}: move it to {directory / 'main.yml'} first"
                    + (" (by another name in between)." if path == directory else ".")
                )

    def _passwords(self) -> list[tuple[str, Any]]:
        """Return the passwords with which Ansible would open files, by vault id."""
        listed = os.environ.get("ANSIBLE_VAULT_IDENTITY_LIST", "").split(",")
        pairs = [item.strip().rpartition("@")[::2] for item in listed if item.strip()]
        found = [(label or DEFAULT_ID, _secret_of(file, "ANSIBLE_VAULT_IDENTITY_LIST")) for label, file in pairs]
        given = os.environ.get("ANSIBLE_VAULT_PASSWORD_FILE", "")
        # The project's own script only reads the file below, and refuses if there is none.
        if given and Path(given).resolve() != self.root / "scripts/vault-password":
            return [*found, (DEFAULT_ID, _secret_of(given, "ANSIBLE_VAULT_PASSWORD_FILE"))]
        if found and not self.password_path.exists():
            return found
        return [*found, (DEFAULT_ID, VaultSecret(self._own_password()))]

    def _own_password(self) -> bytes:
        if not self.password_path.exists():
            others = sorted(self.root.glob("inventories/*/group_vars/all/vault.yml"))
            for path in (self.path, *others):
                if path.exists():
                    raise MlfleetError(f"{path} exists: put the password it was made with into {self.password_path}.")
            _create_password(self.password_path)
        password = self.password_path.read_bytes().strip()
        if not password:
            raise MlfleetError(f"{self.password_path} is empty: put the vault's password into it, or remove it.")
        return password

    def _library(self) -> Any:
        return VaultLib(self._passwords())

    def _read(self) -> str:
        if not is_encrypted(self.path.read_bytes()):
            raise MlfleetError(f"{self.path} is not encrypted: run `ansible-vault encrypt {self.path}`.")
        try:
            return self.decrypt(self.path).decode()
        except UnicodeDecodeError as error:
            raise MlfleetError(f"{self.path} is not UTF-8: fix it with `ansible-vault edit {self.path}`.") from error

    def _write(self, text: str) -> None:
        encrypted = self.encrypt(text.encode())
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.path, encrypted, mode=0o600)

    def _parse(self, text: str) -> dict[str, object]:
        try:
            values = _load(text, lambda encrypted: self._library().decrypt(encrypted)) or {}
        except (yaml.YAMLError, AnsibleError, UnicodeDecodeError):
            values = None  # the parser's own message would quote the secrets around the error
        if not isinstance(values, dict):
            raise MlfleetError(f"{self.path} is not a YAML mapping: fix it with `ansible-vault edit {self.path}`.")
        return values

    def _check(self, values: dict[str, object], names: tuple[str, ...]) -> None:
        if malformed := [name for name in names if name in values and not well_formed(values[name])]:
            raise MlfleetError(
                f"{self.path}: {', '.join(malformed)} must be a string of 16 to 40 visible ASCII characters: "
                f"fix it with `ansible-vault edit {self.path}`, or remove it there and run "
                f"`mlfleet init {self.inventory}`."
            )


def declared(root: Path) -> tuple[str, ...]:
    """Return the names of all secrets: the options of role topology that are marked `no_log`.

    Raises:
        MlfleetError: the role's specification is missing or cannot be read.
    """
    path = root / SPECIFICATIONS
    try:
        files = [yaml.safe_load(file.read_text()) for file in sorted(path.glob("*.yml"))]
        names = [name for options in files for name, option in options.items() if option.get("no_log") is True]
    except (OSError, yaml.YAMLError, TypeError, AttributeError) as error:
        raise MlfleetError(f"{path} does not declare the secrets: {error}") from error
    if not names:
        raise MlfleetError(f"{path} does not declare the secrets: there are none in its files")
    return tuple(names)


def well_formed(value: object) -> bool:
    """Return whether *value* can be a secret, by the same rule as preflight: 16 to 40 visible ASCII characters."""
    return isinstance(value, str) and len(value) in LENGTHS and value.isascii() and all(map(visible, value))


def visible(character: str) -> bool:
    return character.isprintable() and not character.isspace()


def _create_password(path: Path) -> None:
    """Create the password file completely or not at all; one that appeared meanwhile is kept."""
    temporary = path.with_name(f"{path.name}.new")
    write_atomically(temporary, f"{secrets.token_urlsafe(LENGTH)}\n".encode(), mode=0o600)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def _secret_of(file: str, setting: str) -> Any:
    try:
        secret = get_file_vault_secret(filename=file, loader=DataLoader())
        secret.load()
    except AnsibleError as error:
        raise MlfleetError(f"{setting} ({file}) gives no password: {error}") from error
    return secret


def _load(text: str, decrypt: Callable[[str], bytes]) -> Any:
    """Read YAML with the tags that Ansible knows."""

    class Loader(yaml.SafeLoader):
        def unsafe(self, node: Any) -> Any:
            untagged = copy(node)
            untagged.tag = self.resolve(type(node), node.value, (True, False))  # type: ignore[no-untyped-call]
            return self.construct_object(untagged, deep=True)

        def vault(self, node: Any) -> str:
            return decrypt(str(self.construct_scalar(node))).decode()

    Loader.add_constructor("!unsafe", Loader.unsafe)
    for tag in ("!vault", "!vault-encrypted"):
        Loader.add_constructor(tag, Loader.vault)
    return yaml.load(text, Loader)  # it is a safe one
