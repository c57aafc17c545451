# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Apply a service's declared TLS without dropping connections, and check what it then presents."""

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
# OpenSSL's errors for an answer that is not TLS, such as an HTTP server's.
PLAIN_ANSWERS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNEXPECTED_EOF_WHILE_READING")


class ToggleError(systemd.UnitError):
    """A service that cannot be switched as requested."""


@dataclass(frozen=True)
class Service:
    """A service of this host with its declared TLS; the options of ssl_toggle explain each field."""

    unit: str
    owner: str
    directory: str
    address: str
    certificate_file: str = "certificate.pem"
    key_file: str = "key.pem"
    pair: Pair | None = None
    clients: str = ""  # authorities that may issue the certificates that clients must present
    settings: dict[str, str] = field(default_factory=dict)  # contents of the files that switch TLS, by path
    listen: list[str] = field(default_factory=list)
    checker: list[str] = field(default_factory=list)
    reload: str | None = None
    reload_takes_files: bool = False
    live: dict[str, str] | None = None
    tls_request: bytes = b""
    plain_request: bytes = b""

    @property
    def fingerprint(self) -> str:
        """The fingerprint that it must present; empty without TLS."""
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
    """Return the files of this state; nothing of another state stays in the directory."""
    found: list[dict[str, Any]] = [{"path": service.directory, "state": "directory", "mode": "0750", "purge": True}]
    found += [{"path": path, "content": text, "mode": "0640"} for path, text in service.settings.items()]
    if service.pair:
        found += [
            {"path": service.certificate_path, "content": service.pair.full_chain, "mode": "0640"},
            # PostgreSQL starts only if no other user may read a key that it owns.
            {"path": service.key_path, "content": service.pair.key, "mode": "0400", "sensitive": True},
        ]
    if service.pair and service.clients:
        found.append({"path": service.path(CLIENTS_FILE), "content": service.clients, "mode": "0640"})
    return files.parse([entry | {"owner": service.owner, "group": service.owner} for entry in found])


# --- applying it -----------------------------------------------------------------------------------------------------


def check(service: Service) -> None:
    """Check the configuration on disk with the service's own program."""
    if not service.checker:
        return
    try:
        done = run(service.checker)
    except OSError as error:
        raise ToggleError(f"its own checker cannot be run: {error}") from None
    if done.returncode != 0:
        raise ToggleError(f"its own checker refuses the setting: {' '.join((done.stderr or done.stdout).split())}")


def take_up(service: Service, is_reload_enough: bool, after: str, seconds: int) -> None:
    """Make the running service use the files on disk: by a reload, or if that is not enough, by a restart."""
    if is_reload_enough:
        # Files that it cannot reload, it may still be able to start with.
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
    """Reload the service, and return whether it can be reloaded at all."""
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
    """Return whether the running service presents or has read other files than those on disk, as after a killed run."""
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


# --- what it presents ------------------------------------------------------------------------------------------------


def is_true(service: Service, fingerprint: str) -> bool:
    """Return whether the service presents this certificate, or answers without TLS if none is expected."""
    try:
        return shown(service) == fingerprint and _listens(service.listen)
    except OSError:
        return False


def _listens(addresses: list[str]) -> bool:
    """Return whether each of these ports is open on its address, and on no other.

    On a reload, nginx keeps a listener that it cannot replace, such as one on all interfaces by one on the loopback.
    """
    found: dict[int, set[str]] = {}
    for listener in listeners():
        if ":" not in listener.address:
            found.setdefault(listener.port, set()).add(listener.address)
    return all(found.get(port) == {host} for host, port in map(_resolved, addresses))


def _taken(service: Service) -> str:
    """Return where another program listens that would keep the service from starting."""
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
    """Return the fingerprint of the certificate that the service presents now; empty without TLS.

    Raises:
        OSError: there is no answer, or none that this service would give.
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
    """Return a context that trusts any server: callers compare the fingerprint, or check the user before a password."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
