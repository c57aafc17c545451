#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_facts
short_description: Gather the facts that the roles need, with the ports that are taken
description:
  - Gathers the facts of M(ansible.builtin.setup) that the roles read; listening TCP ports and running units, from which
    M(mlfleet.stack.preflight) detects occupied ports; and the stores that the host has used.
  - This takes a single round trip.
  - If another controller is changing the host, waits for a while and then refuses.
  - Needs no privileges and changes nothing.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  pythons:
    description: Interpreters of Python to ask for their versions, besides Debian's C(/usr/bin/python3).
    type: list
    elements: path
    default: []
extends_documentation_fragment: mlfleet.stack.reads
"""

EXAMPLES = r"""
- name: Gather the facts of this host
  mlfleet.stack.host_facts:
"""

RETURN = r"""
ansible_facts:
  description: Facts of the system, and six of this collection.
  returned: always
  type: dict
  contains:
    listeners:
      description: Listening sockets.
      type: list
      elements: dict
      sample: [{address: 127.0.0.1, port: 5050, uid: 997, user: pgadmin}]
    running_units:
      description: User ids of each unit that has processes.
      type: dict
      sample: {pgadmin: [997]}
    installed_packages:
      description: Installed Debian packages that are not held, which saves M(mlfleet.stack.packages) a query.
      type: str
      sample: adduser apt base-files
    own_units:
      description: Our units that the host has, declared or not; a template ends with C(@).
      type: list
      elements: str
      sample: [nginx, dioptra-worker-pytorch-gpu@]
    pythons:
      description: Version of each of these interpreters that is there and runs, by its path.
      type: dict
      sample: {/usr/bin/python3: 3.13.5, /opt/python3.12/bin/python3: 3.12.11}
    used_stores:
      description: Mark of each store that the host has used; empty if the use is older than marks.
      type: dict
      sample: {postgres: 5d1c0a7b2e9f4c36 db1}
"""

import pwd

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.facts import ansible_collector, default_collectors
from ansible.module_utils.facts.namespace import PrefixFactNamespace
from ansible_collections.mlfleet.stack.plugins.module_utils import interpreters
from ansible_collections.mlfleet.stack.plugins.module_utils.dpkg import in_order
from ansible_collections.mlfleet.stack.plugins.module_utils.host_lock import BusyError, require_idle
from ansible_collections.mlfleet.stack.plugins.module_utils.stores import used
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.listeners import listeners, running_units
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.systemd import ours

SUBSET = ("distribution", "platform", "python", "service_mgr", "ssh_pub_keys", "user")


def name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def main() -> None:
    module = AnsibleModule(
        argument_spec={"pythons": {"type": "list", "elements": "path", "default": []}}, supports_check_mode=True
    )
    try:
        require_idle()
    except BusyError as error:
        module.fail_json(msg=str(error))
    collector = ansible_collector.get_ansible_collector(
        all_collector_classes=default_collectors.collectors,
        namespace=PrefixFactNamespace(namespace_name="ansible", prefix="ansible_"),
        gather_subset=["min"],
        minimal_gather_subset=frozenset(SUBSET),
    )
    taken = [
        {"address": listener.address, "port": listener.port, "uid": listener.uid, "user": name_of(listener.uid)}
        for listener in listeners()
    ]
    units = {name: sorted(uids) for name, uids in running_units().items()}
    asked = {python: interpreters.ask(python) for python in [interpreters.OF_DEBIAN, *module.params["pythons"]]}
    own = {
        "ansible_listeners": taken,
        "ansible_running_units": units,
        "ansible_own_units": sorted({name for name, _file in ours()}),
        "ansible_pythons": {python: found.version for python, found in asked.items() if found},
        "ansible_used_stores": used(),
        "ansible_installed_packages": " ".join(in_order()),  # text, which templates do not process further
    }
    facts = collector.collect(module=module) | own
    module.exit_json(ansible_facts=facts)


if __name__ == "__main__":
    main()
