# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import NotRunningError, ServiceError
from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import Answer
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra import client, smoke_job, users
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra.queues import converge_queues
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra.users import converge_users

OPTIONS = {"url": "http://api:5000", "timeout_seconds": 5, "ca_file": None, "renew_days": 30}
ADMIN = {"name": "admin", "password": "horse-battery", "email": "admin@example.org", "renew": True, "state": "present"}
WORKER = {"name": "worker", "password": "staple", "email": "worker@example.org", "renew": True, "state": "present"}
YEAR = 365


class Server:
    """The state of a REST API: accounts, and lists of named items."""

    def __init__(self, accounts=(), **lists):
        self.accounts = {}
        self.lists = {"groups": [{"id": 1, "name": "public"}], **lists}
        self.asked = []
        self.killed_after = None  # number of changes of passwords that still succeed
        for account in accounts:
            self.register(account)

    def register(self, account):
        number = len(self.accounts) + 1
        self.accounts[account["name"]] = {"days": YEAR, "deleted": False, **account, "id": number}

    def of_id(self, number):
        return next(account for account in self.accounts.values() if account["id"] == number)

    def state(self):
        return {name: (account["password"], account["days"]) for name, account in self.accounts.items()}


class Api(client.Dioptra):
    """A client of the API, with a session that ends when its account's password changes."""

    def __init__(self, accounts=(), server=None, **lists):
        super().__init__(OPTIONS)
        self.server = server or Server(accounts, **lists)
        self.session = None

    @property
    def accounts(self):
        return self.server.accounts

    @property
    def asked(self):
        return self.server.asked

    def ask(self, method, path, body=None, **query):
        self.asked.append((method, path))
        if path == "/auth/login":
            return self.login(**body)
        if (method, path) == ("POST", "/users/"):
            return self.register(body)
        if path.startswith("/users/") and path != "/users/":
            return self.ask_about_account(method, path, body)
        if path == "/users/":
            accounts = [{**account, "username": name} for name, account in self.accounts.items()]
            return Answer(200, {"data": [a for a in accounts if not a["deleted"]], "totalNumResults": len(accounts)})
        items = self.server.lists.setdefault(path.strip("/").split("/")[0], [])
        if method == "POST":
            items.append({"id": len(items) + 1, **body})
            return Answer(200, items[-1])
        if method in ("PUT", "DELETE"):
            item = next(item for item in items if item["id"] == int(path.split("/")[2]))
            items.remove(item) if method == "DELETE" else item.update(body)
            return Answer(200, item)
        start = query.get("index", 0)
        page = items[start : start + query["pageLength"]]
        return Answer(200, {"data": page, "totalNumResults": len(items)})

    def login(self, username, password):
        account = self.accounts.get(username)
        if not account or account["password"] != password or account["days"] < 0 or account["deleted"]:
            return Answer(401, {"message": "Invalid username or password."})
        self.session = (account["id"], password)
        return Answer(200, {})

    def ask_about_account(self, method, path, body):
        mine = self.session and self.server.of_id(self.session[0])
        if not mine or mine["password"] != self.session[1]:
            return Answer(401, {"message": "signed out"})
        if path == "/users/current" and method == "DELETE":
            mine["deleted"] = True
            return Answer(200, {})
        if path == "/users/current":
            expires = datetime.now(UTC) + timedelta(days=mine["days"], seconds=10)
            return Answer(200, {"id": mine["id"], "passwordExpiresOn": expires.isoformat()})
        account = self.server.of_id(int(path.split("/")[2]))
        if account["password"] != body["oldPassword"]:
            return Answer(403, {"message": "Invalid Current Password."})
        if account["password"] == body["newPassword"]:
            return Answer(403, {"message": f"Forbidden - {users.SAME_PASSWORD}"})
        if self.server.killed_after == 0:
            raise KeyboardInterrupt
        if self.server.killed_after:
            self.server.killed_after -= 1
        account.update(password=body["newPassword"], days=YEAR)
        return Answer(200, {})

    def register(self, body):
        for key, attribute in (("username", "name"), ("email", "email")):
            if body[key] in [account[attribute] for account in self.accounts.values()]:
                detail = {"entity_attributes": {"email_address" if key == "email" else key: body[key]}}
                return Answer(409, {"message": "Conflict", "detail": detail})
        self.server.register({**body, "name": body["username"]})
        return Answer(200, {})


class Down(Api):
    def ask(self, *_args, **_keywords):
        raise NotRunningError("does not answer")


def use(monkeypatch, api):
    for module in (client, users):
        monkeypatch.setattr(module, "Dioptra", lambda _options: type(api)(server=api.server))
    return api


def test_accounts_are_registered_once(monkeypatch):
    api = use(monkeypatch, Api())
    options = {**OPTIONS, "users": [ADMIN, WORKER]}
    check = converge_users(options, check_mode=True)
    assert api.accounts == {}
    assert converge_users(options, check_mode=False) == check
    assert check["changes"] == ["user admin", "user worker"]
    assert not converge_users(options, check_mode=False)["changed"]
    assert ADMIN["password"] not in json.dumps(check)


@pytest.mark.parametrize("days", [YEAR, -1])
def test_account_that_is_to_be_absent_is_removed(monkeypatch, days):
    api = use(monkeypatch, Api([ADMIN, {**WORKER, "days": days}]))
    options = {**OPTIONS, "users": [ADMIN, {**WORKER, "state": "absent"}]}
    check = converge_users(options, check_mode=True)
    assert check["changes"] == ["user worker"] and not api.accounts["worker"]["deleted"]
    assert converge_users(options, check_mode=False)["diff"] == check["diff"]
    assert api.accounts["worker"]["deleted"] and not api.accounts["admin"]["deleted"]
    assert not converge_users(options, check_mode=False)["changed"]


def test_account_with_an_unknown_password_is_not_removed_in_silence(monkeypatch):
    use(monkeypatch, Api([ADMIN, {**WORKER, "password": "her own"}]))
    with pytest.raises(ServiceError, match="user worker: it exists, but with another password"):
        converge_users({**OPTIONS, "users": [ADMIN, {**WORKER, "state": "absent"}]}, check_mode=True)


def test_account_that_nobody_declared_is_told(monkeypatch):
    use(monkeypatch, Api([ADMIN, WORKER]))
    told = converge_users({**OPTIONS, "users": [ADMIN]}, check_mode=True)
    assert not told["changed"]
    assert told["undeclared"] == [{"kind": "Dioptra account", "name": "worker", "remove": ""}]


@pytest.mark.parametrize("check_mode", [True, False])
def test_account_with_another_password_is_an_error(monkeypatch, check_mode):
    api = Api([ADMIN, {**WORKER, "password": "former"}])
    use(monkeypatch, api)
    with pytest.raises(ServiceError, match="user worker: it exists, but with another password"):
        converge_users({**OPTIONS, "users": [ADMIN, WORKER]}, check_mode)


def test_taken_name_or_address_is_told_apart():
    assert not users.create_user(Api([ADMIN]), {**ADMIN, "password": "other"})
    with pytest.raises(ServiceError, match="user other: another account has the e-mail address admin@"):
        users.create_user(Api([ADMIN]), {**ADMIN, "name": "other"})


def aged(**days):
    return [{**account, "days": days[account["name"]]} for account in (ADMIN, WORKER) if account["name"] in days]


@pytest.mark.parametrize(
    ("days", "due"),
    [
        ({"admin": 31, "worker": 31}, []),
        ({"admin": 30, "worker": 200}, ["user admin"]),
        ({"admin": 200, "worker": 0}, ["user worker"]),
        ({"admin": 200, "worker": -1}, ["user worker"]),
        ({"admin": 3, "worker": -300}, ["user admin", "user worker"]),
        ({"admin": -1, "worker": -1}, ["user admin", "user worker"]),
    ],
)
def test_password_is_renewed_in_time_and_afterwards(monkeypatch, days, due):
    api = use(monkeypatch, Api(aged(**days)))
    options = {**OPTIONS, "users": [ADMIN, WORKER]}
    before = api.server.state()
    check = converge_users(options, check_mode=True)
    assert api.server.state() == before
    assert check["changes"] == due
    assert converge_users(options, check_mode=False)["changes"] == due
    renewed = [name for name, (_password, left) in api.server.state().items() if left == YEAR]
    assert [f"user {name}" for name in renewed if not name.startswith("mlfleet-")] == due
    assert not converge_users(options, check_mode=False)["changed"]
    for account in (ADMIN, WORKER):
        assert api.accounts[account["name"]]["password"] == account["password"] not in json.dumps(check)
    assert all(account["deleted"] for name, account in api.accounts.items() if name.startswith("mlfleet-"))


@pytest.mark.parametrize("days", [{"admin": 5, "worker": 9}, {"admin": 200, "worker": -1}, {"admin": -1, "worker": -1}])
@pytest.mark.parametrize("killed_after", [0, 1])
def test_renewal_that_was_killed_is_ended_by_the_next_run(monkeypatch, days, killed_after):
    api = use(monkeypatch, Api(aged(**days)))
    options = {**OPTIONS, "users": [ADMIN, WORKER]}
    api.server.killed_after = killed_after
    with pytest.raises(KeyboardInterrupt):
        converge_users(options, check_mode=False)
    api.server.killed_after = None
    check = converge_users(options, check_mode=True)
    assert converge_users(options, check_mode=False)["changes"] == check["changes"] != []
    assert not converge_users(options, check_mode=False)["changed"]
    assert {api.accounts[a["name"]]["password"] for a in (ADMIN, WORKER)} == {"horse-battery", "staple"}
    assert all(account["deleted"] for name, account in api.accounts.items() if name.startswith("mlfleet-"))


def test_wrong_password_of_all_leaves_no_helper(monkeypatch):
    api = use(monkeypatch, Api([{**ADMIN, "password": "former"}]))
    with pytest.raises(ServiceError, match="user admin: it exists, but with another password"):
        converge_users({**OPTIONS, "users": [ADMIN]}, check_mode=False)
    assert [account["deleted"] for name, account in api.accounts.items() if name != "admin"] == [True]


def test_password_that_is_not_ours_to_renew_is_a_warning_and_then_an_error(monkeypatch):
    ada = {**WORKER, "renew": False}
    api = use(monkeypatch, Api(aged(admin=200, worker=12)))
    result = converge_users({**OPTIONS, "users": [ADMIN, ada]}, check_mode=False)
    assert not result["changed"]
    assert result["warnings"] == ["user worker: expires in 12 days, and it is not renewed here"]
    api.accounts["worker"]["days"] = -1
    with pytest.raises(ServiceError, match="user worker: its password has expired; renew: true renews it"):
        converge_users({**OPTIONS, "users": [ADMIN, ada]}, check_mode=True)


def test_running_job_is_not_signed_out_before_the_last_day(monkeypatch):
    api = use(monkeypatch, Api(aged(admin=200, worker=1), jobs=[{"id": 1, "status": "started"}]))
    options = {**OPTIONS, "users": [ADMIN, WORKER]}
    result = converge_users(options, check_mode=False)
    assert not result["changed"] and "finds no job" in result["warnings"][0]
    api.accounts["worker"]["days"] = 0
    assert converge_users(options, check_mode=False)["changes"] == ["user worker"]


@pytest.mark.parametrize("days", [200, -1])
def test_previous_password_is_replaced(monkeypatch, days):
    api = use(monkeypatch, Api([ADMIN, {**WORKER, "password": "former", "days": days}]))
    users = [ADMIN, {**WORKER, "previous_password": "former"}]
    check = converge_users({**OPTIONS, "users": users}, check_mode=True)
    assert api.accounts["worker"]["password"] == "former"
    assert converge_users({**OPTIONS, "users": users}, check_mode=False) == check
    assert check["changes"] == ["user worker"] and "former" not in json.dumps(check)
    assert api.accounts["worker"]["password"] == "staple"
    assert not converge_users({**OPTIONS, "users": users}, check_mode=False)["changed"]


def test_password_of_a_year_is_not_renewed_each_time():
    with pytest.raises(ServiceError, match="renew_days 364: it must be from 0 to 363"):
        converge_users({**OPTIONS, "renew_days": YEAR - 1, "users": [ADMIN]}, check_mode=True)


def queue(name, description="", state="present"):
    return {"name": name, "description": description, "state": state}


def test_check_predicts_everything_where_nothing_runs(monkeypatch):
    use(monkeypatch, Down())
    users = {**OPTIONS, "users": [ADMIN]}
    assert converge_users(users, check_mode=True)["changes"] == ["user admin"]
    with pytest.raises(NotRunningError):
        converge_users(users, check_mode=False)
    queues = {**OPTIONS, "username": "a", "password": "b", "queues": [queue("q")]}
    assert converge_queues(queues, check_mode=True)["changes"] == ["queue q"]


def test_item_is_found_on_a_later_page_by_its_exact_name():
    queues = [{"id": number, "name": f"Q{number}"} for number in range(120)]
    assert Api(queues=queues).find("/queues/", "Q119")["id"] == 119
    assert Api(queues=queues).find("/queues/", "q119") is None
    assert Api().find("/queues/", "q") is None


def test_queues_are_registered_and_described(monkeypatch):
    api = use(monkeypatch, Api([ADMIN], queues=[{"id": 1, "name": "one", "description": None}]))
    account = {"username": "admin", "password": "horse-battery"}
    queues = [queue("one"), queue("two", "GPU")]
    options = {**OPTIONS, **account, "queues": queues}
    assert converge_queues(options, check_mode=True)["changes"] == ["queue two"]
    assert converge_queues(options, check_mode=False)["changes"] == ["queue two"]
    assert not converge_queues(options, check_mode=False)["changed"]
    queues[0]["description"] = "CPU"
    assert converge_queues(options, check_mode=False)["diff"] == {
        "before": {"queue one": {"description": ""}},
        "after": {"queue one": {"description": "CPU"}},
    }
    assert api.asked[-1] == ("PUT", "/queues/1")


def test_queue_that_is_to_be_absent_is_deleted(monkeypatch):
    api = use(monkeypatch, Api([ADMIN], queues=[{"id": 1, "name": "one", "description": "CPU"}]))
    options = {**OPTIONS, "username": "admin", "password": "horse-battery"}
    options["queues"] = [queue("one", state="absent"), queue("never", state="absent")]
    check = converge_queues(options, check_mode=True)
    assert api.server.lists["queues"]
    assert converge_queues(options, check_mode=False) == check
    assert check["changes"] == ["queue one"]
    assert check["diff"] == {"before": {"queue one": {"description": "CPU"}}, "after": {}}
    assert api.server.lists["queues"] == []
    assert not converge_queues(options, check_mode=False)["changed"]


def test_queues_need_an_account_that_signs_in(monkeypatch):
    use(monkeypatch, Api())
    options = {**OPTIONS, "username": "admin", "password": "x", "queues": [queue("q")]}
    assert converge_queues(options, check_mode=True)["changed"]
    with pytest.raises(ServiceError, match="user 'admin' cannot sign in"):
        converge_queues(options, check_mode=False)


def test_plugin_file_differs_by_text_and_signature():
    wanted = smoke_job.plugin_file(7)
    found = json.loads(json.dumps(wanted))
    found["tasks"]["functions"][0]["inputParams"][0]["parameterType"] = {"id": 7}
    assert not smoke_job.plugin_file_differs(found, wanted)
    assert smoke_job.plugin_file_differs({**found, "contents": "pass\n"}, wanted)
    found["tasks"]["functions"] = []
    assert smoke_job.plugin_file_differs(found, wanted)


def test_entrypoint_follows_the_plugin_and_the_queues():
    wanted = {**smoke_job.entrypoint_body("verify", [2, 1, 2]), "pluginSnapshotIds": [9]}
    assert wanted["queues"] == [1, 2]
    found = {**wanted, "queues": [{"id": 2}, {"id": 1}], "plugins": [{"snapshotId": 9}]}
    assert not smoke_job.entrypoint_differs(found, wanted)
    assert smoke_job.entrypoint_differs({**found, "queues": [{"id": 1}]}, wanted)
    assert smoke_job.entrypoint_differs({**found, "plugins": [{"snapshotId": 8}]}, wanted)


def test_task_is_python():
    compile(smoke_job.TASKS, "tasks.py", "exec")


class Service:
    """Answers each path with a prepared response."""

    def __init__(self, **answers):
        self.answers = answers

    def call(self, _method, path, **_query):
        return self.answers[path.rpartition("/")[2]]


def finished(x=7):
    return smoke_job.Job("cpu", x, id=3, submitted=0.0, status="finished", seconds=3.14159)


def told(monkeypatch, metric=7, mlflow_metric=7, content=b"7"):
    monkeypatch.setattr(smoke_job, "read_object", lambda _s3, _uri: content)
    api = Service(
        metrics=[{"name": "answer", "value": metric}],
        mlflowRun={"mlflowRunId": "6d67cfab-046a-4a55-a0d5-6dc35bfb2327"},
    )
    data = {"metrics": [{"key": "answer", "value": mlflow_metric}]}
    mlflow = Service(get={"run": {"info": {"artifact_uri": "s3://bucket/0/run/artifacts"}, "data": data}})
    job = finished()
    return job, smoke_job.check(api, mlflow, None, job, 300)


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
    assert "no worker answered within 300 s" in smoke_job.check(Service(), Service(), None, job, 300)


def test_failed_job_shows_its_log():
    job = finished()
    job.status = "failed"
    log = {"totalNumResults": 1, "data": [{"severity": "ERROR", "message": "x &lt; y"}]}
    assert smoke_job.check(Service(log=log), Service(), None, job, 300).endswith("ERROR: x < y")
