# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How each service is told to use TLS, to take it up without dropping anybody, and what it then shows."""

from __future__ import annotations

import hashlib
import pwd
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ansible_collections.mlfleet.stack.plugins.module_utils import redis_live
from ansible_collections.mlfleet.stack.plugins.module_utils.commands import run
from ansible_collections.mlfleet.stack.plugins.module_utils.files import Item
from ansible_collections.mlfleet.stack.plugins.module_utils.tls.certificates import Pair
from ansible_collections.mlfleet.stack.plugins.module_utils.unit import systemd
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.listeners import listeners, overlap, running_units

HEADER = "# Made by mlfleet's ssl_toggle; changes are undone by the next run.\n"
CLIENTS = "clients.pem"  # the authorities whose certificates clients have to show
CONNECT_SECONDS = 5
RELOAD_SECONDS = 10
PAUSE_SECONDS = 0.2
# What OpenSSL says to an answer that is no TLS, as an HTTP server gives it.
PLAIN_ANSWERS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNEXPECTED_EOF_WHILE_READING")


class ToggleError(systemd.UnitError):
    """A service that does not do as it was told."""


@dataclass(frozen=True)
class Wanted:
    """TLS as it is declared for one service of this host."""

    directory: str
    address: str
    pair: Pair | None = None
    client_authorities: str = ""
    listen: dict[str, str] = field(default_factory=dict)
    hsts_max_age_seconds: int = 0
    ciphers: str = "DEFAULT"
    username: str = ""
    password: str = ""
    user: str = ""

    @property
    def port(self) -> str:
        return self.address.rpartition(":")[2]

    @property
    def fingerprint(self) -> str:
        """What the service has to show; nothing when it is to speak without TLS."""
        return self.pair.certificate.fingerprint if self.pair else ""

    def path(self, name: str) -> str:
        return str(PurePosixPath(self.directory, name))


@dataclass(frozen=True)
class Service:
    """What is particular about a service."""

    unit: str
    directory: str
    user: str
    settings: Callable[[Wanted], dict[str, str]]  # the files that switch TLS, by their paths
    certificate: str = "certificate.pem"
    key: str = "key.pem"
    checker: Callable[[Wanted], list[str]] | None = None
    reload: Callable[[Wanted, str], bool] | None = None  # whether it could be told of another pair without a restart
    takes_settings_by_reload: bool = False  # whether that also has it read its settings anew
    wants_tls: bytes = b""  # asks for TLS on a port that also speaks without, and is answered by S
    speaks_plain: bytes = b""  # is answered by + or - where there is no TLS


def items(service: Service, wanted: Wanted) -> list[Item]:
    """The files of this state; nothing of another one stays in the directory."""
    owner = dict.fromkeys(("owner", "group"), wanted.user or service.user)
    found = [Item(wanted.directory, "directory", mode="0750", purge=True, **owner)]
    found += [
        Item(path, content=HEADER + text, mode="0640", **owner) for path, text in service.settings(wanted).items()
    ]
    if wanted.pair:
        found += [
            Item(wanted.path(service.certificate), content=wanted.pair.full_chain, mode="0640", **owner),
            # PostgreSQL starts only when nobody else may read a key that it owns.
            Item(wanted.path(service.key), content=wanted.pair.key, mode="0400", sensitive=True, **owner),
        ]
    if wanted.pair and wanted.client_authorities:
        found.append(Item(wanted.path(CLIENTS), content=wanted.client_authorities, mode="0640", **owner))
    return found


# --- settings --------------------------------------------------------------------------------------------------------


def _nginx_settings(wanted: Wanted) -> dict[str, str]:
    return {wanted.path(f"{name}.conf"): _nginx_listener(wanted, address) for name, address in wanted.listen.items()}


def _nginx_listener(wanted: Wanted, address: str) -> str:
    if not wanted.pair:
        return f"listen {address};\n"
    hsts = f'add_header Strict-Transport-Security "max-age={wanted.hsts_max_age_seconds}" always;\n'
    return (
        f"listen {address} ssl;\n"
        f"ssl_certificate {wanted.path('certificate.pem')};\n"
        f"ssl_certificate_key {wanted.path('key.pem')};\n"
        "ssl_protocols TLSv1.2 TLSv1.3;\n"
        f"ssl_ciphers {wanted.ciphers};\n"
        "ssl_session_cache shared:mlfleet:10m;\n"
        "ssl_session_tickets off;\n"
    ) + (hsts if wanted.hsts_max_age_seconds else "")


def _postgres_settings(wanted: Wanted) -> dict[str, str]:
    path = str(PurePosixPath(wanted.directory).parent / "conf.d/mlfleet-tls.conf")
    if not wanted.pair:
        return {path: "ssl = off\n"}
    text = (
        "ssl = on\n"
        f"ssl_cert_file = '{wanted.path('certificate.pem')}'\n"
        f"ssl_key_file = '{wanted.path('key.pem')}'\n"
        "ssl_min_protocol_version = 'TLSv1.2'\n"
        f"ssl_ciphers = '{wanted.ciphers}'\n"
    )
    return {path: text + (f"ssl_ca_file = '{wanted.path(CLIENTS)}'\n" if wanted.client_authorities else "")}


def _redis_settings(wanted: Wanted) -> dict[str, str]:
    path = wanted.path("tls.conf")
    if not wanted.pair:
        return {path: f"port {wanted.port}\n"}
    # With other authorities this file is another one too, on which Redis restarts.
    digest = hashlib.sha256(wanted.client_authorities.encode()).hexdigest()
    clients = f"# {digest}\ntls-auth-clients yes\ntls-ca-cert-file {wanted.path(CLIENTS)}\n"
    text = (
        "port 0\n"
        f"tls-port {wanted.port}\n"
        f"tls-cert-file {wanted.path('certificate.pem')}\n"
        f"tls-key-file {wanted.path('key.pem')}\n"
        'tls-protocols "TLSv1.2 TLSv1.3"\n'
        f"tls-ciphers {wanted.ciphers}\n"
    )
    return {path: text + (clients if wanted.client_authorities else "tls-auth-clients no\n")}


def _postgres_checker(wanted: Wanted) -> list[str]:
    configuration = PurePosixPath(wanted.directory).parent
    program = f"/usr/lib/postgresql/{configuration.parent.name}/bin/postgres"
    # In a container's image there is no asking it; the container will tell.
    is_here = Path(program).exists()
    return ["runuser", "-u", "postgres", "--", program, "-D", str(configuration), "-C", "ssl"] if is_here else []


# --- taking it up ----------------------------------------------------------------------------------------------------


def _reload_by_systemd(wanted: Wanted, unit: str) -> bool:
    systemd.command("systemctl", "reload", unit, timeout=30)
    return True


def _reload_by_signal(wanted: Wanted, unit: str) -> bool:
    systemd.command("systemctl", "kill", "--kill-whom=main", "--signal=HUP", unit)
    return True


def _reload_redis(wanted: Wanted, unit: str) -> bool:
    """A new pair under the old names: to set them again has Redis read them, and keeps all connections."""
    if not wanted.pair or not wanted.password:
        return False
    words = ["tls-cert-file", wanted.path("certificate.pem"), "tls-key-file", wanted.path("key.pem")]
    context = _unverified()
    context.load_cert_chain(wanted.path("certificate.pem"), wanted.path("key.pem"))
    try:
        with (
            _connected(wanted.address) as plain,
            context.wrap_socket(plain) as connection,
            connection.makefile("rwb") as stream,
        ):
            redis_live.sign_in(connection, stream, wanted.path("tls.conf"), wanted.username, wanted.password)
            redis_live.ask(stream, "CONFIG", "SET", *words)
    except (OSError, redis_live.RedisReplyError):  # not repeated, since it could name the password
        return False
    return True


SERVICES = {
    "nginx": Service(
        unit="nginx",
        directory="/etc/nginx/mlfleet-tls",
        user="www-data",
        settings=_nginx_settings,
        checker=lambda wanted: ["nginx", "-t", "-q"],
        reload=_reload_by_systemd,
        takes_settings_by_reload=True,
    ),
    "postgres": Service(
        unit="postgresql",
        directory="/etc/postgresql/15/main/tls",
        user="postgres",
        settings=_postgres_settings,
        checker=_postgres_checker,
        reload=_reload_by_systemd,
        takes_settings_by_reload=True,
        wants_tls=b"\x00\x00\x00\x08\x04\xd2\x16\x2f",  # SSLRequest, as PostgreSQL's protocol has it
    ),
    "redis": Service(
        unit="redis-server",
        directory="/etc/redis/tls",
        user="redis",
        settings=_redis_settings,
        reload=_reload_redis,
        speaks_plain=b"PING\r\n",
    ),
    # MinIO speaks TLS when it finds a pair under these names.
    "minio": Service(
        unit="minio",
        directory="/etc/mlfleet/minio/certs",
        user="minio",
        settings=lambda wanted: {},
        certificate="public.crt",
        key="private.key",
        reload=_reload_by_signal,
    ),
}


def check(service: Service, wanted: Wanted) -> None:
    """Have the service's own program judge its configuration as it is on disk."""
    command = service.checker(wanted) if service.checker else []
    if not command:
        return
    try:
        done = run(command)
    except OSError as error:
        raise ToggleError(f"its own checker cannot be asked: {error}") from None
    if done.returncode != 0:
        raise ToggleError(f"its own checker refuses the setting: {' '.join((done.stderr or done.stdout).split())}")


def take_up(service: Service, wanted: Wanted, unit: str, is_reload_enough: bool, after: str, seconds: int) -> None:
    """Have the running service show what is on disk: by a reload, and where that does not do, by a restart."""
    if service.reload and is_reload_enough:
        # What it cannot load it may still start with.
        with suppress(systemd.UnitError):
            if service.reload(wanted, unit) and _comes_true(service, wanted, after, RELOAD_SECONDS):
                return
    if taken := _taken(wanted.listen.values(), unit, wanted.user or service.user):
        raise ToggleError(f"another program has {taken}")
    try:
        systemd.reread(systemd.units([unit]), seconds)
        systemd.command("systemctl", "restart", unit, timeout=seconds)
    except systemd.UnitError as error:
        raise ToggleError(f"it does not restart: {error}") from error
    if not _comes_true(service, wanted, after, seconds):
        raise ToggleError(f"{wanted.address} {_seen(service, wanted)}")


def is_behind(service: Service, wanted: Wanted, unit: systemd.Unit) -> bool:
    """Whether the running service shows or has read something else than what is on disk, as after a killed run."""
    paths = [Path(path) for path in service.settings(wanted)]
    written_at = max((path.stat().st_mtime for path in paths if path.exists()), default=0.0)
    read_at = unit.loaded_at if service.takes_settings_by_reload else unit.started_at
    return written_at > read_at or not is_true(service, wanted, wanted.fingerprint)


def _comes_true(service: Service, wanted: Wanted, fingerprint: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not is_true(service, wanted, fingerprint):
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE_SECONDS)
    return True


# --- what it shows ---------------------------------------------------------------------------------------------------


def is_true(service: Service, wanted: Wanted, fingerprint: str) -> bool:
    """Whether the service shows this certificate, or answers without TLS where none is wanted."""
    try:
        return shown(service, wanted.address) == fingerprint and _listens(wanted.listen.values())
    except OSError:
        return False


def _listens(addresses: Iterable[str]) -> bool:
    """Whether each of these ports is open at its address, and at no other.

    nginx keeps a listener that it cannot replace in a reload, such as one of all interfaces by one of the loopback.
    """
    found: dict[int, set[str]] = {}
    for listener in listeners():
        if ":" not in listener.address:
            found.setdefault(listener.port, set()).add(listener.address)
    return all(found.get(port) == {host} for host, port in map(_resolved, addresses))


def _taken(addresses: Iterable[str], unit: str, user: str) -> str:
    """Where another program listens, beside which the service would not start."""
    own = {pwd.getpwnam(user).pw_uid, *running_units().get(unit.removesuffix(".service"), ())}
    wanted = [_resolved(address) for address in addresses]
    return ", ".join(
        f"{found.address}:{found.port}"
        for found in listeners()
        if found.uid not in own and any(found.port == port and overlap(found.address, host) for host, port in wanted)
    )


def _resolved(address: str) -> tuple[str, int]:
    host, _colon, port = address.rpartition(":")
    return socket.gethostbyname(host), int(port)


def shown(service: Service, address: str) -> str:
    """Fingerprint of the certificate that the service shows now; empty when it speaks without TLS.

    Raises:
        OSError: nobody answers, or not as this service does.
    """
    if service.speaks_plain:
        with _connected(address) as plain, suppress(ConnectionError):
            plain.sendall(service.speaks_plain)
            if plain.recv(1) in (b"+", b"-"):
                return ""
    with _connected(address) as plain:
        if service.wants_tls:
            plain.sendall(service.wants_tls)
            if plain.recv(1) != b"S":
                return ""
        try:
            with _unverified().wrap_socket(plain) as connection:
                return hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()
        except ssl.SSLError as error:
            if error.reason in PLAIN_ANSWERS:
                return ""
            raise


def _seen(service: Service, wanted: Wanted) -> str:
    try:
        fingerprint = shown(service, wanted.address)
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
