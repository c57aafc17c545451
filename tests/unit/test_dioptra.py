# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils import dioptra
from ansible_collections.mlfleet.stack.plugins.module_utils.rest import Answer, HttpError, NotRunningError

OPTIONS = {"url": "http://api:5000", "timeout_seconds": 5, "ca_file": None}
ADMIN = {"name": "admin", "password": "horse-battery", "email": "admin@example.org"}
WORKER = {"name": "worker", "password": "staple", "email": "worker@example.org"}


class Api(dioptra.Dioptra):
    """The REST API in memory: accounts, and lists of named items."""

    def __init__(self, accounts=(), **lists):
        super().__init__(OPTIONS)
        self.accounts = {account["name"]: account for account in accounts}
        self.lists = {"groups": [{"id": 1, "name": "public"}], **lists}
        self.asked = []

    def ask(self, method, path, body=None, **query):
        self.asked.append((method, path))
        if path == "/auth/login":
            account = self.accounts.get(body["username"])
            return Answer(200 if account and account["password"] == body["password"] else 401, {})
        if (method, path) == ("POST", "/users/"):
            return self.register(body)
        items = self.lists.setdefault(path.strip("/").split("/")[0], [])
        if method == "POST":
            items.append({"id": len(items) + 1, **body})
            return Answer(200, items[-1])
        if method == "PUT":
            item = next(item for item in items if item["id"] == int(path.split("/")[2]))
            item.update(body)
            return Answer(200, item)
        page = items[query["index"] : query["index"] + query["pageLength"]]
        return Answer(200, {"data": page, "totalNumResults": len(items)})

    def register(self, body):
        for key, attribute in (("username", "name"), ("email", "email")):
            if body[key] in [account[attribute] for account in self.accounts.values()]:
                detail = {"entity_attributes": {"email_address" if key == "email" else key: body[key]}}
                return Answer(409, {"message": "Conflict", "detail": detail})
        self.accounts[body["username"]] = {**body, "name": body["username"]}
        self.lists.setdefault("users", []).append({"username": body["username"], "id": len(self.accounts)})
        return Answer(200, {})


class Down(Api):
    def ask(self, *_args, **_keywords):
        raise NotRunningError("does not answer")


def use(monkeypatch, api):
    monkeypatch.setattr(dioptra, "Dioptra", lambda _options: api)
    return api


def test_accounts_are_registered_once(monkeypatch):
    api = use(monkeypatch, Api())
    options = {**OPTIONS, "users": [ADMIN, WORKER]}
    check = dioptra.converge_users(options, check_mode=True)
    assert api.accounts == {}
    assert dioptra.converge_users(options, check_mode=False) == check
    assert check["changes"] == ["user admin", "user worker"]
    assert not dioptra.converge_users(options, check_mode=False)["changed"]
    assert ADMIN["password"] not in json.dumps(check)


@pytest.mark.parametrize("check_mode", [True, False])
def test_account_with_another_password_is_an_error(monkeypatch, check_mode):
    api = Api([ADMIN, {**WORKER, "password": "former"}], users=[{"username": "worker", "id": 2}])
    use(monkeypatch, api)
    with pytest.raises(HttpError, match="user worker: it exists, but not with the declared password"):
        dioptra.converge_users({**OPTIONS, "users": [ADMIN, WORKER]}, check_mode)


def test_taken_name_or_address_is_told_apart():
    with pytest.raises(HttpError, match="user admin: it exists"):
        dioptra.create_user(Api([ADMIN]), {**ADMIN, "password": "other"})
    with pytest.raises(HttpError, match="user other: another account has the e-mail address admin@"):
        dioptra.create_user(Api([ADMIN]), {**ADMIN, "name": "other"})


def test_check_predicts_everything_where_nothing_runs(monkeypatch):
    use(monkeypatch, Down())
    users = {**OPTIONS, "users": [ADMIN]}
    assert dioptra.converge_users(users, check_mode=True)["changes"] == ["user admin"]
    with pytest.raises(NotRunningError):
        dioptra.converge_users(users, check_mode=False)
    queues = {**OPTIONS, "username": "a", "password": "b", "queues": [{"name": "q", "description": ""}]}
    assert dioptra.converge_queues(queues, check_mode=True)["changes"] == ["queue q"]


def test_item_is_found_on_a_later_page_by_its_exact_name():
    queues = [{"id": number, "name": f"Q{number}"} for number in range(120)]
    assert Api(queues=queues).find("/queues/", "Q119")["id"] == 119
    assert Api(queues=queues).find("/queues/", "q119") is None
    assert Api().find("/queues/", "q") is None


def test_queues_are_registered_and_described(monkeypatch):
    api = use(monkeypatch, Api([ADMIN], queues=[{"id": 1, "name": "one", "description": None}]))
    account = {"username": "admin", "password": "horse-battery"}
    queues = [{"name": "one", "description": ""}, {"name": "two", "description": "GPU"}]
    options = {**OPTIONS, **account, "queues": queues}
    assert dioptra.converge_queues(options, check_mode=True)["changes"] == ["queue two"]
    assert dioptra.converge_queues(options, check_mode=False)["changes"] == ["queue two"]
    assert not dioptra.converge_queues(options, check_mode=False)["changed"]
    queues[0]["description"] = "CPU"
    assert dioptra.converge_queues(options, check_mode=False)["diff"] == {
        "before": {"queue one": {"description": ""}},
        "after": {"queue one": {"description": "CPU"}},
    }
    assert api.asked[-1] == ("PUT", "/queues/1")


def test_queues_need_an_account_that_signs_in(monkeypatch):
    use(monkeypatch, Api())
    options = {**OPTIONS, "username": "admin", "password": "x", "queues": [{"name": "q", "description": ""}]}
    assert dioptra.converge_queues(options, check_mode=True)["changed"]
    with pytest.raises(HttpError, match="user 'admin' cannot sign in"):
        dioptra.converge_queues(options, check_mode=False)


def test_plugin_file_differs_by_text_and_signature():
    wanted = dioptra.plugin_file(7)
    found = json.loads(json.dumps(wanted))
    found["tasks"]["functions"][0]["inputParams"][0]["parameterType"] = {"id": 7}
    assert not dioptra.plugin_file_differs(found, wanted)
    assert dioptra.plugin_file_differs({**found, "contents": "pass\n"}, wanted)
    found["tasks"]["functions"] = []
    assert dioptra.plugin_file_differs(found, wanted)


def test_entrypoint_follows_the_plugin_and_the_queues():
    wanted = {**dioptra.entrypoint_body("verify", [2, 1, 2]), "pluginSnapshotIds": [9]}
    assert wanted["queues"] == [1, 2]
    found = {**wanted, "queues": [{"id": 2}, {"id": 1}], "plugins": [{"snapshotId": 9}]}
    assert not dioptra.entrypoint_differs(found, wanted)
    assert dioptra.entrypoint_differs({**found, "queues": [{"id": 1}]}, wanted)
    assert dioptra.entrypoint_differs({**found, "plugins": [{"snapshotId": 8}]}, wanted)


def test_task_is_python():
    compile(dioptra.TASKS, "tasks.py", "exec")


class Service:
    """Answers each path with what was prepared for it."""

    def __init__(self, **answers):
        self.answers = answers

    def call(self, _method, path, **_query):
        return self.answers[path.rpartition("/")[2]]


def finished(x=7):
    return dioptra.Job("cpu", x, id=3, submitted=0.0, status="finished", seconds=3.14159)


def told(monkeypatch, metric=7, mlflow_metric=7, content=b"7"):
    monkeypatch.setattr(dioptra, "read_object", lambda _s3, _uri: content)
    api = Service(
        metrics=[{"name": "answer", "value": metric}],
        mlflowRun={"mlflowRunId": "6d67cfab-046a-4a55-a0d5-6dc35bfb2327"},
    )
    data = {"metrics": [{"key": "answer", "value": mlflow_metric}]}
    mlflow = Service(get={"run": {"info": {"artifact_uri": "s3://bucket/0/run/artifacts"}, "data": data}})
    job = finished()
    return job, dioptra.check(api, mlflow, None, job, 300)


def test_job_that_left_everything_behind_is_right(monkeypatch):
    job, wrong = told(monkeypatch)
    assert wrong == ""
    assert job.result() == {
        "queue": "cpu",
        "id": 3,
        "status": "finished",
        "seconds": 3.1,
        "run_id": "6d67cfab046a4a55a0d56dc35bfb2327",
        "answer": 7,
        "artifact": "s3://bucket/0/run/artifacts/answer.txt",
    }


@pytest.mark.parametrize(
    ("keywords", "where"),
    [
        ({"metric": 8}, "Dioptra has"),
        ({"mlflow_metric": 8}, "MLflow has"),
        ({"content": b""}, "artifacts/answer.txt holds"),
    ],
)
def test_what_is_missing_is_named(monkeypatch, keywords, where):
    assert where in told(monkeypatch, **keywords)[1]


def test_job_that_nobody_took_names_the_bound():
    job = finished()
    job.status = "queued"
    assert "no worker answered within 300 s" in dioptra.check(Service(), Service(), None, job, 300)


def test_failed_job_shows_its_log():
    job = finished()
    job.status = "failed"
    log = {"totalNumResults": 1, "data": [{"severity": "ERROR", "message": "x &lt; y"}]}
    assert dioptra.check(Service(log=log), Service(), None, job, 300).endswith("ERROR: x < y")
