"""MLflow keeps runs in PostgreSQL for those who sign in, and runs no jobs of its own."""

import time
import uuid
from urllib.parse import urljoin

import pytest
import requests

PORT = 5001
USERS = {"admin": "mlflow_admin", "restapi": "mlflow_restapi", "worker": "mlflow_worker"}
SEARCH = "experiments/search?max_results=1"


@pytest.fixture
def ask(forward, secret):
    """Send a request to MLflow's API as one of the users, or without an account; with data, as POST."""

    def request(path, user=None, password=None, data=None, method=None, **headers):
        url = urljoin(f"http://127.0.0.1:{forward(PORT)}/api/2.0/mlflow/", path)
        account = (user, password or secret(USERS[user])) if user else None
        return requests.request(method or ("POST" if data else "GET"), url, auth=account, json=data, headers=headers)

    return request


@pytest.fixture
def run(ask):
    """A run with a metric, created like a worker's."""
    name = f"molecule-{uuid.uuid4()}"
    experiment = ask("experiments/create", "worker", data={"name": name}).json()["experiment_id"]
    made = ask("runs/create", "worker", data={"experiment_id": experiment, "start_time": 1}).json()["run"]
    metric = {"run_id": made["info"]["run_id"], "key": "answer", "value": 42, "timestamp": int(time.time() * 1000)}
    assert ask("runs/log-metric", "worker", data=metric).status_code == 200
    yield made["info"]
    ask("experiments/delete", "admin", data={"experiment_id": experiment})


def test_anonymous_is_refused(ask):
    assert ask(SEARCH).status_code == 401


@pytest.mark.parametrize("user", USERS)
def test_declared_user_signs_in(ask, user):
    assert ask(SEARCH, user).status_code == 200


@pytest.mark.parametrize("user", [*USERS, "nobody"])
def test_wrong_password_is_refused(ask, user):
    assert ask(SEARCH, user, "wrong").status_code == 401


@pytest.fixture
def account(ask):
    """An account of this test's own, by name and password."""
    name, password = f"molecule-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    assert ask("users/create", "admin", data={"username": name, "password": password}).status_code == 200
    yield name, password
    ask("users/delete", "admin", data={"username": name}, method="DELETE")


def test_former_password_is_refused_after_some_seconds(host, ask, account):
    name, former = account
    # Each server process has compared the password, and remembers the result.
    assert {ask(SEARCH, name, former).status_code for _again in range(20)} == {200}
    change = {"username": name, "password": uuid.uuid4().hex}
    assert ask("users/update-password", "admin", data=change, method="PATCH").status_code == 200
    seconds = int(host.check_output("sed -n 's/^auth_cache_ttl_seconds = //p' /etc/mlfleet/mlflow/basic_auth.ini"))
    assert 0 < seconds < 60
    time.sleep(seconds + 1)
    assert {ask(SEARCH, name, former).status_code for _again in range(20)} == {401}
    assert ask(SEARCH, name, change["password"]).status_code == 200


def test_default_password_is_not_left(ask):
    assert ask(SEARCH, "admin", "password1234").status_code == 401


def test_foreign_host_name_is_refused(ask):
    assert ask(SEARCH, "admin", Host="foreign.example.com").status_code == 403


def test_metric_of_a_run_is_read_back(ask, run):
    data = ask(f"runs/get?run_id={run['run_id']}", "restapi").json()["run"]["data"]
    assert [(metric["key"], metric["value"]) for metric in data["metrics"]] == [("answer", 42)]


def test_run_is_in_the_database(run, sql):
    assert sql("mlflow-tracking", f"SELECT key, value FROM metrics WHERE run_uuid = '{run['run_id']}'") == "answer|42"


def test_artifacts_go_to_the_object_storage(run):
    assert run["artifact_uri"].startswith("s3://mlflow-tracking/artifacts/")


def test_job_execution_is_off(host):
    processes = host.check_output("ps -u mlflow -o args=")
    assert "uvicorn" in processes
    assert "huey" not in processes and "_job_runner" not in processes


def test_only_the_loopback_listens(listens_on):
    assert listens_on(PORT) == {"127.0.0.1"}


@pytest.fixture
def ada(ask, secret):
    """Send a request as the account that only this scenario declares."""
    return lambda path, **data: ask(path, "ada", secret("drift"), data=data or None)


def number(ask, name):
    return ask(f"experiments/get-by-name?experiment_name={name}", "admin").json()["experiment"]["experiment_id"]


def test_extra_user_is_let_in_as_declared(ask, ada):
    assert ada(f"experiments/get?experiment_id={number(ask, 'closed')}").status_code == 403
    assert ask(f"experiments/get?experiment_id={number(ask, 'closed')}", "worker").status_code == 200
    change = {"experiment_id": number(ask, "hers")}
    assert ask("experiments/delete", "worker", data=change).status_code == 403
    assert ada("experiments/delete", **change).status_code == 200
    assert ask("experiments/restore", "admin", data=change).status_code == 200
    assert ada("registered-models/get?name=hers").status_code == 200


def test_job_changes_nothing_of_another_account(ask):
    name = f"molecule-{uuid.uuid4()}"
    experiment = ask("experiments/create", "admin", data={"name": name}).json()["experiment_id"]
    made = ask("runs/create", "admin", data={"experiment_id": experiment, "start_time": 1}).json()["run"]["info"]
    metric = {"run_id": made["run_id"], "key": "answer", "value": 42, "timestamp": 1}
    assert ask("runs/log-metric", "admin", data=metric).status_code == 200
    assert ask("registered-models/create", "admin", data={"name": name}).status_code == 200
    refused = {
        "runs/log-metric": metric | {"value": 0},
        "runs/set-tag": {"run_id": made["run_id"], "key": "k", "value": "v"},
        "runs/update": {"run_id": made["run_id"], "status": "FAILED"},
        "runs/delete": {"run_id": made["run_id"]},
        "runs/create": {"experiment_id": experiment, "start_time": 1},
        "experiments/update": {"experiment_id": experiment, "new_name": "mine"},
        "registered-models/rename": {"name": name, "new_name": "mine"},
        "model-versions/create": {"name": name, "source": made["artifact_uri"], "run_id": made["run_id"]},
    }
    for user in ("worker", "restapi"):
        assert {path: ask(path, user, data=data).status_code for path, data in refused.items()} == dict.fromkeys(
            refused, 403
        )
        read = ask(f"runs/get?run_id={made['run_id']}", user).json()["run"]
        assert read["data"]["metrics"][0]["value"] == 42 and read["info"]["status"] == "RUNNING"
    ask("experiments/delete", "admin", data={"experiment_id": experiment})


def test_job_logs_registers_and_reads(ask):
    """Like Dioptra's jobs: a run in the experiment that MLflow creates itself."""
    made = ask("runs/create", "worker", data={"experiment_id": "0", "start_time": 1}).json()["run"]["info"]
    metric = {"run_id": made["run_id"], "key": "answer", "value": 42, "timestamp": 1}
    assert ask("runs/log-metric", "worker", data=metric).status_code == 200
    model = {"name": f"molecule-{uuid.uuid4()}"}
    assert ask("registered-models/create", "worker", data=model).status_code == 200
    version = model | {"source": made["artifact_uri"], "run_id": made["run_id"]}
    assert ask("model-versions/create", "worker", data=version).status_code == 200
    assert ask(f"registered-models/get?name={model['name']}", "restapi").status_code == 200
    assert ask("runs/log-metric", "restapi", data=metric).status_code == 403
    assert ask("runs/update", "worker", data={"run_id": made["run_id"], "status": "FINISHED"}).status_code == 200
    assert ask("registered-models/rename", "restapi", data=model | {"new_name": "mine"}).status_code == 403


def test_extra_user_whose_permission_was_changed_by_hand_gets_it_back(ask, ada, play):
    about = {"username": "ada", "resource_type": "experiment", "resource_id": number(ask, "closed")}
    for step, body in (("revoke", about), ("grant", about | {"permission": "MANAGE"})):
        assert ask(f"../../3.0/mlflow/users/permissions/{step}", "admin", data=body).status_code == 200
    assert ada(f"experiments/get?experiment_id={number(ask, 'closed')}").status_code == 200
    assert play("--check", "--tags", "mlflow_provision")["changed"] == 1
    assert play("--tags", "mlflow_provision")["changed"] == 1
    assert play("--check", "--tags", "mlflow_provision")["changed"] == 0
    assert ada(f"experiments/get?experiment_id={number(ask, 'closed')}").status_code == 403
