# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a service gets the TLS that is declared for it, takes it up without dropping anybody, and what it then shows."""

from __future__ import annotations

import hashlib
import pwd
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ansible_collections.mlfleet.stack.plugins.module_utils import files, live
from ansible_collections.mlfleet.stack.plugins.module_utils.commands import run
from ansible_collections.mlfleet.stack.plugins.module_utils.tls.certificates import Pair
from ansible_collections.mlfleet.stack.plugins.module_utils.unit import systemd
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.listeners import listeners, overlap, running_units

CLIENTS_FILE = "clients.pem"
CONNECT_SECONDS = 5
RELOAD_SECONDS = 10
PAUSE_SECONDS = 0.2
# What OpenSSL says to an answer that is no TLS, as an HTTP server gives it.
PLAIN_ANSWERS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNEXPECTED_EOF_WHILE_READING")


class ToggleError(systemd.UnitError):
    """A service that does not do as it was told."""


@dataclass(frozen=True)
class Service:
    """A service of this host, with TLS as it is declared for it; the options of ssl_toggle explain each one."""

    unit: str
    owner: str
    directory: str
    address: str
    certificate_file: str = "certificate.pem"
    key_file: str = "key.pem"
    pair: Pair | None = None
    clients: str = ""  # authorities of whose certificates they have to show one
    settings: dict[str, str] = field(default_factory=dict)  # the files that switch TLS, by their paths
    listen: list[str] = field(default_factory=list)
    checker: list[str] = field(default_factory=list)
    reload: str | None = None
    reload_takes_files: bool = False
    live: dict[str, str] | None = None
    tls_request: bytes = b""
    plain_request: bytes = b""

    @property
    def fingerprint(self) -> str:
        """What it has to show; nothing when it is to speak without TLS."""
        return self.pair.certificate.fingerprint if self.pair else ""

    @property
    def certificate_path(self) -> str:
        return self.path(self.certificate_file)

    @property
    def key_path(self) -> str:
        return self.path(self.key_file)

    def path(self, name: str) -> str:
        return str(PurePosixPath(self.directory, name))


def items(service: Service) -> list[files.Item]:
    """The files of this state; nothing of another one stays in the directory."""
    found: list[dict[str, Any]] = [{"path": service.directory, "state": "directory", "mode": "0750", "purge": True}]
    found += [{"path": path, "content": text, "mode": "0640"} for path, text in service.settings.items()]
    if service.pair:
        found += [
            {"path": service.certificate_path, "content": service.pair.full_chain, "mode": "0640"},
            # PostgreSQL starts only when nobody else may read a key that it owns.
            {"path": service.key_path, "content": service.pair.key, "mode": "0400", "sensitive": True},
        ]
    if service.pair and service.clients:
        found.append({"path": service.path(CLIENTS_FILE), "content": service.clients, "mode": "0640"})
    return files.parse([entry | {"owner": service.owner, "group": service.owner} for entry in found])


# --- taking it up ----------------------------------------------------------------------------------------------------


def check(service: Service) -> None:
    """Have the service's own program judge its configuration as it is on disk."""
    if not service.checker:
        return
    try:
        done = run(service.checker)
    except OSError as error:
        raise ToggleError(f"its own checker cannot be asked: {error}") from None
    if done.returncode != 0:
        raise ToggleError(f"its own checker refuses the setting: {' '.join((done.stderr or done.stdout).split())}")


def take_up(service: Service, is_reload_enough: bool, after: str, seconds: int) -> None:
    """Have the running service show what is on disk: by a reload, and where that does not do, by a restart."""
    if is_reload_enough:
        # What it cannot load it may still start with.
        with suppress(systemd.UnitError):
            if reload(service) and _comes_true(service, after, RELOAD_SECONDS):
                return
    if taken := _taken(service):
        raise ToggleError(f"another program has {taken}")
    try:
        systemd.reread(systemd.units([service.unit]), seconds)
        systemd.command("systemctl", "restart", service.unit, timeout=seconds)
    except systemd.UnitError as error:
        raise ToggleError(f"it does not restart: {error}") from error
    if not _comes_true(service, after, seconds):
        raise ToggleError(f"{service.address} {_seen(service)}")


def reload(service: Service) -> bool:
    """Whether it could be told of what is on disk without a restart."""
    if service.reload == "systemctl":
        systemd.command("systemctl", "reload", service.unit, timeout=30)
    elif service.reload == "signal":
        systemd.command("systemctl", "kill", "--kill-whom=main", "--signal=HUP", service.unit)
    elif service.reload == "live":
        return _reload_live(service)
    return service.reload is not None


def _reload_live(service: Service) -> bool:
    if not service.pair or not service.live:
        return False
    context = _unverified()
    context.load_cert_chain(service.certificate_path, service.key_path)
    try:
        with _connected(service.address) as plain, context.wrap_socket(plain) as connection:
            program = live.PROGRAMS[service.live["program"]]
            return program.take_pair(connection, service.live, service.certificate_path, service.key_path)
    except OSError:
        return False


def is_behind(service: Service, unit: systemd.Unit) -> bool:
    """Whether the running service shows or has read something else than what is on disk, as after a killed run."""
    paths = [Path(path) for path in service.settings]
    written_at = max((path.stat().st_mtime for path in paths if path.exists()), default=0.0)
    read_at = unit.loaded_at if service.reload_takes_files else unit.started_at
    return written_at > read_at or not is_true(service, service.fingerprint)


def _comes_true(service: Service, fingerprint: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not is_true(service, fingerprint):
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE_SECONDS)
    return True


# --- what it shows ---------------------------------------------------------------------------------------------------


def is_true(service: Service, fingerprint: str) -> bool:
    """Whether the service shows this certificate, or answers without TLS where none is wanted."""
    try:
        return shown(service) == fingerprint and _listens(service.listen)
    except OSError:
        return False


def _listens(addresses: list[str]) -> bool:
    """Whether each of these ports is open at its address, and at no other.

    nginx keeps a listener that it cannot replace in a reload, such as one of all interfaces by one of the loopback.
    """
    found: dict[int, set[str]] = {}
    for listener in listeners():
        if ":" not in listener.address:
            found.setdefault(listener.port, set()).add(listener.address)
    return all(found.get(port) == {host} for host, port in map(_resolved, addresses))


def _taken(service: Service) -> str:
    """Where another program listens, beside which the service would not start."""
    own = {pwd.getpwnam(service.owner).pw_uid, *running_units().get(service.unit.removesuffix(".service"), ())}
    wanted = [_resolved(address) for address in service.listen]
    return ", ".join(
        f"{found.address}:{found.port}"
        for found in listeners()
        if found.uid not in own and any(found.port == port and overlap(found.address, host) for host, port in wanted)
    )


def _resolved(address: str) -> tuple[str, int]:
    host, _colon, port = address.rpartition(":")
    return socket.gethostbyname(host), int(port)


def shown(service: Service) -> str:
    """Fingerprint of the certificate that the service shows now; empty when it speaks without TLS.

    Raises:
        OSError: nobody answers, or not as this service does.
    """
    if service.plain_request:
        with _connected(service.address) as plain, suppress(ConnectionError):
            plain.sendall(service.plain_request)
            if plain.recv(1) in (b"+", b"-"):
                return ""
    with _connected(service.address) as plain:
        if service.tls_request:
            plain.sendall(service.tls_request)
            if plain.recv(1) != b"S":
                return ""
        try:
            with _unverified().wrap_socket(plain) as connection:
                return hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()
        except ssl.SSLError as error:
            if error.reason in PLAIN_ANSWERS:
                return ""
            raise


def _seen(service: Service) -> str:
    try:
        fingerprint = shown(service)
    except OSError as error:
        return f"does not answer: {error}"
    return f"shows the certificate with fingerprint {fingerprint}" if fingerprint else "answers without TLS"


@contextmanager
def _connected(address: str) -> Iterator[socket.socket]:
    host, _colon, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS) as connection:
        yield connection


def _unverified() -> ssl.SSLContext:
    """Trusts anybody: the fingerprint is compared instead, and who is told a password by its user."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
