# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: install_files
short_description: Install the files that config_files has rendered
description:
  - The host's half of M(mlfleet.stack.config_files), which calls it; do not use it in playbooks.
version_added: 0.1.0
author:
  - The mlfleet authors (@mlfleet)
options:
  payload:
    description:
      - All items with their contents, packed into one value that is neither logged nor shown.
    type: str
    required: true
attributes:
  check_mode:
    support: full
    description: Reports what a run would change.
  diff_mode:
    support: full
    description: Shows owner, mode and, unless an item is sensitive, content before and after.
seealso:
  - module: mlfleet.stack.config_files
"""

EXAMPLES = r"""
- name: Use the action instead
  mlfleet.stack.config_files:
    files:
      - {path: /etc/motd, content: "Welcome\n"}
"""

RETURN = r"""
changed_paths:
  description: Every path that was changed, created parents and purged files included.
  returned: success
  type: list
  elements: str
  sample: [/etc/redis, /etc/redis/redis.conf]
paths:
  description: Every listed path that is a file.
  returned: success
  type: list
  elements: str
  sample: [/etc/redis/redis.conf]
undeclared:
  description: As M(mlfleet.stack.config_files) returns it.
  returned: success
  type: list
  elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils.files import FilesError, install, unpack
from ansible_collections.mlfleet.stack.plugins.module_utils.host_lock import hold


def main():
    module = AnsibleModule(
        argument_spec={"payload": {"type": "str", "required": True, "no_log": True}},
        supports_check_mode=True,
    )
    hold(module, "config_files")
    try:
        items, _options = unpack(module.params["payload"])
        result = install(items, module.check_mode, module._diff)
    except FilesError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
