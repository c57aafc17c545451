"""`inventories/prod` unchanged, on eleven hosts with two releases of Debian; takes most of an hour."""

from __future__ import annotations

import json
import re
import resource
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra import smoke_job

from .clients import callers, job_options
from .conftest import Lab, Run

pytestmark = pytest.mark.fleet

EDGE = "edge1"
SECOND_EDGE = "redis1"  # otherwise it would have no requests from users
WORKERS = ["node1", "node2"]
# Settings that a lab of small hosts needs in addition to the inventory.
SETTINGS = {"worker_tensorflow_cpu_count": 1}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Lab]:
    with Lab.anew("fleet", "inventories/prod", "--debian", f"{EDGE}=13", **SETTINGS) as lab:
        yield lab


@dataclass
class Measured:
    run: Run
    seconds: float
    controller_seconds: float  # of its processors

    def __str__(self) -> str:
        hosts = len(re.findall(r"ok=\d+", self.run.output))
        tasks = self.run.count("ok") + self.run.count("skipped")
        return (
            f"{hosts} hosts: {self.seconds:.0f} s, {tasks} tasks, {tasks / hosts:.0f} a host, "
            f"controller {self.controller_seconds:.0f} s of CPU, {self.controller_seconds / hosts:.1f} a host"
        )


def measured(lab: Lab, *words: str) -> Measured:
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    run = lab.converge(*words)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    controller = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(run, time.monotonic() - start, controller)


def test_fleet_converges_and_stays(fleet: Lab) -> None:
    print("\nfresh:", measured(fleet))
    assert fleet.ssh("cat /etc/debian_version", host=EDGE).startswith("13")
    again = measured(fleet)
    print("no-op:", again)
    assert again.run.count("changed") == 0
    assert fleet.converge("--check").count("changed") == 0


def test_every_queue_runs_a_job(fleet: Lab) -> None:
    run = fleet.verify()
    jobs = re.findall(r"([\w-]+): job \d+ finished in [\d.]+ s", run.output)
    print(jobs)
    assert sorted(jobs) == ["pytorch-cpu", "tensorflow-cpu"]


# The job's plugin trains with its worker's framework, on data from the mount, to which it cannot write.
TRAIN = """
import errno
import importlib.util

import numpy

table = numpy.loadtxt("/dioptra/data/line.csv", delimiter=",").astype("float32")
x, y = table[:, :1], table[:, 1:]
if importlib.util.find_spec("torch"):
    import torch

    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _step in range(50):
        loss = torch.nn.functional.mse_loss(model(torch.from_numpy(x)), torch.from_numpy(y))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
else:
    import tensorflow

    model = tensorflow.keras.Sequential([tensorflow.keras.layers.Dense(1)])
    model.compile(optimizer=tensorflow.keras.optimizers.SGD(0.1), loss="mse")
    losses = model.fit(x, y, epochs=50, verbose=0).history["loss"]
assert losses[-1] < losses[0] / 10, losses
try:
    open("/dioptra/data/written-by-a-job", "w")
except OSError as error:
    assert error.errno == errno.EROFS, error
else:
    raise AssertionError("a job can write to its data")
"""


def test_jobs_train_on_data_that_they_cannot_change(fleet: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "".join(f"{x / 10},{3 * x / 10 + 1}\n" for x in range(-10, 11))
    for host in WORKERS:
        fleet.ssh("sudo mkdir -p /srv/datasets && sudo tee /srv/datasets/line.csv >/dev/null", host=host, input=rows)
    mounted = ("-e", json.dumps({"topology_worker_mounts": [{"source": "/srv/datasets"}]}))
    fleet.converge("--limit", "workers", *mounted)
    monkeypatch.setattr(smoke_job, "TASKS", TRAIN + smoke_job.TASKS)
    options = job_options(fleet, fleet.address(EDGE)) | {"queues": ["pytorch-cpu", "tensorflow-cpu"]}
    found = smoke_job.run_jobs(options | {"name": "mlfleet-train"})
    assert found["wrong"] == []
    print([(job["queue"], job["status"], job["seconds"]) for job in found["jobs"]])


def test_no_op_costs_each_host_the_same(fleet: Lab) -> None:
    for count in (1, 2, 4, 8):
        hosts = ["node1", "node2", "app1", "app2", "store1", "store2", "store3", "store4"][:count]
        print(measured(fleet, "--limit", ",".join(hosts)))


def test_run_of_one_worker_asks_no_other_host(fleet: Lab) -> None:
    run = fleet.converge("--limit", "node1", "-vv")
    assert re.findall(r"^(\S+) +: ok=", run.output, re.MULTILINE) == ["node1"]


def test_change_behind_two_nginx_hosts_fails_no_request(fleet: Lab, tmp_path: Path) -> None:
    shutil.copytree(fleet.inventory, tmp_path / "doors")
    second = {"all": {"children": {"nginx": {"hosts": {SECOND_EDGE: None}}}}}
    (tmp_path / "doors/second.yml").write_text(yaml.safe_dump(second))
    doors = Lab(tmp_path / "doors")
    doors.converge()
    assert doors.converge("--check").count("changed") == 0
    change = ("--tags", "restapi", "-e", json.dumps({"restapi_gunicorn_timeout_seconds": 61}))
    with callers(doors, doors.address(EDGE)), callers(doors, doors.address(SECOND_EDGE)):
        assert doors.converge(*change).count("changed") > 0
    doors.verify()
