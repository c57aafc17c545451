#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: nginx_server
short_description: Drain a server in nginx, or send it requests again
description:
  - Marks servers of upstreams as C(down) in nginx's configuration, or removes the mark, and reloads nginx, which
    interrupts no request. Idle connections are closed; a client that sends a request on one at that moment repeats it,
    as HTTP specifies.
  - The last server of an upstream is left in use, since a slow answer is better than none. It is marked with
    C(max_fails=0) meanwhile, because otherwise nginx would use no server for some seconds after a failure.
  - It is drained after all if a killed run has left the marks of others, and one of these accepts connections again.
  - A server that no upstream names, such as a new one, gets no requests anyway; neither does any server while nginx is
    stopped.
  - The role C(nginx) writes the configuration without such marks, so marks left by a killed run do not last.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  servers:
    description: Address and port of each server, as upstreams name them.
    type: list
    elements: str
    required: true
  state:
    description: Whether nginx sends it requests.
    type: str
    choices: [drained, in_use]
    required: true
  drain_seconds:
    description: Time for pending requests to finish after nginx sends no new ones.
    type: int
    default: 5
  path:
    description: Configuration with the upstreams; nothing is done if it does not exist yet.
    type: path
    default: /etc/nginx/nginx.conf
attributes:
  check_mode:
    description: Predicts from the current configuration.
    support: full
  diff_mode:
    description: Shows the changed lines.
    support: full
"""

EXAMPLES = r"""
- name: Drain this host in nginx
  mlfleet.stack.nginx_server:
    servers: ["{{ topology_address }}:5000"]
    state: drained
  delegate_to: edge1
"""

RETURN = r"""
drained:
  description: Servers of O(servers) that are drained afterwards.
  returned: success
  type: list
  elements: str
"""

import re
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils import files
from ansible_collections.mlfleet.stack.plugins.module_utils.host_lock import hold
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.systemd import UnitError, command, units

UPSTREAM = re.compile(r"upstream\s+\S+\s*\{[^}]*\}")
DOWN = " down"
LAST = " max_fails=0"  # the last of a server's options takes precedence
CONNECT_SECONDS = 3
SERVER = re.compile(rf"^(?P<head>\s*server\s+(?P<name>[^\s;]+)[^;]*?)(?P<mark>{DOWN}|{LAST})?;", re.MULTILINE)


def marked(text: str, servers: list[str], is_drained: bool, accepts: Callable[[str], bool]) -> str:
    """Mark these servers in the configuration or not, except the last one in use of an upstream.

    Before that one would stay, others are put back that accept connections.
    """

    def in_upstream(upstream: re.Match) -> str:
        found = {server["name"]: server["mark"] == DOWN for server in SERVER.finditer(upstream.group())}
        others = [name for name in found if name not in servers]
        if is_drained and all(found[name] for name in others):
            found |= {name: not accepts(name) for name in others}
        are_others_in_use = not all(found[name] for name in others)
        found |= {name: is_drained and are_others_in_use for name in found if name in servers}
        in_use = [name for name, is_down in found.items() if not is_down]
        last = in_use if len(in_use) == 1 < len(found) else []

        def in_line(server: re.Match) -> str:
            mark = DOWN if found[server["name"]] else LAST if server["name"] in last else ""
            return f"{server['head']}{mark};"

        return SERVER.sub(in_line, upstream.group())

    return UPSTREAM.sub(in_upstream, text)


def accepts_connections(server: str) -> bool:
    host, _colon, port = server.rpartition(":")
    with suppress(OSError, ValueError), socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS):
        return True
    return False


def drained(text: str, servers: list[str]) -> list[str]:
    """Return those of the servers to which nginx sends no requests."""
    used = {
        server["name"]
        for upstream in UPSTREAM.finditer(text)
        for server in SERVER.finditer(upstream.group())
        if server["mark"] != DOWN
    }
    return [server for server in servers if server not in used]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "servers": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["drained", "in_use"], "required": True},
            "drain_seconds": {"type": "int", "default": 5},
            "path": {"type": "path", "default": "/etc/nginx/nginx.conf"},
        },
        supports_check_mode=True,
    )
    hold(module)
    options = module.params
    is_drained = options["state"] == "drained"
    path = Path(options["path"])
    # A stopped nginx sends no requests at all.
    before = path.read_text() if path.exists() and units(["nginx"])[0].is_running else ""
    after = marked(before, options["servers"], is_drained, accepts_connections)
    if before != after and not module.check_mode:
        try:
            files.apply(files.plan([files.Item(str(path), content=after)]), reload)
        except (files.FilesError, UnitError, OSError) as error:
            module.fail_json(msg=f"nginx: {error}; the former configuration is back")
        if is_drained:
            time.sleep(options["drain_seconds"])
    diff = {"before_header": str(path), "after_header": str(path), "before": before, "after": after}
    module.exit_json(
        changed=before != after, drained=drained(after, options["servers"]), diff=diff if before != after else {}
    )


def reload() -> None:
    command("nginx", "-t", "-q")
    command("systemctl", "reload", "nginx")


if __name__ == "__main__":
    main()
