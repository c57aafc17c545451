"""A program finds a database of another version: a newer one is refused, an older one migrated, both in time."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from .conftest import ROOT, Lab, Run

UNIT = "dioptra-restapi"
FORMER = "ad4f89b2288d"  # Dioptra 1.1.0's; 1.2.0 has added a table that refers to plugin_files
NEWEST = "30e74c5564b3"
BACK = f"DROP TABLE job_swaps; UPDATE alembic_version SET version_num = '{FORMER}'"
OLDER_MLFLOW = [f"{name}==3.16.1" for name in ("mlflow", "mlflow-skinny", "mlflow-tracing")]
LOCK = 5001  # of migrate.py
START_SECONDS = 40  # within which the API answers on a busy machine
STATE = "ActiveState,ExecMainStatus,InvocationID,MainPID"


def psql(lab: Lab) -> str:
    postgres = lab.ssh("docker ps --quiet --filter name=mlfleet-postgresql 2>/dev/null || true").strip()
    return f"sudo docker exec -u postgres {postgres} psql" if postgres else "sudo -u postgres psql"


def sql(lab: Lab, statements: str) -> str:
    return lab.ssh(f"cd / && {psql(lab)} -XqAtd restapi -v ON_ERROR_STOP=1 -c {shlex.quote(statements)}").strip()


def revision(lab: Lab) -> str:
    return sql(lab, "SELECT version_num FROM alembic_version")


def state(lab: Lab, unit: str = UNIT) -> dict[str, str]:
    shown = lab.ssh(f"systemctl show --property={STATE} {unit}")
    return dict(line.split("=", 1) for line in shown.splitlines())


def until(lab: Lab, wanted: str) -> None:
    for _second in range(120):
        if state(lab)["ActiveState"] == wanted:
            return
        time.sleep(1)
    pytest.fail(f"{UNIT} is {state(lab)}")


def until_said(lab: Lab, words: str, former: dict[str, str] | None = None) -> None:
    """Wait for these words in the log since the last start, which differs from the former one."""
    for _second in range(180):
        invocation = state(lab)["InvocationID"]
        is_new = not former or invocation != former["InvocationID"]
        if is_new and words in lab.ssh(f"sudo journalctl _SYSTEMD_INVOCATION_ID={invocation} --output=cat"):
            return
        time.sleep(1)
    pytest.fail(f"{UNIT} has not said {words}")


@contextmanager
def held(lab: Lab, statement: str) -> Iterator[Callable[[], None]]:
    """Hold the lock of the statement until the returned function is called, or until the end."""
    words = f"cd / && {psql(lab)} -Xqd restapi -c 'BEGIN; {statement}; SELECT pg_sleep(600)'"
    session = subprocess.Popen(
        ["mlfleet", "lab", "ssh", "-i", lab.name, "testbed", "--", words], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    sleeping = "FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid != pg_backend_pid()"
    while sql(lab, f"SELECT count(*) {sleeping} AND wait_event = 'PgSleep'") == "0":
        assert session.poll() is None
        time.sleep(0.2)
    try:
        yield lambda: print(sql(lab, f"SELECT pg_terminate_backend(pid) {sleeping}"))
    finally:
        sql(lab, f"SELECT pg_terminate_backend(pid) {sleeping}")
        session.wait(timeout=60)


@contextmanager
def running(lab: Lab, **variables: object) -> Iterator[Future[Run]]:
    """Run the role in the background."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(lab.playbook, "--tags", "restapi", "-e", json.dumps(variables))


@pytest.fixture
def migrated(deployed: Lab) -> Iterator[Lab]:
    yield deployed
    assert deployed.converge("--tags", "restapi").count("failed") == 0
    assert revision(deployed) == NEWEST


@pytest.mark.fleet  # its mechanism is asked in molecule/python_app
@pytest.mark.parametrize(
    ("role", "unit", "older", "words"),
    [
        ("mlflow", "mlflow", OLDER_MLFLOW, "MLflow's database is at revision dc11669786a5, which MLflow 3.16.1"),
        (
            *("restapi", UNIT, ["dioptra-platform==1.1.0"]),
            f"is at revision {NEWEST}, which Dioptra's REST API 1.1.0",
        ),
        (
            *("pgadmin", "pgadmin", ["pgadmin4==9.10"]),
            "is at revision normalize_locked_text_default, which pgAdmin 9.10",
        ),
    ],
)
def test_version_older_than_its_database_is_not_taken_into_use(
    deployed: Lab, role: str, unit: str, older: list[str], words: str
) -> None:
    before = state(deployed, unit)
    packages = json.dumps({"python_app_packages": older})
    run = deployed.playbook("--tags", role, "-e", packages)
    assert run.code != 0 and run.count("changed") == 0
    assert f"{words} does not know" in run.text and "the former one stays in use" in run.output
    assert state(deployed, unit) == before
    assert deployed.converge("--tags", role).count("changed") == 0


@pytest.mark.fleet
def test_start_with_a_newer_database_ends_and_is_not_tried_again(migrated: Lab) -> None:
    sql(migrated, "UPDATE alembic_version SET version_num = 'ffff00000000'")
    migrated.ssh(f"sudo systemctl restart {UNIT}")
    until(migrated, "failed")
    until_said(migrated, "Dioptra's database is at revision ffff00000000, which Dioptra's REST API")
    refused = migrated.playbook("--tags", "restapi")
    assert refused.code != 0 and "a newer version has migrated it" in refused.text
    assert state(migrated)["ActiveState"] == "failed" and state(migrated)["ExecMainStatus"] == "78"
    sql(migrated, f"UPDATE alembic_version SET version_num = '{NEWEST}'")


def test_migration_that_fails_ends_and_is_not_tried_again(migrated: Lab) -> None:
    sql(migrated, f"UPDATE alembic_version SET version_num = '{FORMER}'")
    refused = migrated.playbook("--tags", "restapi", "-e", json.dumps({"restapi_environment": {"ANY": "1"}}))
    words = "could not be migrated, which the next run tries again: (psycopg2.errors.DuplicateTable)"
    assert refused.code != 0 and words in refused.text, refused.output
    assert "The former files are back" not in refused.text
    until(migrated, "failed")
    sql(migrated, "DROP TABLE job_swaps")


@pytest.mark.fleet
def test_long_migration_is_waited_for(migrated: Lab) -> None:
    """Here it waits for a table, which takes as long as rewriting one would."""
    former = state(migrated)
    sql(migrated, BACK)
    with (
        held(migrated, "LOCK TABLE plugin_files") as release,
        running(migrated, restapi_start_timeout_seconds=START_SECONDS) as run,
    ):
        until_said(migrated, f"Migrating Dioptra's database from {FORMER} to {NEWEST}", former)
        time.sleep(START_SECONDS + 5)
        assert not run.done(), run.result().output
        assert state(migrated)["ActiveState"] == "active"
        release()
    assert run.result().code == 0, run.result().output
    assert f"Migrating Dioptra's database from {FORMER} to {NEWEST}, which took" in run.result().text


@pytest.mark.fleet
def test_run_that_does_not_wait_longer_leaves_the_migration_to_end_and_so_does_the_next(migrated: Lab) -> None:
    sql(migrated, BACK)
    bounds = {"restapi_start_timeout_seconds": START_SECONDS, "restapi_migration_timeout_seconds": 5}
    with held(migrated, "LOCK TABLE plugin_files") as release:
        with running(migrated, **bounds) as run:
            assert run.result().code != 0 and "It goes on; another run waits for it" in run.result().text
        migrating = state(migrated)
        with running(migrated, restapi_start_timeout_seconds=START_SECONDS + 1) as run:
            time.sleep(START_SECONDS)
            assert state(migrated) == migrating and not run.done()
            release()
        assert run.result().code == 0, run.result().output
    assert revision(migrated) == NEWEST
    assert "was migrated in" in migrated.ssh(f"sudo journalctl _SYSTEMD_INVOCATION_ID={migrating['InvocationID']}")


@pytest.mark.fleet
def test_other_host_that_migrates_is_waited_for_within_the_bound(migrated: Lab) -> None:
    former = state(migrated)
    with (
        held(migrated, f"SELECT pg_advisory_lock({LOCK})") as release,
        running(migrated, restapi_start_timeout_seconds=START_SECONDS) as run,
    ):
        until_said(migrated, "is being migrated by this host, which this host waits for", former)
        time.sleep(START_SECONDS + 5)
        release()
    assert run.result().code == 0, run.result().output
    assert "is being migrated by this host, which this host waits for, which took" in run.result().text
    with held(migrated, f"SELECT pg_advisory_lock({LOCK})"):
        with running(migrated, restapi_migration_timeout_seconds=5) as run:
            assert run.result().code != 0
        assert "has been in the hands of this host for 5 s" in run.result().text
        until(migrated, "failed")
