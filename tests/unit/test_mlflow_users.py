# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils.rest import Answer, HttpError, NotRunningError
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
    """By name; admins are names too."""

    admins: set[str]


@pytest.fixture
def server(monkeypatch):
    """Passwords of an MLflow server in memory."""
    passwords = Passwords(admin="administrator")
    admins = {"admin"}

    class Client:
        def __init__(self, url, _seconds, _ca_file, username, password):
            self.url, self.username = url, username
            self.is_in = passwords.get(username) == password

        def ask(self, method, path, body=None, **query):
            if "down" in passwords:
                raise NotRunningError("does not answer")
            if not self.is_in:
                return Answer(401, "")
            if path.endswith("/current"):
                return Answer(200, {"user": {"is_admin": self.username in admins}})
            if path.endswith("/get"):
                user = {"is_admin": query["username"] in admins}
                return Answer(200 if query["username"] in passwords else 404, {"user": user})
            if path.endswith("/list"):
                return Answer(200, {"users": [{"username": name} for name in passwords]})
            if path.endswith("/update-admin"):
                admins.discard(body["username"])
            else:
                passwords[body["username"]] = body["password"]
            return Answer(200, {})

        def call(self, *words, **query):
            return self.ask(*words, **query).data

    monkeypatch.setattr(mlflow_users, "Http", Client)
    passwords.admins = admins
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


def test_account_that_nobody_declared_is_told_and_stays(server):
    server.update(worker="horse-battery", restapi="correct-staple", mallory="secret-of-mallory")
    result = mlflow_users.converge(OPTIONS, check_mode=False)
    assert not result["changed"]
    assert [(stray["kind"], stray["name"]) for stray in result["undeclared"]] == [("MLflow user", "mallory")]
    assert "mallory" in server


def test_administrator_who_is_locked_out_is_told(server):
    server["admin"] = "former"
    for check_mode in (True, False):
        with pytest.raises(HttpError, match="administrator 'admin' cannot sign in with the given password"):
            mlflow_users.converge(OPTIONS, check_mode)


def test_account_without_rights_is_told(server):
    server["worker"] = "horse-battery"
    options = {**OPTIONS, "username": "worker", "password": "horse-battery", "users": []}
    with pytest.raises(HttpError, match="'worker' is no administrator"):
        mlflow_users.converge(options, check_mode=False)


def test_administrator_is_no_user(server):
    with pytest.raises(HttpError, match="user worker: it is the administrator"):
        mlflow_users.converge({**OPTIONS, "username": "worker"}, check_mode=True)


def test_check_predicts_everything_where_nothing_runs(server):
    server["down"] = ""
    assert mlflow_users.converge(OPTIONS, check_mode=True)["changes"] == ["user worker", "user restapi"]
    with pytest.raises(NotRunningError):
        mlflow_users.converge(OPTIONS, check_mode=False)
