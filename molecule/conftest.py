"""Fixtures to reach the services of a host: a scenario's, or `testbed` of a whole lab."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import redis
import requests
from testinfra.host import Host

ROOT = Path(__file__).parents[1]
SCENARIO = os.environ.get("MOLECULE_SCENARIO_DIRECTORY")
CONNECT_SECONDS = 20
WAIT_SECONDS = 60
# The same files under other names.
collect_ignore_glob = [] if SCENARIO else ["*_docker/*"]


def command(*words: str) -> str:
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="session")
def inventory(request: pytest.FixtureRequest) -> str:
    return str(Path(request.config.getoption("ansible_inventory")).resolve())


@pytest.fixture(scope="session")
def secret(inventory: str) -> Callable[[str], str]:
    """Return the value of a secret, by its name without `topology_secret_`."""
    return cache(lambda name: command("mlfleet", "init", inventory, "--show", name).strip())


@pytest.fixture(scope="session")
def authority(inventory: str) -> str:
    """Path of the deployment's own authority."""
    return str(Path(inventory, "ca/ca.crt"))


@pytest.fixture(scope="module")
def play(request: pytest.FixtureRequest, inventory: str) -> Callable[..., dict[str, int]]:
    """Run the scenario's converge playbook, or site.yml; return the recap's counts over all hosts."""
    own = (Path(SCENARIO) if SCENARIO else request.path.parents[1]) / "converge.yml"
    playbook = own if own.exists() else ROOT / "site.yml"

    def run(*options: str) -> dict[str, int]:
        output = command("ansible-playbook", str(playbook), "-i", inventory, "--diff", *options)
        print(output)  # shown when the test fails
        counts = re.findall(r"(ok|changed|unreachable|failed)=(\d+)", output)
        return {column: sum(int(n) for name, n in counts if name == column) for column, _count in counts}

    return run


@pytest.fixture
def without_tls(play: Callable[..., dict[str, int]]) -> Iterator[None]:
    """The host with TLS switched off, and on again afterwards."""
    assert play("--extra-vars", "topology_tls_mode=off")["changed"] > 0
    yield
    assert play()["changed"] > 0


@pytest.fixture(scope="session")
def eventually() -> Callable[[Callable[[], bool]], bool]:
    """Return whether a condition becomes true within a minute."""

    def wait(condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + WAIT_SECONDS
        while not (holds := condition()) and time.monotonic() < deadline:
            time.sleep(0.5)
        return holds

    return wait


@pytest.fixture(scope="module")
def forward(host: Host) -> Iterator[Callable[[int], int]]:
    """Forward a port of the host's loopback to this machine."""
    to = host.ansible.get_variables()
    options = f"{to['ansible_ssh_common_args']} -o ControlMaster=no -o ControlPath=none -o ExitOnForwardFailure=yes"
    words = ["ssh", *shlex.split(options), "-i", to["ansible_ssh_private_key_file"], "-p", str(to["ansible_port"])]
    words += ["-l", to["ansible_user"], "-N", to["ansible_host"]]
    with contextlib.ExitStack() as tunnels:

        @cache
        def open_tunnel(port: int) -> int:
            with socket.create_server(("127.0.0.1", 0)) as free:
                local = free.getsockname()[1]
            process = subprocess.Popen([*words, "-L", f"127.0.0.1:{local}:127.0.0.1:{port}"])
            tunnels.callback(process.wait)
            tunnels.callback(process.terminate)
            deadline = time.monotonic() + CONNECT_SECONDS
            while time.monotonic() < deadline and process.poll() is None:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", local)):
                    return local
                time.sleep(0.1)
            raise RuntimeError(f"no tunnel to port {port} of {to['ansible_host']}")

        yield open_tunnel


@pytest.fixture(scope="module")
def in_container(host: Host) -> Callable[[str], str]:
    """Return the prefix of commands that run beside this unit's program: nothing on a bare host."""
    runtime = host.ansible.get_variables().get("topology_runtime", "bare")
    return lambda unit: f"docker exec mlfleet-{unit.replace('@', '-')} " if runtime == "docker" else ""


@pytest.fixture(scope="module")
def environment_of(host: Host, in_container: Callable[[str], str]) -> Callable[[str], list[str]]:
    """Return the environment of a unit's program, as NAME=VALUE."""

    def environment(unit: str) -> list[str]:
        main = host.check_output("systemctl show --property=MainPID --value %s", unit)
        if within := in_container(unit):
            (main, *_others) = host.check_output(f"{within}cat /proc/1/task/1/children").split()
        return host.check_output(f"{within}cat /proc/%s/environ", main).split("\0")

    return environment


@pytest.fixture(scope="module")
def crash(host: Host, in_container: Callable[[str], str]) -> Callable[[str], None]:
    """Kill a unit's program immediately."""

    def kill(unit: str) -> None:
        words = f"docker kill mlfleet-{unit}" if in_container(unit) else f"systemctl kill --signal=KILL {unit}"
        host.check_output(words)

    return kill


@pytest.fixture(scope="module")
def listens_on(host: Host) -> Callable[[int], set[str]]:
    """Return the addresses on which a port of the host listens."""

    def addresses(port: int) -> set[str]:
        lines = host.check_output("ss -Hltn sport = :%s", str(port)).splitlines()
        return {line.split()[3].rpartition(":")[0] for line in lines}

    return addresses


@pytest.fixture(scope="module")
def sql(host: Host) -> Callable[[str, str], str]:
    """Run a query as the database's administrator, on the host."""
    return lambda database, query: host.check_output("runuser -u postgres -- psql -XqAt -d %s -c %s", database, query)


@pytest.fixture(scope="module")
def dioptra(forward: Callable[[int], int], secret: Callable[[str], str]) -> Callable[..., requests.Response]:
    """Send a request to Dioptra's API as its administrator."""
    url = f"http://127.0.0.1:{forward(5000)}/api/v1"
    session = requests.Session()
    account = {"username": "admin", "password": secret("dioptra_admin")}
    session.post(f"{url}/auth/login", json=account).raise_for_status()
    return lambda path, **query: session.get(url + path, params=query)


@pytest.fixture(scope="module")
def registered_workers(
    forward: Callable[[int], int], secret: Callable[[str], str], authority: str
) -> Callable[[str], list[bytes]]:
    """Return the RQ workers that wait for jobs of a queue."""
    tls = {"ssl": True, "ssl_ca_certs": authority}
    server = redis.Redis(port=forward(6379), username="restapi", password=secret("redis_restapi"), **tls)
    return lambda queue: [key for key in server.smembers("rq:workers") if server.hget(key, "queues") == queue.encode()]


@pytest.fixture(autouse=True, scope="module")
def _is_deployed(request: pytest.FixtureRequest, host: Host) -> None:
    """Skip what the host lacks, as a lab lacks what only a scenario deploys; the scenario itself skips nothing."""
    sign = getattr(request.module, "SIGN_OF_DEPLOYMENT", None)
    if sign and not SCENARIO and host.run(sign).rc != 0:
        pytest.skip("not deployed on this host")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the last log lines of the host's services after a failed test."""
    report = yield
    host = item.funcargs.get("host")
    if report.failed and host:
        journal = host.run("journalctl --no-pager --lines=40 _TRANSPORT=stdout")
        report.sections.append(("journal of the host", journal.stdout))
    return report
