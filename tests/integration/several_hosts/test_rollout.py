"""Services on two hosts are changed one after the other, and no client notices."""

from __future__ import annotations

import json
import re
import shutil
import threading
from pathlib import Path

import docker
import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra import smoke_job

from ..clients import Caller, Person, callers, job_options
from ..conftest import ROOT, Lab
from .conftest import APPLICATION, SERVERS

SETTINGS = {"restapi_gunicorn_timeout_seconds": 61, "mlflow_environment": {"MLFLOW_LOGGING_LEVEL": "WARNING"}}
HAS_A_JOB = """
worker=$(systemctl show --value --property MainPID dioptra-worker-tensorflow-cpu@1)
timeout 120 sh -c "until grep -q . /proc/$worker/task/*/children; do sleep 1; done"
"""
PACKAGE = "certifi"  # both services have it, and work with each of its versions


# A job that a change of packages would break.
SLOW = f"""
import importlib.metadata
import time

version = importlib.metadata.version("{PACKAGE}")
time.sleep(60)
assert importlib.metadata.version("{PACKAGE}") == version
"""


def constraints_with(version: str, directory: Path, name: str = "restapi") -> dict[str, str]:
    """Return settings with another version of a package in an environment."""
    shutil.copytree(ROOT / "constraints", directory)
    file = directory / f"{name}.txt"
    text, count = re.subn(rf"(?m)^{PACKAGE}==.*$", f"{PACKAGE}=={version}", file.read_text())
    assert count == 1
    file.write_text(text)
    return {"topology_constraints_dir": str(directory)}


def servers_in_nginx(stores: Lab) -> dict[str, bool]:
    """Return the REST API's hosts, and whether nginx sends them requests."""
    text = stores.ssh("cat /etc/nginx/nginx.conf", host=APPLICATION)
    return {
        host: " down;" not in re.search(rf"server {re.escape(stores.address(host))}:5000[^;]*;", text).group()
        for host in SERVERS
    }


@pytest.mark.fleet
def test_change_of_settings_and_package_fails_no_request(stores: Lab, tmp_path: Path) -> None:
    changes = ("-e", json.dumps(SETTINGS | constraints_with("2026.1.4", tmp_path / "constraints")))
    predicted = stores.converge(*changes, "--check")
    with callers(stores, stores.address(APPLICATION)):
        run = stores.converge(*changes)
    assert run.count("changed") == predicted.count("changed") > 0
    assert servers_in_nginx(stores) == dict.fromkeys(SERVERS, True)
    for host in SERVERS:
        assert 'timeout = json.loads("61")' in stores.ssh("cat /etc/mlfleet/restapi/gunicorn.conf.py", host=host)
        found = stores.ssh(f"ls /opt/mlfleet/restapi/lib/python3.11/site-packages | grep {PACKAGE}-", host=host)
        assert "2026.1.4" in found
    assert stores.converge(*changes).count("changed") == 0
    stores.converge()  # restored for the next tests


@pytest.mark.fleet
def test_change_that_fails_stops_at_the_first_host(stores: Lab, tmp_path: Path) -> None:
    first, second = SERVERS
    package = SETTINGS | constraints_with("1.0.99", tmp_path / "constraints")
    no_start = SETTINGS | {"restapi_environment": {"PYTHONHOME": "/none"}, "restapi_start_timeout_seconds": 20}
    with callers(stores, stores.address(APPLICATION)):
        # A failed installation shows before the host is touched, and a failed start after it was drained.
        for change, cause, is_in_use in ((package, f"{PACKAGE}==1.0.99", True), (no_start, "encodings", False)):
            run = stores.playbook("--tags", "restapi", "-e", json.dumps(change))
            assert run.code != 0 and cause in run.output
            assert re.search(rf"^{first} .* failed=1 ", run.output, re.MULTILINE)
            assert re.search(rf"^{second} .* changed=0 .* failed=0 ", run.output, re.MULTILINE)
            assert servers_in_nginx(stores) == {first: is_in_use, second: True}
        stores.converge()
    assert servers_in_nginx(stores) == dict.fromkeys(SERVERS, True)
    assert stores.converge("--check").count("changed") == 0


@pytest.mark.fleet
def test_running_job_ends_before_its_worker_changes(
    stores: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    options = job_options(stores, stores.address(APPLICATION))
    constraints = constraints_with("2026.1.4", tmp_path / "constraints", "worker")
    changed = ("-e", json.dumps(constraints | {"worker_tensorflow_cpu_environment": {"OMP_NUM_THREADS": "2"}}))
    found: dict[str, dict] = {}
    with monkeypatch.context() as patch:
        patch.setattr(smoke_job, "TASKS", SLOW + smoke_job.TASKS)
        slow = options | {"name": "mlfleet-slow"}
        job = threading.Thread(target=lambda: found.update(slow=smoke_job.run_jobs(slow)))
        job.start()
        stores.ssh(HAS_A_JOB, host=APPLICATION)
        stores.converge("--tags", "worker_tensorflow_cpu", *changed)
        job.join()
    assert found["slow"]["wrong"] == []
    assert "OMP_NUM_THREADS" in stores.ssh("sudo cat /etc/mlfleet/dioptra-worker-tensorflow-cpu.env", host=APPLICATION)
    packages = "ls /opt/mlfleet/worker-tensorflow-cpu/lib/python3.11/site-packages"
    assert f"{PACKAGE}-2026.1.4.dist-info" in stores.ssh(packages, host=APPLICATION)
    assert smoke_job.run_jobs(options)["wrong"] == []
    stores.converge("--tags", "worker_tensorflow_cpu")


@pytest.mark.fleet
def test_killed_host_is_left_out(stores: Lab) -> None:
    container = docker.from_env().containers.get(f"mlfleet-{stores.inventory.name}-{SERVERS[1]}")
    person = Person(stores, stores.address(APPLICATION))
    with Caller(person.ask_api) as caller:
        threading.Event().wait(3)
        container.kill()
        threading.Event().wait(15)
        container.start()
        threading.Event().wait(5)
    print(f"{caller.asked} requests around the loss of a host, {len(caller.failures)} failed: {caller.failures}")
    # Pending requests there are lost, later ones are not.
    assert len(caller.failures) < caller.asked / 10
    stores.converge("--limit", SERVERS[1])
    assert stores.converge("--check").count("changed") == 0
