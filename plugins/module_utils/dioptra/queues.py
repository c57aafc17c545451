# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Queues of Dioptra, which its workers listen to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ansible_collections.mlfleet.stack.plugins.module_utils.access import document
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra.client import sign_in


class Queues(document.Document):
    def __init__(self, options: dict) -> None:
        self.options = options
        self.queues = {queue["name"]: queue for queue in options["queues"]}

    def find(self) -> document.Found:
        self.api = sign_in(self.options)
        self.group = self.api.group()
        items = [self.api.find("/queues/", name, groupId=self.group) for name in self.queues]
        there = [item for item in items if item]
        self.ids = {item["name"]: item["id"] for item in there}
        states = {f"queue {item['name']}": {"description": item["description"] or ""} for item in there}
        return document.Found(states, [])  # other queues belong to their creators, as jobs do

    def compare(self, found: Mapping[str, dict]) -> Iterator[document.Change]:
        for name, queue in self.queues.items():
            want = {"description": queue["description"]} if queue["state"] == "present" else None
            yield document.Change(f"queue {name}", found.get(f"queue {name}"), want, queue)

    def apply(self, changes: list[document.Change]) -> None:
        for change in changes:
            name = change.item["name"]
            if change.want is None:
                self.api.call("DELETE", f"/queues/{self.ids[name]}")
            elif change.have is None:
                self.api.call("POST", "/queues/", {"group": self.group, "name": name, **change.want})
            else:
                self.api.call("PUT", f"/queues/{self.ids[name]}", {"name": name, **change.want})


def converge_queues(options: dict, check_mode: bool) -> document.Result:
    return document.converge(Queues(options), check_mode)
