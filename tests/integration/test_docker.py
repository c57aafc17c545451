"""The whole testbed in containers on one host, and what may happen to them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import docker
import pytest
import requests
from ansible_collections.mlfleet.stack.plugins.filter.topology import units
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra import smoke_job

from tests import declared

from .clients import job_options, wrong_with
from .conftest import PLAIN_WORKER, Lab, roles_on
from .removal import assert_removed, leave, traces

HOST = "testbed"
WORKER, WORKER_UNIT = "mlfleet-dioptra-worker-tensorflow-cpu-1", "dioptra-worker-tensorflow-cpu@1"
INSTANCES = {"postgresql@": "15-main", "dioptra-worker-tensorflow-cpu@": "1"}
UNITS = [f"{unit}{INSTANCES.get(unit, '')}" for unit in units(declared.groups_of_single())]
USERS = {  # of units that are not named after theirs
    "postgresql@15-main": "postgres",
    "redis-server": "redis",
    "dioptra-restapi": "dioptra",
    "nginx": "www-data",
    WORKER_UNIT: "dioptra-worker-tensorflow-cpu",
}
CONTAINERS = {f"mlfleet-{unit.replace('@', '-')}": USERS.get(unit, unit) for unit in UNITS}
WORKER_MEMORY_MB = 1500
SETTINGS = {
    **PLAIN_WORKER,
    "topology_runtime": "docker",
    "topology_nginx_listen_address": "0.0.0.0",  # the test comes from outside
    "restapi_gunicorn_workers": 2,
    "mlflow_workers": 2,
    "worker_limits": {"memory_mb": WORKER_MEMORY_MB, "pids": 1000},
}
CUSTOM = "container-pages"
SECRET = "only-for-the-pages"
PAGES = {
    "name": "pages",
    "image": "docker.io/library/debian:bookworm-slim",
    "command": "/usr/bin/python3 -m http.server --bind 127.0.0.1 8050 --directory /dioptra/data",
    "secret_environment": {"PAGES_TOKEN": SECRET},
    "mounts": [{"source": "/usr/share/common-licenses"}],
    "needs": ["nginx"],
    "probe": {"http": "http://127.0.0.1:8050/GPL-3"},
}
SLOW = "import time\n\ntime.sleep(30)\n"
GREEDY = "found = [bytearray(2**20) for _number in range(2**14)]\n"
# Of a fresh converge: a task, and seconds after it comes to it.
MOMENT = ("Build or pull the image of mlflow", 10)
HAS_A_JOB = f"""
init=$(sudo docker inspect --format '{{{{.State.Pid}}}}' {WORKER})
read -r worker others </proc/$init/task/$init/children
timeout 120 sh -c "until grep -q . /proc/$worker/task/*/children; do sleep 1; done"
"""


@pytest.fixture(scope="module")
def docked() -> Iterator[Lab]:
    with Lab.anew("docked", "inventories/single", "--docker-inside", **SETTINGS) as lab:
        yield lab


@pytest.fixture
def converged(docked: Lab) -> None:
    docked.converge_if_empty()


@pytest.fixture
def options(docked: Lab, converged: None) -> dict:
    return job_options(docked, docked.address(HOST))


def inspect(lab: Lab, *names: str) -> list[dict]:
    return json.loads(lab.ssh(f"sudo docker inspect {' '.join(names)}"))


def started(lab: Lab) -> dict[str, str]:
    """When each container was started."""
    return {found["Name"].strip("/"): found["State"]["StartedAt"] for found in inspect(lab, *CONTAINERS)}


def runs_job(options: dict, preface: str, **changes: object) -> list[str]:
    """What is wrong with a job whose program begins with this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(smoke_job, "TASKS", preface + smoke_job.TASKS)
        return smoke_job.run_jobs(options | changes)["wrong"]


def wait_until_healthy(lab: Lab, options: dict, seconds: float = 120) -> None:
    """Until all units run, and the API answers behind nginx."""
    deadline = time.monotonic() + seconds
    while True:
        states = lab.ssh(f"systemctl is-active {' '.join(UNITS)}; true").split()
        with suppress(requests.RequestException):
            answer = requests.get(f"{options['url']}/health", verify=options["ca_file"], timeout=5)
            if set(states) == {"active"} and answer.status_code == 200:
                return
        assert time.monotonic() < deadline, states
        time.sleep(1)


def test_check_of_a_fresh_host_predicts_and_changes_nothing(docked: Lab) -> None:
    assert docked.converge("--check", "--diff").count("changed") > 25
    assert docked.ssh("command -v docker; ls /etc/mlfleet /opt/mlfleet 2>/dev/null; true") == ""


def test_killed_converge_is_completed_and_shows_no_secret(docked: Lab) -> None:
    docked.kill_at(*MOMENT)
    run = docked.converge("-vvv", "--diff")
    assert [name for name, value in docked.secrets().items() if value in run.output] == []


def test_second_run_changes_nothing(docked: Lab) -> None:
    docked.verify()
    assert docked.converge().count("changed") == 0


def test_each_container_is_confined(docked: Lab) -> None:
    users = docked.ssh("getent passwd")
    assert sorted(docked.ssh("sudo docker ps --format '{{.Names}}'").split()) == sorted(CONTAINERS)
    for found in inspect(docked, *CONTAINERS):
        name, rules = found["Name"].strip("/"), found["HostConfig"]
        uid = found["Config"]["User"].partition(":")[0]
        row = (name, uid, rules["ReadonlyRootfs"], rules["CapAdd"], rules["CapDrop"], rules["SecurityOpt"])
        print(*row, rules["Memory"], rules["PidsLimit"], rules["NetworkMode"])
        assert f"{CONTAINERS[name]}:x:{uid}:" in users
        assert uid != "0"
        assert rules["ReadonlyRootfs"]
        assert rules["CapDrop"] == ["ALL"]
        assert not rules["CapAdd"]
        assert rules["SecurityOpt"] == ["no-new-privileges"]
        assert not rules["Privileged"]
        assert rules["PidsLimit"] == (1000 if name == WORKER else 8192)
        assert rules["Memory"] == (WORKER_MEMORY_MB * 2**20 if name == WORKER else 0)
        assert not rules["PortBindings"]


def test_docker_knows_no_secret(docked: Lab) -> None:
    known = docked.ssh("sudo docker ps --quiet | xargs sudo docker inspect")
    known += docked.ssh("sudo docker images --quiet | sort -u | xargs -n 1 sudo docker history --no-trunc")
    known += docked.ssh("sudo docker images --quiet | sort -u | xargs sudo docker inspect")
    known += docked.ssh("ps axww -o args; sudo journalctl --no-pager --output=cat")
    assert [name for name, value in docked.secrets().items() if value in known] == []
    # Layers, and what the engine keeps beside them.
    patterns = "\n".join(docked.secrets().values())
    search = (
        "sudo grep --recursive --files-with-matches --binary-files=text --fixed-strings --file=- /var/lib/docker; true"
    )
    assert docked.ssh(search, input=patterns) == ""


def test_tests_of_the_roles_pass(docked: Lab) -> None:
    # Resources are asked for by the API alone, wherever it runs.
    docked.run_role_tests(
        *roles_on("LABS"), *roles_on("THE_DOCKER_LAB"), "shared", without="resources tensorflow_computes opened_by_hand"
    )


def test_container_of_the_users_own_runs_beside_the_others(docked: Lab) -> None:
    groups = docked.inventory / "containers.yml"
    groups.write_text(json.dumps({"containers": {"hosts": {HOST: {"containers_extra": [PAGES]}}}}))
    predicted = docked.converge("--check", "--tags", "containers")
    assert docked.converge("--tags", "containers").count("changed") == predicted.count("changed") > 0
    assert docked.converge("--tags", "containers").count("changed") == 0
    ask = "python3 -c \"import urllib.request as r; print(r.urlopen('http://127.0.0.1:8050/GPL-3').read())\""
    assert "GNU GENERAL PUBLIC LICENSE" in docked.ssh(ask)
    assert f"PAGES_TOKEN={SECRET}" in docked.ssh(f"sudo docker exec mlfleet-{CUSTOM} sh -c 'cat /proc/*/environ'")
    assert SECRET not in json.dumps(inspect(docked, f"mlfleet-{CUSTOM}"))
    docked.ssh(f"sudo systemctl disable --now {CUSTOM}")
    groups.unlink()


@pytest.mark.fleet
def test_former_images_go_when_told(docked: Lab, converged: None) -> None:
    def count() -> int:
        return len(docked.ssh("sudo docker images --quiet mlfleet/redis").split())

    docked.converge("--tags", "redis", "-e", "image_revision=another")
    docked.converge("--tags", "redis")
    assert count() == 2
    assert docked.converge("--tags", "redis", "-e", "image_prune_enabled=true").count("changed") == 1
    assert count() == 1
    assert docked.converge("--tags", "redis", "-e", "image_prune_enabled=true").count("changed") == 0


@pytest.mark.fleet
def test_engine_with_containers_of_others_is_left_alone(docked: Lab, converged: None) -> None:
    docked.ssh(f"sudo docker run --detach --rm --name others {PAGES['image']} sleep 1000")
    try:
        assert docked.converge("--check").count("changed") == 0
        run = docked.playbook("-e", "docker_log_max_files=5")
        assert run.code != 0
        assert "others" in run.output and "docker_foreign_containers_allowed" in run.output
        assert run.count("changed") == 0
    finally:
        docked.ssh("sudo docker kill others")


@pytest.mark.fleet
def test_containers_and_jobs_outlive_the_engine(docked: Lab, options: dict) -> None:
    before, wrong = started(docked), []
    job = threading.Thread(target=lambda: wrong.extend(runs_job(options, SLOW, name="mlfleet-slow")))
    job.start()
    docked.ssh(HAS_A_JOB)
    docked.ssh("sudo systemctl restart docker")
    job.join()
    assert wrong == []
    wait_until_healthy(docked, options)
    assert started(docked) == before
    assert docked.converge("--check").count("changed") == 0


@pytest.mark.fleet
def test_killed_containers_come_back(docked: Lab, options: dict) -> None:
    before = started(docked)
    docked.ssh(f"sudo docker kill {' '.join(CONTAINERS)}")
    wait_until_healthy(docked, options)
    assert all(time != before[name] for name, time in started(docked).items())
    assert smoke_job.run_jobs(options)["wrong"] == []


@pytest.mark.fleet
def test_job_that_wants_too_much_memory_fails_alone(docked: Lab, options: dict) -> None:
    # Nobody tells Dioptra that the job is over.
    (wrong,) = runs_job(options, GREEDY, name="mlfleet-greedy", job_timeout_seconds=60)
    assert "did not finish within" in wrong
    assert "Work-horse terminated unexpectedly" in docked.ssh(f"sudo journalctl --unit {WORKER_UNIT} --lines 20")
    assert smoke_job.run_jobs(options)["wrong"] == []


def test_queued_job_waits_for_a_worker_that_is_away(docked: Lab, options: dict) -> None:
    docked.ssh(f"sudo systemctl stop {WORKER_UNIT}")
    found: list[dict] = []
    job = threading.Thread(target=lambda: found.append(smoke_job.run_jobs(options)))
    job.start()
    time.sleep(5)
    docked.ssh("sudo docker kill mlfleet-redis-server")
    time.sleep(10)
    docked.ssh(f"sudo systemctl start {WORKER_UNIT}")
    job.join()
    assert found[0]["wrong"] == []


def test_host_comes_back_by_itself(docked: Lab, options: dict) -> None:
    docker.from_env().containers.get(f"mlfleet-{docked.inventory.name}-{HOST}").restart(timeout=60)
    deadline = time.monotonic() + 60
    while docked.command("mlfleet", "lab", "ssh", "-i", docked.name, HOST, "true", check=False).returncode:
        assert time.monotonic() < deadline
        time.sleep(1)
    wait_until_healthy(docked, options)
    assert docked.converge("--check").count("changed") == 0
    assert smoke_job.run_jobs(options)["wrong"] == []


@pytest.mark.fleet
def test_data_stays_when_some_services_leave_their_containers(docked: Lab, options: dict) -> None:
    first = smoke_job.run_jobs(options)["jobs"][0]
    mixed = json.dumps({"topology_postgres_runtime": "bare", "topology_minio_runtime": "bare"})
    predicted = docked.converge("--check", "-e", mixed)
    assert docked.converge("-e", mixed).count("changed") == predicted.count("changed") > 0
    assert docked.converge("-e", mixed).count("changed") == 0
    assert len(docked.ssh("sudo docker ps --quiet").split()) == len(CONTAINERS) - 2
    assert wrong_with(options, first) == ""
    assert smoke_job.run_jobs(options)["wrong"] == []


@pytest.mark.fleet
def test_data_stays_when_all_services_change_their_runtime(docked: Lab, options: dict) -> None:
    docked.converge()
    first = smoke_job.run_jobs(options)["jobs"][0]
    for runtime, containers in (("bare", 0), ("docker", len(CONTAINERS))):
        wanted = ("-e", f"topology_runtime={runtime}")
        predicted = docked.converge("--check", *wanted)
        assert docked.converge(*wanted).count("changed") == predicted.count("changed") > 0
        assert docked.converge(*wanted).count("changed") == 0
        assert len(docked.ssh("sudo docker ps --quiet").split()) == containers
        assert wrong_with(options, first) == ""
        assert smoke_job.run_jobs(options)["wrong"] == []


@pytest.mark.fleet
@pytest.mark.parametrize(("group", "name"), [("pgadmin", "pgadmin"), ("worker_tensorflow_cpu", "tensorflow-cpu")])
def test_removed_service_leaves_nothing(docked: Lab, converged: None, group: str, name: str) -> None:
    leave(docked, group)
    assert_removed(docked, group, "-e", f"remove_data={group}")
    assert traces(docked, name) == []
    assert sorted(docked.ssh("sudo docker ps --format '{{.Names}}'").split()) == sorted(
        container for container in CONTAINERS if name not in container
    )
