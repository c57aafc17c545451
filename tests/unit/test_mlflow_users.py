# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import NotRunningError, ServiceError
from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import Answer
from ansible_collections.mlfleet.stack.plugins.modules import mlflow_users

OPTIONS = {
    "url": "http://mlflow:5001",
    "username": "admin",
    "password": "administrator",
    "ca_file": None,
    "timeout_seconds": 5,
    "users": [{"name": "worker", "password": "horse-battery"}, {"name": "restapi", "password": "correct-staple"}],
}


class Passwords(dict):
    """Passwords by name, with the names of admins, and grants: permissions by name, type and identifier."""

    admins: set[str]
    grants: dict[tuple[str, str, str], str]
    experiments: dict[str, str]
    models: set[str]


@pytest.fixture
def server(monkeypatch):
    """The passwords of an MLflow server in memory."""
    passwords = Passwords(admin="administrator")
    admins = {"admin"}

    def listed(name):
        rows = [
            {"resource_type": kind, "resource_pattern": pattern, "permission": given}
            for (user, kind, pattern), given in passwords.grants.items()
            if user == name
        ]
        of_a_role = {"resource_type": "experiment", "resource_pattern": "1", "permission": "MANAGE"}
        roles = [{"name": "__user_7__", "permissions": rows}, {"name": "staff", "permissions": [of_a_role]}]
        return {"username": name, "is_admin": name in admins, "roles": roles}

    class Client:
        def __init__(self, url, _seconds, _ca_file, username, password):
            self.url, self.username = url, username
            self.is_in = passwords.get(username) == password

        def ask(self, method, path, body=None, **query):
            if "down" in passwords:
                raise NotRunningError("does not answer")
            if not self.is_in:
                return Answer(401, "")
            if path.endswith(("/grant", "/revoke")):
                key = (body["username"], body["resource_type"], body["resource_id"])
                assert (key in passwords.grants) == path.endswith("/revoke"), "MLflow refuses it"
                passwords.grants.pop(key, None)
                if path.endswith("/grant"):
                    passwords.grants[key] = body["permission"]
                return Answer(200, {})
            if path.endswith("/experiments/get-by-name"):
                number = passwords.experiments.get(query["experiment_name"])
                return Answer(200 if number else 404, {"experiment": {"experiment_id": number}})
            if path.endswith("/experiments/create"):
                number = passwords.experiments[body["name"]] = str(len(passwords.experiments) + 1)
                return Answer(200, {"experiment_id": number})
            if path.endswith("/registered-models/get"):
                return Answer(200 if query["name"] in passwords.models else 404, {})
            if path.endswith("/registered-models/create"):
                passwords.models.add(body["name"])
                return Answer(200, {"registered_model": {"name": body["name"]}})
            if path.endswith("/current"):
                return Answer(200, {"user": {"is_admin": self.username in admins}})
            if path.endswith("/list"):
                return Answer(200, {"users": [listed(name) for name in passwords]})
            if path.endswith("/update-admin"):
                (admins.add if body["is_admin"] else admins.discard)(body["username"])
            else:
                passwords[body["username"]] = body["password"]
            return Answer(200, {})

        def call(self, *words, **query):
            return self.ask(*words, **query).data

    monkeypatch.setattr(mlflow_users, "Http", Client)
    passwords.admins, passwords.grants, passwords.experiments, passwords.models = admins, {}, {}, set()
    return passwords


def test_accounts_are_created_once(server):
    check = mlflow_users.converge(OPTIONS, check_mode=True)
    assert list(server) == ["admin"]
    assert mlflow_users.converge(OPTIONS, check_mode=False) == check
    assert check["changes"] == ["user worker", "user restapi"]
    assert server["worker"] == "horse-battery"
    assert not mlflow_users.converge(OPTIONS, check_mode=False)["changed"]


def test_other_password_is_set(server):
    server.update(worker="former", restapi="correct-staple")
    result = mlflow_users.converge(OPTIONS, check_mode=False)
    assert result["diff"] == {
        "before": {"user worker": {"password": "another one", "is_admin": False}},
        "after": {"user worker": {"password": "as declared", "is_admin": False}},
    }
    assert server["worker"] == "horse-battery"


def test_nobody_stays_an_administrator_who_is_not_declared_as_one(server):
    server.update(worker="horse-battery", restapi="correct-staple")
    server.admins.add("worker")
    assert mlflow_users.converge(OPTIONS, check_mode=False)["changes"] == ["user worker"]
    assert server.admins == {"admin"}
    assert not mlflow_users.converge(OPTIONS, check_mode=True)["changed"]


ADA = {"name": "ada", "password": "of-the-engine", "experiments": {"irises": "READ"}, "models": {"iris": "USE"}}


def test_permissions_are_given_once_and_what_they_are_for_is_made(server):
    options = {**OPTIONS, "users": [ADA]}
    check = mlflow_users.converge(options, check_mode=True)
    assert not server.experiments and not server.models
    assert mlflow_users.converge(options, check_mode=False) == check
    assert server.grants == {("ada", "experiment", "1"): "READ", ("ada", "registered_model", "iris"): "USE"}
    assert not mlflow_users.converge(options, check_mode=False)["changed"]


def test_permission_that_differs_is_replaced_and_others_stay(server):
    server.update(ada="of-the-engine")
    server.experiments.update(irises="1", hers="2")
    server.models.add("iris")
    server.grants.update({("ada", "experiment", "1"): "MANAGE", ("ada", "experiment", "2"): "MANAGE"})
    server.grants["ada", "registered_model", "iris"] = "USE"
    result = mlflow_users.converge({**OPTIONS, "users": [ADA]}, check_mode=False)
    assert result["diff"]["before"]["user ada"]["experiments"] == {"irises": "MANAGE"}
    assert server.grants["ada", "experiment", "1"] == "READ"
    assert server.grants["ada", "experiment", "2"] == "MANAGE"


def test_administrator_beside_the_first_is_declared(server):
    options = {**OPTIONS, "users": [{"name": "ada", "password": "of-the-engine", "is_admin": True}]}
    assert mlflow_users.converge(options, check_mode=False)["changed"]
    assert "ada" in server.admins
    assert not mlflow_users.converge(options, check_mode=False)["changed"]


def test_permission_that_is_none_is_refused_before_anything_changes(server):
    options = {**OPTIONS, "users": [ADA | {"experiments": {"irises": "WRITE"}}]}
    with pytest.raises(ServiceError, match="user ada: experiments: irises: give one of READ, USE"):
        mlflow_users.converge(options, check_mode=False)
    assert list(server) == ["admin"]


def test_account_that_nobody_declared_is_told_and_stays(server):
    server.update(worker="horse-battery", restapi="correct-staple", mallory="secret-of-mallory")
    result = mlflow_users.converge(OPTIONS, check_mode=False)
    assert not result["changed"]
    assert [(stray["kind"], stray["name"]) for stray in result["undeclared"]] == [("MLflow user", "mallory")]
    assert "mallory" in server


def test_administrator_who_is_locked_out_is_told(server):
    server["admin"] = "former"
    for check_mode in (True, False):
        with pytest.raises(ServiceError, match="administrator 'admin' cannot sign in with the given password"):
            mlflow_users.converge(OPTIONS, check_mode)


def test_account_without_rights_is_told(server):
    server["worker"] = "horse-battery"
    options = {**OPTIONS, "username": "worker", "password": "horse-battery", "users": []}
    with pytest.raises(ServiceError, match="'worker' is no administrator"):
        mlflow_users.converge(options, check_mode=False)


def test_administrator_is_no_user(server):
    with pytest.raises(ServiceError, match="user worker: it is the administrator"):
        mlflow_users.converge({**OPTIONS, "username": "worker"}, check_mode=True)


def test_check_predicts_everything_where_nothing_runs(server):
    server["down"] = ""
    assert mlflow_users.converge(OPTIONS, check_mode=True)["changes"] == ["user worker", "user restapi"]
    with pytest.raises(NotRunningError):
        mlflow_users.converge(OPTIONS, check_mode=False)
