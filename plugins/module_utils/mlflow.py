# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""MLflow's accounts, through the API of its basic-auth application."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.mlfleet.stack.plugins.module_utils.http import Http, HttpError

USERS = "/api/2.0/mlflow/users"


class Accounts:
    """The accounts as the administrator sees them; HttpError names what was refused and the mend."""

    def __init__(self, url: str, username: str, password: str, **connection: Any) -> None:
        self.url, self.connection = url, connection
        self.admin = self._signed_in(username, password)
        if self.admin.ask("GET", f"{USERS}/get", username=username).status == 401:
            raise HttpError(
                f"{url} does not let {username} in with the declared password: MLflow takes it from its configuration "
                "only when the account is made; put the former one back into the vault"
            )

    def problem(self, user: Mapping[str, str]) -> str:
        """What has to be done to the account: create, password, or nothing."""
        answer = self.admin.ask("GET", f"{USERS}/get", username=user["name"])
        if answer.status == 404:
            return "create"
        if answer.status != 200:
            raise HttpError(f"{user['name']}: {self.url} answered {answer.status}: {answer.reason}")
        own = self._signed_in(user["name"], user["password"])
        return "password" if own.ask("GET", f"{USERS}/get", username=user["name"]).status == 401 else ""

    def mend(self, user: Mapping[str, str], problem: str) -> None:
        method, action = ("POST", "create") if problem == "create" else ("PATCH", "update-password")
        self.admin.call(method, f"{USERS}/{action}", {"username": user["name"], "password": user["password"]})

    def _signed_in(self, username: str, password: str) -> Http:
        return Http(self.url, username=username, password=password, **self.connection)
