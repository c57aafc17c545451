# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Dioptra's REST API, and how to sign in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import NotRunningError, ServiceError
from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import Http

PAGE_LENGTH = 50
GROUP = "public"  # made with the first account; the API makes no others


class Dioptra(Http):
    """The REST API under at most one account."""

    def __init__(self, options: dict) -> None:
        secret = options.get("deployment_secret")
        super().__init__(
            f"{options['url'].rstrip('/')}/api/v1",
            options["timeout_seconds"],
            options["ca_file"],
            headers={"X-Mlfleet-Deployment": secret} if secret else {},
        )

    def signs_in(self, username: str, password: str) -> bool:
        """Sign in with this account, which is used from then on; return whether the API accepts it."""
        answer = self.ask("POST", "/auth/login", {"username": username, "password": password})
        if answer.status not in (200, 401):
            raise ServiceError(f"{self.url}: signing in as {username!r} answered {answer.status}: {answer.reason}")
        return answer.status == 200

    def pages(self, path: str, **query: Any) -> Iterator[dict]:
        """Yield all items of a list."""
        index = 0
        while True:
            page = self.call("GET", path, index=index, pageLength=PAGE_LENGTH, **query)
            yield from page["data"]
            index += PAGE_LENGTH
            if index >= page["totalNumResults"]:
                return

    def find(self, path: str, name: str, field: str = "name", **query: Any) -> dict | None:
        """Return the item with exactly this name; the search itself may find more, such as names in another case."""
        items = self.pages(path, search=f'{field}:"{name}"', **query)
        return next((item for item in items if item[field] == name), None)

    def has_running_jobs(self) -> bool:
        return self.call("GET", "/jobs/", search='status:"started"', pageLength=1)["totalNumResults"] > 0

    def group(self) -> int:
        found = self.find("/groups/", GROUP)
        if found is None:
            raise ServiceError(f"{self.url}: the group {GROUP} is not visible to this account")
        return found["id"]


def sign_in(options: dict) -> Dioptra:
    """Return the API, signed in with the module's account.

    Raises:
        NotRunningError: the API or the account does not exist yet; check mode creates no account in earlier tasks.
    """
    api = Dioptra(options)
    if not api.signs_in(options["username"], options["password"]):
        raise NotRunningError(f"{api.url}: user {options['username']!r} cannot sign in with the given password")
    return api
