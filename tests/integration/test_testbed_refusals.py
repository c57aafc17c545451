"""What a service refuses is said with its words, and never takes it down."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from .conftest import ROOT, Lab

PORTS = {"postgres": 5432, "redis": 6379, "minio": 9000, "mlflow": 5001, "nginx": 30443, "restapi": 5000}
STARTS = "systemctl show --property=Id,InactiveExitTimestampMonotonic 'postgresql@*' redis-server nginx dioptra-restapi"
CALLS_PER_SECOND = 10
OUTAGE_SECONDS = 60  # a refused start, a pause, another one, and the former one
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
SITE = {"name": "taken", "servers": ["127.0.0.1:9000"], "routes": [{"path": "/"}]}


def cases(service: str, variable: str, *refused: tuple[object, str]) -> list[object]:
    """Values with the words that refuse them. Only PostgreSQL's first one is tried whenever all is."""
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
        ({"worker_class": "gthred"}, "gthred"),
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
]
UNCHECKED = [
    *cases(
        "postgres",
        "postgres_settings",
        ({"shared_preload_libraries": "nonesuch"}, "nonesuch"),
        ({"shared_buffers": "900GB", "huge_pages": "on"}, "memory"),
    ),
    *cases(
        "redis",
        "redis_settings",
        ({"unixsocket": "/proc/none"}, "Unix socket"),
        ({"loadmodule": "/none.so"}, "none.so"),
    ),
    *cases(
        "minio",
        "minio_environment",
        ({"MINIO_BROWSER": "perhaps"}, "MINIO_BROWSER"),
        ({"MINIO_STORAGE_CLASS_STANDARD": "EC:99"}, "parity"),
        ({"MINIO_STORAGE_CLASS_RRS": "many"}, "many"),
        ({"MINIO_DOMAIN": "a..b"}, "a..b"),
        ({"MINIO_SERVER_URL": "nowhere"}, "nowhere"),
    ),
    *cases("mlflow", "mlflow_environment", ({"PYTHONHOME": "/none"}, "encodings")),
    # Another program's port, of which nginx says nothing but in its log.
    *cases("nginx", "nginx_sites_extra", ([{**SITE, "port": 22}], "22")),
]


@pytest.fixture(scope="module", params=["bare", pytest.param("docker", marks=pytest.mark.fleet)])
def deployed(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The lab of all tests of one host, or one of its own with all in containers."""
    if request.param == "bare":
        lab = request.getfixturevalue("lab")
        if "yes" not in lab.ssh("test ! -e /etc/mlfleet/dioptra-restapi.env || echo yes"):
            lab.converge()
        yield lab
        return
    lab = Lab(ROOT / ".cache/integration/refusals")
    lab.down() if lab.inventory.exists() else None
    lab.up("inventories/single", "--docker-inside")
    settings = {"topology_runtime": "docker", "restapi_gunicorn_workers": 2, "mlflow_workers": 2}
    (lab.inventory / "group_vars/all/runtime.yml").write_text(json.dumps(settings))
    try:
        lab.init()
        lab.converge()
        yield lab
    finally:
        lab.down()


@contextmanager
def client(lab: Lab, port: int) -> Iterator[Callable[[], float]]:
    """Asks a port of the host ten times a second; then for how many seconds nobody answered."""
    words = [
        "mlfleet",
        "lab",
        "ssh",
        "-i",
        lab.name,
        "testbed",
        "--",
        f"python3 -c '{CLIENT.replace('PORT', str(port))}'",
    ]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    answers: list[str] = []
    yield lambda: answers.count("refused") / CALLS_PER_SECOND
    process.terminate()
    answers += process.communicate()[0].split()
    assert answers.count("answered") > CALLS_PER_SECOND


@pytest.mark.parametrize(("service", "variable", "value", "words"), CHECKED)
def test_what_a_checker_refuses_reaches_no_service(
    deployed: Lab, service: str, variable: str, value: object, words: str
) -> None:
    before = deployed.ssh(STARTS)
    for options in [("--check",), ()]:
        run = deployed.playbook("--tags", service, *options, "-e", json.dumps({variable: value}))
        assert run.code != 0
        assert "is not valid; nothing was changed. Its checker says" in run.output
        assert words in run.output.partition("Its checker says")[2]
        assert run.count("changed") == 0
    assert deployed.ssh(STARTS) == before
    assert deployed.converge("--tags", service).count("changed") == 0


@pytest.mark.parametrize(("service", "variable", "value", "words"), UNCHECKED)
def test_service_that_refuses_its_files_gets_the_former_ones_back(
    deployed: Lab, service: str, variable: str, value: object, words: str
) -> None:
    with client(deployed, PORTS[service]) as seconds:
        run = deployed.playbook("--tags", service, "-e", json.dumps({variable: value}))
    print(f"{service} {value}: away for {seconds()} s")
    assert run.code != 0
    assert "The former files are back, and" in run.output
    assert words in run.output.partition("Its last log lines")[2]
    assert seconds() < (1 if service == "nginx" else OUTAGE_SECONDS)
    assert deployed.converge("--tags", service).count("changed") == 0
