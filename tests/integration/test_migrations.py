"""A program comes to a database of another version: a newer one is refused, an older one migrated, and both in time."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .conftest import ROOT, Lab

UNIT = "dioptra-restapi"
FORMER = "ad4f89b2288d"  # Dioptra 1.1.0's; 1.2.0 has added a table that refers to plugin_files
NEWEST = "30e74c5564b3"
BACK = f"DROP TABLE job_swaps; UPDATE alembic_version SET version_num = '{FORMER}'"
LOCK = 5001  # of migrate.py
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


def said(lab: Lab) -> str:
    return lab.ssh(f"sudo journalctl --unit={UNIT} --lines=40 --output=cat")


@contextmanager
def held(lab: Lab, statement: str, seconds: int) -> Iterator[None]:
    """Somebody has the lock of the statement for that long."""
    words = f"cd / && {psql(lab)} -Xqd restapi -c 'BEGIN; {statement}; SELECT pg_sleep({seconds})'"
    session = subprocess.Popen(
        ["mlfleet", "lab", "ssh", "-i", lab.name, "testbed", "--", words], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    while (
        sql(lab, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep%' AND pid != pg_backend_pid()")
        == "0"
    ):
        assert session.poll() is None
        time.sleep(0.2)
    yield
    assert session.wait(timeout=seconds + 60) == 0


@pytest.fixture
def migrated(deployed: Lab) -> Iterator[Lab]:
    yield deployed
    assert deployed.converge("--tags", "restapi").count("failed") == 0
    assert revision(deployed) == NEWEST


@pytest.mark.parametrize(
    ("role", "unit", "older", "words"),
    [
        ("mlflow", "mlflow", "mlflow==3.16.1", "MLflow's database is at revision dc11669786a5, which MLflow 3.16.1"),
        ("restapi", UNIT, "dioptra-platform==1.1.0", f"is at revision {NEWEST}, which Dioptra's REST API 1.1.0"),
        ("pgadmin", "pgadmin", "pgadmin4==9.10", "is at revision normalize_locked_text_default, which pgAdmin 9.10"),
    ],
)
def test_version_older_than_its_database_is_not_taken_into_use(
    deployed: Lab, role: str, unit: str, older: str, words: str
) -> None:
    before = state(deployed, unit)
    packages = json.dumps({"python_app_packages": [older]})
    run = deployed.playbook("--tags", role, "-e", packages)
    assert run.code != 0 and run.count("changed") == 0
    assert f"{words} does not know" in run.output and "the former one stays in use" in run.output
    assert state(deployed, unit) == before
    assert deployed.converge("--tags", role).count("changed") == 0


def test_start_with_a_newer_database_ends_and_is_not_tried_again(migrated: Lab) -> None:
    sql(migrated, "UPDATE alembic_version SET version_num = 'ffff00000000'")
    migrated.ssh(f"sudo systemctl restart {UNIT}")
    until(migrated, "failed")
    assert "Dioptra's database is at revision ffff00000000, which Dioptra's REST API" in said(migrated)
    refused = migrated.playbook("--tags", "restapi")
    assert refused.code != 0 and "a newer version has migrated it" in refused.output
    assert state(migrated)["ActiveState"] == "failed" and state(migrated)["ExecMainStatus"] == "78"
    sql(migrated, f"UPDATE alembic_version SET version_num = '{NEWEST}'")


def test_migration_that_fails_ends_and_is_not_tried_again(migrated: Lab) -> None:
    sql(migrated, f"UPDATE alembic_version SET version_num = '{FORMER}'")
    refused = migrated.playbook("--tags", "restapi", "-e", json.dumps({"restapi_environment": {"ANY": "1"}}))
    assert refused.code != 0 and "could not be migrated, which the next run tries again" in refused.output
    assert "job_swaps" in refused.output
    until(migrated, "failed")
    sql(migrated, "DROP TABLE job_swaps")


def test_long_migration_is_waited_for(migrated: Lab) -> None:
    """Here one that waits for a table, as one that rewrites it would take."""
    sql(migrated, BACK)
    with held(migrated, "LOCK TABLE plugin_files", 45):
        run = migrated.converge("--tags", "restapi", "-e", json.dumps({"restapi_start_timeout_seconds": 30}))
    assert f"Migrating Dioptra's database from {FORMER} to {NEWEST}, which took" in " ".join(run.output.split())
    assert revision(migrated) == NEWEST


def test_run_that_does_not_wait_longer_leaves_the_migration_to_end(migrated: Lab) -> None:
    sql(migrated, BACK)
    with held(migrated, "LOCK TABLE plugin_files", 60):
        bounds = {"restapi_start_timeout_seconds": 30, "restapi_migration_timeout_seconds": 5}
        run = migrated.playbook("--tags", "restapi", "-e", json.dumps(bounds))
        assert run.code != 0 and "It goes on; another run waits for it" in run.output
        migrating = state(migrated)
    for _second in range(60):
        if revision(migrated) == NEWEST:
            break
        time.sleep(1)
    assert state(migrated) == migrating


def test_other_host_that_migrates_is_waited_for_within_the_bound(migrated: Lab) -> None:
    with held(migrated, f"SELECT pg_advisory_lock({LOCK})", 45):
        run = migrated.converge("--tags", "restapi", "-e", json.dumps({"restapi_start_timeout_seconds": 30}))
    assert "is being migrated by this host, which this host waits for, which took" in " ".join(run.output.split())
    with held(migrated, f"SELECT pg_advisory_lock({LOCK})", 30):
        migrated.ssh(f"sudo systemctl stop {UNIT}")
        run = migrated.playbook("--tags", "restapi", "-e", json.dumps({"restapi_migration_timeout_seconds": 5}))
        assert run.code != 0 and "has been in the hands of this host for 5 s" in run.output
        until(migrated, "failed")
