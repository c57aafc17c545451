"""Tries every door of a testbed as somebody without an account: each location of nginx, and the services' own ports."""

from __future__ import annotations

import json
import re
import socket
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from itertools import product

import psycopg2

from tests import declared

REGISTRATION = "/api/v1/users/"
SIGN_IN = "/api/v1/auth/login"
# Without a password, so that an API that is reached says 400 and makes nothing.
BODY = json.dumps({"username": "walker", "email": "walker@example.org"})
REFUSED = {None, 301, 302, 308, 403, 404, 405, 429}  # None: no answer at all
RATE, BURST = 0.5, 30  # nginx_sign_in_rate_per_minute, nginx_sign_in_burst
AT_ONCE = 10  # at each location; together more than the burst
SITE = re.compile(
    r"include /etc/nginx/mlfleet-tls/(?P<name>[^.]+)\.conf\*;(?P<text>.*?)(?=include /etc/nginx/|\Z)", re.S
)
LOCATION = re.compile(r"location (?:=|~\*?|\^~)? ?\^?(?P<path>/\S*) \{")


def locations(configuration: str) -> dict[str, list[str]]:
    """The beginnings of paths that each site knows, the root among them."""
    sites = {site["name"]: LOCATION.findall(site["text"]) for site in SITE.finditer(configuration)}
    return {name: list(dict.fromkeys(["/", *found])) for name, found in sites.items()}


def spellings(path: str) -> Iterator[str]:
    yield from (path, path.rstrip("/"), f"{path.rstrip('/')}/", f"/{path}", path.replace("/", "//"), path.upper())
    yield from (f"/.{path}", f"/x/..{path}", f"{path}/..{path}", f"{path}.", f"{path};x", f"{path}?x=y", f"{path}\\")
    yield from (f"{path}%0a", f"{path}%20", f"{path}%2f", f"{path}%00", path[:-2] + f"%{ord(path[-2]):02x}" + path[-1])
    yield "/" + path[1:].replace("/", "%2f")
    yield "/" + "".join(f"%{byte:02x}" for byte in path[1:].encode()).replace("%2f", "/")


class Stranger:
    """Somebody who trusts anybody; keeps the connection, and counts the answers."""

    def __init__(self, address: str, port: int, has_tls: bool = True) -> None:
        context = ssl._create_unverified_context()
        self.door = (
            HTTPSConnection(address, port, context=context, timeout=20)
            if has_tls
            else HTTPConnection(address, port, timeout=20)
        )
        self.answers: Counter[int | None] = Counter()

    def ask(self, method: str, path: str, body: str | None = None, **headers: str) -> int | None:
        try:
            self.door.request(method, path, body, {"Content-Type": "application/json", **headers})
            answer = self.door.getresponse()
            # What nginx itself finds malformed has asked nobody.
            status = None if b"<center>nginx</center>" in answer.read() and answer.status == 400 else answer.status
        except (HTTPException, OSError):
            self.door.close()
            status = None
        self.answers[status] += 1
        return status


def walk(configuration: str, address: str, ports: dict[str, int]) -> int:
    """Number of the requests that were tried at nginx; none of them may get through."""
    tried, found = 0, locations(configuration)
    differing = found.keys() ^ ports.keys()
    assert not differing, f"only one of nginx's configuration and this test has the sites {differing}"
    for site, port in ports.items():
        stranger = Stranger(address, port)
        assert stranger.ask("GET", "/", Host="elsewhere.example.org") is None
        if site == "dioptra":
            for beginning in found[site]:
                for path in spellings(beginning.rstrip("/") + REGISTRATION):
                    status = stranger.ask("POST", path, BODY)
                    assert status in REFUSED, f"{path}: {status}"
        if sign_ins := declared.sign_ins(site):
            begin, let_in = time.monotonic(), 0
            for beginning, sign_in in product(found[site], sign_ins):
                plain = beginning.rstrip("/") + sign_in
                for path in (*spellings(plain), *[plain] * AT_ONCE):
                    let_in += stranger.ask("POST", path, BODY) not in REFUSED
            bound = BURST + 1 + RATE * (time.monotonic() - begin)
            assert let_in <= bound, f"{site}: {let_in} sign-ins came through, {bound:.0f} may"
        print(f"nginx {site}: {stranger.answers.total()} requests, {dict(stranger.answers)}")
        tried += stranger.answers.total()
    return tried


def is_closed(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), timeout=5).close()
    except OSError:
        return True
    return False


def ask_services(addresses: dict[int, str]) -> int:
    """Number of the requests that were tried at these ports; none of them may be let in."""
    unknown = addresses.keys() - SERVICES.keys()
    assert not unknown, f"nobody knocks on the ports {unknown}: add them to SERVICES of tests/integration/walk.py"
    return sum(SERVICES[port](address, port) for port, address in addresses.items())


def ask_http(address: str, port: int, *requests: tuple[str, str, str | None]) -> int:
    stranger = Stranger(address, port)
    for method, path, body in requests:
        status = stranger.ask(method, path, body)
        assert status in {400, 401, 403, 404, 405, 429}, f"port {port}: {method} {path}: {status}"
    print(f"port {port}: {stranger.answers.total()} requests, {dict(stranger.answers)}")
    return stranger.answers.total()


def ask_restapi(address: str, port: int) -> int:
    stranger = Stranger(address, port)
    for path in spellings(REGISTRATION):
        status = stranger.ask("POST", path, BODY, **{"X-Mlfleet-Deployment": "guessed"})
        assert status in REFUSED, f"port {port}: {path}: {status}"
    # Each of the processes counts for itself; who claims to be nginx is counted all the same.
    wrong = json.dumps({"username": "walker", "password": "a wrong password"})
    for number in range(150):
        stranger.ask("POST", SIGN_IN, wrong, **{"X-Real-IP": f"192.0.2.{number}"})
    assert stranger.ask("POST", SIGN_IN, wrong) == 429
    assert stranger.ask("GET", "/api/v1/queues/") == 401
    print(f"port {port}: {stranger.answers.total()} requests, {dict(stranger.answers)}")
    return stranger.answers.total()


def ask_mlflow(address: str, port: int) -> int:
    account = json.dumps({"username": "walker", "password": "walks-through-doors"})
    api = "/api/2.0/mlflow"
    return ask_http(
        address,
        port,
        ("GET", f"{api}/experiments/search?max_results=1", None),
        ("POST", f"{api}/users/create", account),
        ("POST", "/api/2.0/mlflow/users/create-ui", account),
        ("GET", "/signup", None),
        ("GET", f"{api}/users/get?username=admin", None),
        ("POST", f"{api}//users/create", account),
    )


def ask_pgadmin(address: str, port: int) -> int:
    stranger = Stranger(address, port)
    for path in ("/browser/", "/user_management/users", "/misc/file_manager/filemanager/1/"):
        assert stranger.ask("GET", path) in {302, 401, 403, 404, 405}, path
    return stranger.answers.total()


def ask_minio(address: str, port: int) -> int:
    paths = ("/", "/mlflow-tracking", "/mlflow-tracking/", "/mlflow-tracking/artifacts/", "/mlflow-tracking?policy")
    return ask_http(
        address,
        port,
        *(("GET", path, None) for path in paths),
        ("PUT", "/mlflow-tracking/walker", "anything"),
        ("PUT", "/minio/admin/v3/add-user?accessKey=walker", "{}"),
        ("GET", "/minio/admin/v3/list-users", None),
        ("GET", "/minio/v2/metrics/cluster", None),
    )


def ask_console(address: str, port: int) -> int:
    published = json.dumps({"accessKey": "minioadmin", "secretKey": "minioadmin"})
    return ask_http(address, port, ("GET", "/api/v1/buckets", None), ("POST", "/api/v1/login", published))


def ask_postgres(address: str, port: int) -> int:
    users = ("postgres", "mlflow", "restapi", "nobody")
    for user in users:
        for password in ("", user):
            try:
                psycopg2.connect(
                    host=address, port=port, user=user, password=password, dbname="postgres", connect_timeout=5
                )
            except psycopg2.OperationalError:
                continue
            raise AssertionError(f"port {port}: {user} is let in")
    return 2 * len(users)


def ask_redis(address: str, port: int) -> int:
    commands = ("PING", "ACL LIST", "KEYS *", "AUTH default default", "HELLO 3")
    for command in commands:
        try:
            with ssl._create_unverified_context().wrap_socket(socket.create_connection((address, port), 5)) as redis:
                redis.sendall(command.encode() + b"\r\n")
                answer = redis.recv(1000)
        except OSError:  # it wants a certificate first
            continue
        assert not answer or answer.startswith((b"-NOAUTH", b"-WRONGPASS", b"-ERR")), f"{command}: {answer!r}"
    return len(commands)


SERVICES = {
    5000: ask_restapi,
    5001: ask_mlflow,
    5050: ask_pgadmin,
    5432: ask_postgres,
    6379: ask_redis,
    9000: ask_minio,
    9001: ask_console,
}
