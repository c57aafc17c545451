# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""MLflow's accounts, through the API of its basic-auth application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.mlfleet.stack.plugins.module_utils.http import Client

USERS = "/api/2.0/mlflow/users"


class MlflowError(Exception):
    """MLflow refused; the text names the account and the mend."""


class Accounts:
    """The accounts as the administrator sees them."""

    def __init__(self, url: str, username: str, password: str, **connection: Any) -> None:
        self.url, self.connection = url, connection
        self.admin = Client(url, **connection).sign_in_with(username, password)
        status, _answer = self.admin.request("GET", f"{USERS}/get", username=username)
        if status == 401:
            raise MlflowError(
                f"{url} does not let {username} in with the declared password: MLflow takes it from its configuration "
                "only when the account is made; put the former one back into the vault"
            )
        self._expect(status == 200, f"{url} answers {status} to the administrator {username}")

    def problem(self, user: Mapping[str, str]) -> str:
        """What has to be done to the account: create, password, or nothing."""
        status, answer = self.admin.request("GET", f"{USERS}/get", username=user["name"])
        if status == 404:
            return "create"
        self._expect(status == 200, f"{user['name']}: MLflow answers {status}: {answer}")
        own = Client(self.url, **self.connection).sign_in_with(user["name"], user["password"])
        status, _answer = own.request("GET", f"{USERS}/get", username=user["name"])
        return "password" if status == 401 else ""

    def mend(self, user: Mapping[str, str], problem: str) -> None:
        method, action = ("POST", "create") if problem == "create" else ("PATCH", "update-password")
        account = {"username": user["name"], "password": user["password"]}
        status, answer = self.admin.request(method, f"{USERS}/{action}", account)
        reason = answer.get("message", answer) if isinstance(answer, dict) else answer
        self._expect(status == 200, f"{user['name']}: MLflow refuses to {action}: {reason}")

    @staticmethod
    def _expect(holds: bool, message: str) -> None:
        if not holds:
            raise MlflowError(message)
