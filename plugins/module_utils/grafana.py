# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The administrator of Grafana.

Grafana reads its password from the settings at the first start only. Later its API changes the password for those who
know the former one. Its own command, which only the host's root and its user may run, needs none. A few wrong
passwords, which any client can send, lock an account for some minutes; the right one is then refused like a wrong one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.mlfleet.stack.plugins.module_utils import commands
from ansible_collections.mlfleet.stack.plugins.module_utils.access import document
from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import NotRunningError, ServiceError
from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import Answer, signed_in
from ansible_collections.mlfleet.stack.plugins.module_utils.access.strays import stray

REFUSED, NOT_TLS = 401, 400
PAGE = 1000


class Administrator(document.Document):
    def __init__(self, options: Mapping[str, Any], check_mode: bool) -> None:
        self.options, self.check_mode = options, check_mode
        self.http = signed_in(options)
        self.warnings: list[str] = []

    def find(self) -> document.Found:
        answer = self._account()
        if answer.status == REFUSED:
            return document.Found({self.name: {"password": document.ANOTHER}}, [])
        if answer.status != 200:
            raise ServiceError(f"{self.http.url} refuses {self.options['username']}: {answer.status} {answer.reason}")
        others = [user["login"] for user in self._users() if user["isAdmin"] and user["login"] != answer.data["login"]]
        undeclared = [stray("Grafana administrator", login) for login in others]
        return document.Found({self.name: {"password": document.AS_DECLARED}}, undeclared)

    @property
    def name(self) -> str:
        return f"account {self.options['username']}"

    def compare(self, found: Mapping[str, document.State]) -> Iterator[document.Change]:
        yield document.Change(self.name, found.get(self.name), {"password": document.AS_DECLARED}, {})

    def apply(self, changes: list[document.Change]) -> None:
        self._reset_password()
        if self._account().status == REFUSED:
            name = self.options["username"]
            self.warnings.append(
                f"{self.http.url} still refuses {name}, whose password was set: Grafana locks an account for five "
                f"minutes after five wrong passwords, and who was signed in stays so; if this comes again later, "
                f"rename its first account to {name}"
            )
            return
        # Of those who signed in with the former password. Basic authentication has no session, so that none is its own.
        for session in self.http.call("GET", "/api/user/auth-tokens"):
            self.http.call("POST", "/api/user/revoke-auth-token", {"authTokenId": session["id"]})

    def _account(self) -> Answer:
        """Return Grafana's answer about the account; a check may meet it before its TLS is switched."""
        try:
            answer = self.http.ask("GET", "/api/user")
            is_other = answer.status == NOT_TLS
        except NotRunningError:
            if not self.check_mode:
                raise
            is_other = True
        if is_other and self.check_mode:
            scheme, _colon, rest = self.options["url"].partition(":")
            self.http = signed_in({**self.options, "url": f"{'http' if scheme == 'https' else 'https'}:{rest}"})
            answer = self.http.ask("GET", "/api/user")
        return answer

    def _users(self) -> Iterator[dict[str, Any]]:
        for page in range(1, PAGE):
            found = self.http.call("GET", "/api/users", perpage=PAGE, page=page)
            yield from found
            if len(found) < PAGE:
                return

    def _reset_password(self) -> None:
        words = [*self.options["command"], "admin", "reset-admin-password", "--password-from-stdin"]
        try:
            done = commands.run(words, input=f"{self.options['password']}\n")
        except OSError as error:
            raise ServiceError(f"grafana cli: {error}") from error
        if done.returncode:
            told = " ".join((done.stderr or done.stdout).split())[:500]
            raise ServiceError(f"grafana cli admin reset-admin-password: {told}")


def converge(options: dict[str, Any], check_mode: bool) -> document.Result:
    return document.converge(Administrator(options, check_mode), check_mode)
