"""The serving stack under load while parts of it are killed, restarted and changed: no prediction is lost or doubled.

Prints a table of what its users notice.
"""

from __future__ import annotations

import json
import shutil
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPException, HTTPSConnection

import docker
import pytest

from ..conftest import ROOT, Lab
from .conftest import HOST, SECOND, Serving

pytestmark = pytest.mark.fleet

PORT = 34789
AT_ONCE, REQUESTS, TASK_SECONDS = 8, 200, 0.1
PATIENCE_SECONDS = 120
PACKAGE = "humanize"  # that nothing else needs
TRAIN = """
import time
import mlflow
from mlflow.types.schema import ColSpec, Schema

class Slow(mlflow.pyfunc.PythonModel):
    def __init__(self, factor):
        self.factor = factor

    def predict(self, context, model_input, params=None):
        time.sleep({seconds})
        print("computed %d" % model_input["number"].iloc[0])
        return model_input["number"] * self.factor

schema = Schema([ColSpec("long", "number")])
for factor in 2, 3:
    mlflow.pyfunc.log_model(
        name="model", python_model=Slow(factor), registered_model_name="slow", pip_requirements=["pandas"],
        signature=mlflow.models.ModelSignature(inputs=schema),
    )
"""
MOVE = """
import mlflow
mlflow.MlflowClient().set_registered_model_alias("slow", "champion", "{version}")
"""


@dataclass
class Row:
    """What users noticed of an event."""

    event: str
    first: int
    requests: int = 0
    failures: list[str] = field(default_factory=list)
    accepted: dict[int, str] = field(default_factory=dict)  # the id of each request
    versions: dict[str, int] = field(default_factory=dict)
    slowest: float = 0.0
    event_seconds: float = 0.0
    lost: int = 0
    doubled: int = 0
    computed_again: int = 0

    def __str__(self) -> str:
        cells = (self.event, f"{self.event_seconds:.0f} s", self.requests, len(self.failures), self.lost, self.doubled)
        return "| " + " | ".join(map(str, (*cells, self.computed_again, f"{self.slowest:.1f} s"))) + " |"


class Load:
    """Sends requests, some at once, until an event is over and there were enough of them."""

    def __init__(self, lab: Lab, row: Row, pause_seconds: float) -> None:
        self.lab, self.row, self.pause_seconds = lab, row, pause_seconds
        self.address, self.token = lab.address(HOST), lab.secrets()["topology_secret_serving_token"]
        self.over, self.lock = threading.Event(), threading.Lock()

    def ask(self, method: str, path: str, body: object = None) -> tuple[int, dict]:
        # While the authority is replaced, people trust both.
        trusted = "".join(file.read_text() for file in sorted((self.lab.inventory / "ca").glob("*.crt")))
        context = ssl.create_default_context(cadata=trusted)
        connection = HTTPSConnection(self.address, PORT, context=context, timeout=90)
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, json.loads(content) if content[:1] == b"{" else {"detail": content[:200].decode()}
        finally:
            connection.close()

    def send(self) -> None:
        while True:
            with self.lock:
                if self.over.is_set() and self.row.requests >= REQUESTS:
                    return
                number = self.row.first + self.row.requests
                self.row.requests += 1
            start = time.monotonic()
            try:
                status, answer = self.ask("POST", "/models/slow/predictions", {"inputs": [{"number": number}]})
            except (OSError, HTTPException) as error:
                status, answer = 0, {"detail": repr(error)}
            self.note(number, status, answer, time.monotonic() - start)
            time.sleep(self.pause_seconds)

    def note(self, number: int, status: int, answer: dict, seconds: float) -> None:
        with self.lock:
            self.row.slowest = max(self.row.slowest, seconds)
            if status not in (200, 202):
                self.row.failures.append(f"{time.strftime('%X')} {status} {answer} after {seconds:.1f} s")
                return
            self.row.accepted[number] = answer["id"]
            if status == 200:
                version, expected = answer["version"], [number * (int(answer["version"]) + 1)]
                self.row.versions[version] = self.row.versions.get(version, 0) + 1
                if answer["outputs"] != expected:
                    self.row.failures.append(f"{time.strftime('%X')} {answer} is wrong: {expected}")

    def __enter__(self) -> Load:
        self.threads = [threading.Thread(target=self.send) for _number in range(AT_ONCE)]
        for thread in self.threads:
            thread.start()
        while self.row.requests < 2 * AT_ONCE:
            time.sleep(0.05)
        return self

    def __exit__(self, *_error: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join()

    def lost(self) -> int:
        """Wait for the answers of all that was accepted, and count those that do not come."""
        waiting, until = set(self.row.accepted.values()), time.monotonic() + PATIENCE_SECONDS
        while waiting and time.monotonic() < until:
            waiting = {each for each in waiting if self.ask("GET", f"/predictions/{each}")[1].get("state") != "SUCCESS"}
        return len(waiting)


class Table:
    """What users noticed of each event."""

    def __init__(self, lab: Serving) -> None:
        self.lab, self.rows = lab, []

    def under_load(self, event: str, act: Callable[[], object], pause_seconds: float = 0.0) -> Row:
        row = Row(event, 100_000 * (len(self.rows) + 1))
        self.rows.append(row)
        with Load(self.lab, row, pause_seconds) as load:
            start = time.monotonic()
            act()
            row.event_seconds = time.monotonic() - start
        row.lost = load.lost()
        number = "(inputs->0->>'number')::int"
        these = f"FROM predictions WHERE model = 'slow' AND {number} BETWEEN {row.first} AND {row.first + 99_999}"
        row.doubled = self.lab.sql(f"SELECT count(*) - count(DISTINCT {number}) {these}")
        journal = "sudo journalctl --output cat --unit 'serving-worker@*' | grep -o 'computed [0-9]*' || true"
        computed = [int(line.split()[1]) for line in self.lab.ssh(journal, HOST).splitlines()]
        computed = [number for number in computed if row.first <= number < row.first + 100_000]
        row.computed_again = len(computed) - len(set(computed))
        print(f"\n{row}", *row.failures[:5], sep="\n")
        return row


@pytest.fixture(scope="module")
def table(serving: Serving) -> Iterator[Table]:
    serving.python(TRAIN.format(seconds=TASK_SECONDS))
    move(serving, 1)
    made = Table(serving)
    yield made
    print("\n| event | takes | requests | failed | lost | doubled | computed again | slowest |", *made.rows, sep="\n")


def move(lab: Serving, version: int) -> None:
    """Move the alias, and wait until the version answers."""
    lab.python(MOVE.format(version=version))
    load, until = Load(lab, Row("", 0), 0), time.monotonic() + PATIENCE_SECONDS
    while load.ask("GET", "/models")[1].get("slow", {}).get("versions", {}).get("primary") != str(version):
        assert time.monotonic() < until
        time.sleep(0.5)


def assert_unnoticed(row: Row) -> None:
    assert (row.lost, row.doubled, row.failures) == (0, 0, [])


def test_worker_is_killed_within_its_tasks(table: Table, serving: Serving) -> None:
    kill = "sudo systemctl kill --signal=KILL serving-worker@1"
    assert_unnoticed(table.under_load("worker killed", lambda: serving.ssh(kill, HOST)))


def test_broker_is_restarted(table: Table, serving: Serving) -> None:
    row = table.under_load("broker restarted", lambda: serving.ssh("sudo systemctl restart rabbitmq-server", HOST))
    assert_unnoticed(row)


def test_broker_is_killed(table: Table, serving: Serving) -> None:
    kill = "sudo systemctl kill --signal=KILL rabbitmq-server; sleep 20"
    assert_unnoticed(table.under_load("broker killed", lambda: serving.ssh(kill, HOST)))


def test_alias_is_moved(table: Table, serving: Serving) -> None:
    row = table.under_load("alias moved", lambda: move(serving, 2))
    assert_unnoticed(row)
    assert row.versions.keys() == {"1", "2"}


def test_packages_of_workers_change(table: Table, serving: Serving) -> None:
    packages = {"serving_worker_packages_extra": [f"{PACKAGE}==4.13.0"]}
    assert_unnoticed(table.under_load("workers' packages changed", lambda: serving.declare(**packages), 0.5))


def test_certificates_are_renewed(table: Table, serving: Serving) -> None:
    assert_unnoticed(table.under_load("certificate renewed", serving.renew, 0.5))


def test_authority_is_replaced(table: Table, serving: Serving) -> None:
    def replace() -> None:
        run = serving.playbook(playbook="playbooks/rotate_ca.yml")
        assert run.code == 0, run.output[-6000:]

    assert_unnoticed(table.under_load("authority replaced", replace, 2.0))


# --- two hosts of the API --------------------------------------------------------------------------------------------


def test_packages_of_api_and_workers_change(table: Table, balanced: Serving) -> None:
    packages = {"serving_packages_extra": [f"{PACKAGE}==4.12.3"], "serving_worker_packages_extra": []}
    assert_unnoticed(table.under_load("all packages changed, two APIs", lambda: balanced.declare(**packages), 0.5))


def test_source_is_exchanged(table: Table, balanced: Serving) -> None:
    source = shutil.copytree(ROOT / "roles/serving/files/application", balanced.inventory / "files/application")
    for file in source.rglob("*.py"):
        file.write_text(f"{file.read_text()}\n# Another version.\n")
    exchange = {"serving_source": "{{ inventory_dir }}/files/application"}
    assert_unnoticed(table.under_load("source exchanged, two APIs", lambda: balanced.declare(**exchange), 0.5))


def test_certificates_of_two_apis_are_renewed(table: Table, balanced: Serving) -> None:
    assert_unnoticed(table.under_load("certificates renewed, two APIs", balanced.renew, 0.5))


def test_one_of_two_apis_is_lost(table: Table, balanced: Serving) -> None:
    container = docker.from_env().containers.get(f"mlfleet-{balanced.inventory.name}-{SECOND}")

    def lose() -> None:
        container.kill()
        time.sleep(15)

    row = table.under_load("one of two API hosts lost", lose)
    balanced.up()
    balanced.converge()  # waits until its API answers
    assert (row.lost, row.doubled) == (0, 0)
    assert len(row.failures) <= AT_ONCE  # that this host was answering
