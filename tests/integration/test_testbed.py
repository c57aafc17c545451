"""The whole testbed on one host, in the order in which an operator would meet it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.mlfleet.stack.plugins.plugin_utils.services import of_groups

from tests import declared

from . import walk
from .conftest import MOMENTS, Lab, roles_on

MAXIMUM_TASKS, MAXIMUM_TASKS_OF_A_SERVICE = 10, 3


def test_check_of_a_fresh_host_predicts_and_changes_nothing(lab: Lab) -> None:
    before = lab.ssh("sudo find /etc /opt /usr/bin /var/lib/dpkg/status -newer /proc/1 -type f | sort")
    run = lab.converge("--check", "--diff", "-vvv")
    assert run.count("changed") > 20
    assert [name for name, value in lab.secrets().items() if value in run.output] == []
    assert lab.ssh("sudo find /etc /opt /usr/bin /var/lib/dpkg/status -newer /proc/1 -type f | sort") == before


def test_converge_survives_kills_and_shows_no_secret(lab: Lab) -> None:
    """Each converge dies at a later moment; the last one has to complete what all of them left."""
    for task, delay_seconds in MOMENTS[::4]:  # each of them on a fresh host: test_kill.py
        lab.kill_at(task, delay_seconds)
    run = lab.converge("-vvv", "--diff")
    assert [name for name, value in lab.secrets().items() if value in run.output] == []


def test_job_runs_on_each_queue(lab: Lab) -> None:
    lab.verify()


def test_second_run_changes_nothing_in_few_tasks(lab: Lab) -> None:
    run = lab.converge()
    assert run.count("changed") == 0, run.output
    services = of_groups(declared.groups_of_single())
    assert run.count("ok") <= MAXIMUM_TASKS + MAXIMUM_TASKS_OF_A_SERVICE * len(services), services


def test_secrets_are_nowhere_to_be_seen(lab: Lab) -> None:
    values = lab.secrets()
    assert len(values) > 10
    processes = lab.ssh("ps axww -o args")
    journal = lab.ssh("sudo journalctl --no-pager --output=cat")
    logs = lab.ssh("sudo find /var/log -type f -exec zcat -f {} +", errors="replace")
    for place, text in {"ps": processes, "journal": journal, "logs": logs}.items():
        assert [name for name, value in values.items() if value in text] == [], place
    assert "uvicorn" in processes or "mlflow" in processes
    # As the ordinary user: what it can read, others can.
    patterns = "\n".join(values.values())
    search = (
        "find / -xdev -path /var/cache -prune -o -type f -readable -print0 2>/dev/null"
        " | xargs -0 grep -laFf /dev/fd/3 3<&0 2>/dev/null; true"
    )
    assert lab.ssh(f"bash -c '{search}'", input=patterns) == ""


# What says so without a host is asked of unit tests as well; of each source of such lines one is tried here.
BAD_INPUT = [
    ("redis_databases=many", r"testbed: role redis: argument redis_databases: .*int"),
    ("topology_secret_redis_worker=short", r"topology_secret_redis_worker .*mlfleet init"),
    ('{"restapi_resources": [{"repo": "file:///nowhere"}]}', r"git ls-remote of file:///nowhere failed: fatal"),
    ("minio_binary_url=file:///etc/hostname minio_binary_sha256=" + "0" * 64, r"checksum"),
    ('{"__worker_tensorflow_cpu_python_versions": ["3.9"]}', r"worker_tensorflow_cpu needs Python 3.9"),
]
FURTHER_BAD_INPUT = [
    ("topology_runtime=podman", r"testbed: role topology: argument topology_runtime: .*podman"),
    ('{"postgres_databases_extra": [{"name": "x; drop", "owner": "x", "password": "y", "clients": []}]}', r"x; drop"),
    ("topology_pgadmin_email=admin", r"topology_pgadmin_email: 'admin' is not an e-mail address; use one like"),
    ("topology_pgadmin_email=admin@home.local", r"reserved domain local; use another address, or set"),
    (
        '{"pgadmin_servers_extra": [{"name": "restapi", "host": "192.0.2.1", "username": "ada"}]}',
        r"pgadmin_servers_extra: name restapi is declared twice; give each",
    ),
    ('{"restapi_resources": [{"src": "/etc/ssl"}]}', r"/etc/ssl: there is no file dioptra\.toml"),
    ("restapi_password_renew_days=364", r"restapi_password_renew_days: 364 is not from 0 to 363"),
]


@pytest.mark.parametrize(
    ("variables", "line"),
    [*BAD_INPUT, *(pytest.param(*case, marks=pytest.mark.fleet) for case in FURTHER_BAD_INPUT)],
)
def test_bad_input_stops_before_the_first_change(lab: Lab, variables: str, line: str) -> None:
    run = lab.playbook("-e", variables)
    assert run.code != 0
    assert re.search(line, run.output), run.output
    assert run.count("changed") == 0
    assert "PLAY [Role host]" not in run.output


@pytest.fixture
def finished_minio(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Settings of a program at a URL that no run has seen."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "mlfleet/builds"
    program = tmp_path / uuid.uuid4().hex
    program.symlink_to(next(cache.glob("*/minio-*/minio")))
    url, checksum = f"file://{program}", hashlib.sha256(program.read_bytes()).hexdigest()
    yield {"minio_binary_url": url, "minio_binary_sha256": checksum}
    for kept in cache.glob(f"*/minio-{hashlib.sha256((url + checksum).encode()).hexdigest()}"):
        shutil.rmtree(kept)


@pytest.mark.fleet
def test_finished_minio_is_downloaded(lab: Lab, finished_minio: dict[str, str]) -> None:
    check = ("--tags", "minio_install", "--check", "-e", json.dumps(finished_minio))
    assert lab.converge(*check).count("changed") == 1
    assert lab.converge(*check).count("changed") == 0


def test_port_of_another_program_stops_before_the_first_change(lab: Lab) -> None:
    lab.ssh("sudo systemctl stop pgadmin && sudo systemd-run --quiet --unit mine python3 -m http.server 5050")
    try:
        run = lab.playbook()
    finally:
        lab.ssh("sudo systemctl stop mine")
    assert run.code != 0
    assert "testbed: port 5050, which topology_pgadmin_port needs, is in use by a program of user root" in run.output
    assert run.count("changed") == 0
    assert lab.converge("--tags", "pgadmin").count("changed") == 1


def test_empty_store_in_place_of_one_with_data_stops_before_the_first_change(lab: Lab) -> None:
    data = "/var/lib/postgresql/15/main"
    nothing = ("--tags", "nothing-but-the-validation")
    lab.ssh(f"sudo systemctl stop postgresql@15-main && sudo mv {data} {data}.away")
    try:
        run = lab.playbook()
        accepted = lab.playbook(*nothing, "-e", "topology_empty_store_accepted=postgres")
    finally:
        lab.ssh(f"sudo mv {data}.away {data} && sudo systemctl start postgresql@15-main")
    assert run.code != 0 and run.count("changed") == 0
    assert "postgres on testbed has no data, and not those that testbed used, last on testbed" in run.output
    assert accepted.code == 0, accepted.output
    lab.converge(*nothing)


def test_empty_group_names_who_needs_it(lab: Lab, tmp_path: Path) -> None:
    without_redis = shutil.copytree(lab.inventory, tmp_path / "without-redis")
    hosts = without_redis / "hosts.yml"
    hosts.write_text(hosts.read_text().replace("redis: {hosts: {testbed: }}", "redis: {}"))
    run = Lab(without_redis).playbook()
    assert run.code != 0
    assert "restapi needs group redis, which has no host" in run.output
    assert run.count("changed") == 0


def test_missing_secrets_name_the_mend(lab: Lab) -> None:
    vault = lab.inventory / "group_vars/all/vault.yml"
    hidden = vault.rename(vault.with_suffix(".hidden"))
    try:
        run = lab.playbook()
    finally:
        hidden.rename(vault)
    assert run.code != 0
    assert f"mlfleet init {lab.name}" in run.output
    assert run.count("changed") == 0


def test_wrong_vault_password_names_the_mend(lab: Lab, tmp_path: Path) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("not the one\n")
    run = lab.playbook(environment={"ANSIBLE_VAULT_PASSWORD_FILE": str(wrong)})
    assert run.code != 0
    assert "Decryption failed" in run.output
    assert "TASK" not in run.output


def test_change_by_hand_is_found_and_undone(lab: Lab) -> None:
    lab.ssh("sudo sed -i 's/appendonly yes/appendonly no/' /etc/redis/redis.conf && sudo systemctl stop nginx")
    roles = ("--tags", "redis,nginx")
    predicted = lab.converge(*roles, "--check", "--diff")
    assert "-appendonly no" in predicted.output and "+appendonly yes" in predicted.output
    done = lab.converge(*roles, "--diff")
    assert done.count("changed") == predicted.count("changed") == 2
    for action in ("restarted, because a file it reads has changed", "started, because it was not running"):
        assert f"+{action}" in predicted.output and f"+{action}" in done.output


def test_no_door_lets_a_stranger_in(lab: Lab) -> None:
    configuration = lab.ssh("sudo cat /etc/nginx/nginx.conf")
    tried = walk.walk(configuration, lab.address("testbed"), declared.pages())
    ports = declared.ports()
    assert [port for port in ports if not walk.is_closed(lab.address("testbed"), port)] == []
    print(f"{tried} requests and {len(ports)} ports tried")


# Last, for sudo writes the secrets of their commands to the journal.
def test_tests_of_the_roles_pass(lab: Lab) -> None:
    lab.run_role_tests(*roles_on("LABS"), "shared")


@pytest.mark.fleet
def test_further_cases_of_the_roles_pass(lab: Lab) -> None:
    lab.converge_if_empty()
    lab.run_role_tests(*roles_on("LABS"), marked="fleet")
