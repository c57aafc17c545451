#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: run_unit
short_description: Run the part of unit that is on the host
description:
  - The host's half of M(mlfleet.stack.unit), which calls it; do not use it in playbooks.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  payload:
    description: All options and rendered files, packed by the action.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    description: Reports what a run would change.
  diff_mode:
    support: full
    description: As M(mlfleet.stack.unit).
seealso:
  - module: mlfleet.stack.unit
"""

EXAMPLES = r"""
- name: Use the action instead
  mlfleet.stack.unit:
    files: []
    run: {names: [cron]}
"""

RETURN = r"""
changed_paths:
  description: As M(mlfleet.stack.unit) returns it.
  returned: success
  type: list
  elements: str
  sample: [/etc/redis/redis.conf]
actions:
  description: As M(mlfleet.stack.unit) returns it.
  returned: success
  type: dict
  sample: {"redis-server": "restarted, because a file it reads has changed"}
tls:
  description: As M(mlfleet.stack.unit) returns it.
  returned: success
  type: dict
  sample: {"service": "redis", "speaks_tls": true}
undeclared:
  description: As M(mlfleet.stack.unit) returns it.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils.files import FilesError, unpack
from ansible_collections.mlfleet.stack.plugins.module_utils.host_lock import hold
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.converge import converge
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.systemd import UnitError


def main() -> None:
    module = AnsibleModule(
        argument_spec={"payload": {"type": "str", "required": True, "no_log": True}},
        supports_check_mode=True,
    )
    items, options = unpack(module.params["payload"])
    hold(module, f"unit {', '.join(options['run']['names'])}".strip())
    try:
        result = converge(items, options, module.check_mode, module._diff)
    except (FilesError, UnitError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
