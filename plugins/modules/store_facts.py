#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: store_facts
short_description: Gather which data the stores of a host hold
description:
  - Looks at the directories of PostgreSQL, Redis and MinIO on the host, and reads the mark that says whose they are.
    M(mlfleet.stack.preflight) compares it with what other hosts have used.
  - Asks no service, so that one that does not run is known as well. Wants to be root; changes nothing.
  - The action takes the directories from the roles of the stores, from V(__ROLE_store_paths) and, where data of another
    version may be besides, V(__ROLE_store_patterns). A host without a store is not asked.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  roles:
    description: The roles that the inventory's hosts may run, for the action.
    type: list
    elements: str
  stores:
    description: For the module, O(stores) has C(paths) and C(patterns) of each store.
    type: dict
attributes:
  check_mode:
    description: It changes nothing, so it does the same.
    support: full
  diff_mode:
    description: It changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Ask which data are there
  mlfleet.stack.store_facts:
    roles: [postgres, redis, minio]
  become: true
"""

RETURN = r"""
ansible_facts:
  description: The directories that are there.
  returned: success
  type: dict
  contains:
    stores:
      description: A list for each store.
      type: dict
      sample: {redis: [{path: /var/lib/redis, mark: 5d1c0a7b2e9f4c36 db1, has_data: true, is_declared: true}]}
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
