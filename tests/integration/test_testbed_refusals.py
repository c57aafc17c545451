"""Settings that a service refuses are reported in its words, and never stop it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from .conftest import ROOT, Lab, Run

PORTS = {"postgres": 5432, "redis": 6379, "minio": 9000, "mlflow": 5001, "nginx": 30443, "restapi": 5000}
STARTS = "systemctl show --property=Id,InactiveExitTimestampMonotonic 'postgresql@*' redis-server nginx dioptra-restapi"
CALLS_PER_SECOND = 10
OUTAGE_SECONDS = 60  # a refused start, a pause, another one, and one with the former files
CLIENT = f"""
import socket, time
while True:
    try:
        socket.create_connection(("127.0.0.1", PORT), 2).close()
        print("answered", flush=True)
    except OSError:
        print("refused", flush=True)
    time.sleep({1 / CALLS_PER_SECOND})
"""
TAKEN_PORT = 30998  # by another program
SITE = {"name": "taken", "servers": ["127.0.0.1:9000"], "routes": [{"path": "/"}]}


def cases(service: str, variable: str, *refused: tuple[object, str]) -> list[object]:
    """Return values with the words that refuse them. A run of all tests tries only PostgreSQL's first one."""
    return [
        pytest.param(
            service, variable, value, words, marks=[pytest.mark.fleet] if number or service != "postgres" else []
        )
        for number, (value, words) in enumerate(refused)
    ]


CHECKED = [
    *cases(
        "postgres",
        "postgres_settings",
        ({"shared_buffer": "1GB"}, "shared_buffer"),
        ({"work_mem": "lots"}, "work_mem"),
        ({"wal_level": "none"}, "wal_level"),
        ({"jit": "maybe"}, "jit"),
        ({"max_worker_processes": -1}, "max_worker_processes"),
        ({"shared_preload_libraries": "nonesuch"}, "nonesuch"),
    ),
    *cases(
        "redis",
        "redis_settings",
        ({"nonsense": "1"}, "nonsense"),
        ({"maxmemory-policy": "lru"}, "maxmemory-policy"),
        ({"appendfsync": "sometimes"}, "appendfsync"),
        ({"maxmemory": "much"}, "maxmemory"),
        ({"save": "often"}, "save"),
    ),
    *cases(
        "restapi",
        "restapi_gunicorn_settings",
        ({"worker_clas": "sync"}, "worker_clas"),
        ({"workers": "many"}, "workers"),
        ({"timeout": -5}, "timeout"),
        ({"worker_class": "gthred"}, "worker_class: 'gthred' is refused"),
        ({"user_agent": "x"}, "user_agent"),
    ),
    *cases(
        "nginx",
        "nginx_sites_extra",
        ([{**SITE, "port": 30999, "routes": [{"path": "~ ^/(a"}]}], "missing"),
        ([{**SITE, "port": 30999, "routes": [{"path": "/"}, {"path": "/"}]}], "duplicate location"),
        ([{**SITE, "port": 30999, "servers": ["no.such.host.invalid:1"]}], "no.such.host.invalid"),
        ([{**SITE, "port": 30999, "servers": ["127.0.0.1:99999"]}], "99999"),
    ),
    *cases(
        "minio",
        "minio_environment",
        ({"MINIO_BROWSER": "perhaps"}, "MINIO_BROWSER"),
        ({"MINIO_STORAGE_CLASS_STANDARD": "EC:99"}, "parity"),
        ({"MINIO_STORAGE_CLASS_RRS": "many"}, "many"),
        ({"MINIO_DOMAIN": "a..b"}, "a..b"),
        ({"MINIO_SERVER_URL": "nowhere"}, "MINIO_SERVER_URL"),
    ),
]
UNCHECKED = [
    *cases(
        "postgres",
        "postgres_settings",
        ({"shared_buffers": "900GB", "huge_pages": "on"}, "memory"),
    ),
    *cases(
        "redis",
        "redis_settings",
        ({"unixsocket": "/proc/none"}, "Unix socket"),
        ({"loadmodule": "/none.so"}, "none.so"),
    ),
    *cases("mlflow", "mlflow_environment", ({"PYTHONHOME": "/none"}, "encodings")),
    # nginx reports these only in its log.
    *cases("nginx", "nginx_sites_extra", ([{**SITE, "port": TAKEN_PORT}], str(TAKEN_PORT))),
]


@pytest.fixture(scope="module")
def another_program(deployed: Lab) -> Iterator[None]:
    deployed.ssh(f"sudo systemd-run --quiet --unit=another python3 -m http.server --bind 127.0.0.1 {TAKEN_PORT}")
    yield
    deployed.ssh("sudo systemctl stop another")


@contextmanager
def client(lab: Lab, port: int) -> Iterator[Callable[[], float]]:
    """Probe a port of the host ten times a second, and return for how many seconds there was no answer."""
    script = f"python3 -c '{CLIENT.replace('PORT', str(port))}'"
    words = ["mlfleet", "lab", "ssh", "-i", lab.name, "testbed", "--", script]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    answers: list[str] = []
    yield lambda: answers.count("refused") / CALLS_PER_SECOND
    process.terminate()
    answers += process.communicate()[0].split()
    assert answers.count("answered") > CALLS_PER_SECOND


def refuses(run: Run, verdict: str, said: str, words: str) -> str:
    """Return the line with these words, and the next one, of the service's message."""
    assert run.code != 0 and verdict in run.output, run.output[-3000:]
    lines = [line.strip() for line in run.output.partition(said)[2].splitlines()]
    first = next((number for number, line in enumerate(lines) if words in line), None)
    assert first is not None, lines
    return " / ".join(lines[first : first + 2])[:300]


@pytest.mark.parametrize(("service", "variable", "value", "words"), CHECKED)
def test_what_a_checker_refuses_reaches_no_service(
    deployed: Lab, service: str, variable: str, value: object, words: str
) -> None:
    before = deployed.ssh(STARTS)
    with client(deployed, PORTS[service]) as seconds:
        for options in [("--check",), ()]:
            run = deployed.playbook("--tags", service, *options, "-e", json.dumps({variable: value}))
            line = refuses(run, "is not valid; nothing was changed.", "Its checker says: ", words)
            assert run.count("changed") == 0
    print(f"| {deployed.inventory.name} | {service} | {value} | checker | {seconds()} | {line} |")
    assert seconds() == 0
    assert deployed.ssh(STARTS) == before


@pytest.mark.fleet
def test_what_checkers_refused_has_left_nothing(deployed: Lab) -> None:
    assert deployed.converge().count("changed") == 0


@pytest.mark.usefixtures("another_program")
@pytest.mark.parametrize(("service", "variable", "value", "words"), UNCHECKED)
def test_service_that_refuses_its_files_gets_the_former_ones_back(
    deployed: Lab, service: str, variable: str, value: object, words: str
) -> None:
    with client(deployed, PORTS[service]) as seconds:
        run = deployed.playbook("--tags", service, "-e", json.dumps({variable: value}))
    line = refuses(run, "The former files are back, and", "fatal:", words)
    print(f"| {deployed.inventory.name} | {service} | {value} | start | {seconds()} | {line} |")
    assert seconds() < (1 if service == "nginx" else OUTAGE_SECONDS)
    assert deployed.converge("--tags", service).count("changed") == 0
