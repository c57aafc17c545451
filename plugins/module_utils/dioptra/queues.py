# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Queues of Dioptra, which its workers listen to."""

from __future__ import annotations

from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra.client import sign_in


def converge_queues(options: dict, check_mode: bool) -> dict:
    wanted = {
        queue["name"]: {"description": queue["description"]} if queue["state"] == "present" else None
        for queue in options["queues"]
    }
    found: dict[str, dict] = {}
    ids: dict[str, int] = {}
    if api := sign_in(options, check_mode):
        group = api.group()
        for name in wanted:
            if item := api.find("/queues/", name, groupId=group):
                found[name] = {"description": item["description"] or ""}
                ids[name] = item["id"]
    changes = {name: state for name, state in wanted.items() if found.get(name) != state}
    if not check_mode:
        for name, state in changes.items():
            if state is None:
                api.call("DELETE", f"/queues/{ids[name]}")
            elif name in ids:
                api.call("PUT", f"/queues/{ids[name]}", {"name": name, **state})
            else:
                api.call("POST", "/queues/", {"group": group, "name": name, **state})
    diff = {
        "before": {f"queue {name}": found[name] for name in changes if name in found},
        "after": {f"queue {name}": state for name, state in changes.items() if state is not None},
    }
    return {"changed": bool(changes), "changes": [f"queue {name}" for name in changes], "diff": diff}
