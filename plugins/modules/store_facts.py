#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: store_facts
short_description: Gather the data directories of a host's stores
description:
  - Inspects the directories of PostgreSQL, Redis, RabbitMQ and MinIO on the host, and reads the marks that identify
    their data. M(mlfleet.stack.preflight) compares them with the data that other hosts have used.
  - Does not query services, so that it works for stopped ones as well. Requires root and changes nothing.
  - The action takes the directories from the stores' roles, from V(__ROLE_store_paths) and, for data of other versions,
    V(__ROLE_store_patterns). A host without a store is not contacted if O(roles) are given.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  roles:
    description:
      - Roles that the inventory's hosts may run; used by the action.
      - Without them, all stores are looked for, also those that the host's groups do not name.
    type: list
    elements: str
  stores:
    description: C(paths) and C(patterns) of each store; set by the action.
    type: dict
extends_documentation_fragment: mlfleet.stack.reads
"""

EXAMPLES = r"""
- name: Gather the data directories
  mlfleet.stack.store_facts:
    roles: [postgres, redis, rabbitmq, minio]
  become: true
"""

RETURN = r"""
ansible_facts:
  description: Existing directories.
  returned: success
  type: dict
  contains:
    stores:
      description: A list of directories for each store.
      type: dict
      sample:
        redis: [{path: /var/lib/redis, mark: 5d1c0a7b2e9f4c36 db1, has_data: true, is_declared: true, members: []}]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils.stores import places


def main() -> None:
    spec = {"roles": {"type": "list", "elements": "str"}, "stores": {"type": "dict"}}
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    found = {store: places(store, **where) for store, where in (module.params["stores"] or {}).items()}
    module.exit_json(ansible_facts={"stores": found})


if __name__ == "__main__":
    main()
