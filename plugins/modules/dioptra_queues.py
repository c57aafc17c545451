#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dioptra_queues
short_description: Provides the queues of a Dioptra REST API
description:
  - Registers the queues that are missing in the group C(public), and updates descriptions that differ.
  - What the document does not list is left alone.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  url:
    description: URL of the REST API without path, such as V(http://127.0.0.1:5000).
    type: str
    required: true
  username:
    description: Account that signs in.
    type: str
    required: true
  password:
    description: Its password.
    type: str
    required: true
  queues:
    description: The queues.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the queue.
        type: str
        required: true
      description:
        description: What it is for.
        type: str
        default: ""
  ca_file:
    description: Certificates of the authorities to trust beside the usual ones.
    type: path
  timeout_seconds:
    description: How long the API may take for each answer.
    type: int
    default: 30
attributes:
  check_mode:
    description: Predicts what a run would change; all of it where no API runs or the account does not exist yet.
    support: full
  diff_mode:
    description: Shows the queues that differ.
    support: full
"""

EXAMPLES = r"""
- name: Provide the queues
  mlfleet.stack.dioptra_queues:
    url: http://127.0.0.1:5000
    username: dioptra-worker
    password: "{{ topology_secret_dioptra_worker }}"
    queues:
      - {name: tensorflow-cpu, description: TensorFlow on the CPU}
"""

RETURN = r"""
changes:
  description: The queues that were registered or updated.
  returned: success
  type: list
  elements: str
  sample: [queue tensorflow-cpu]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra import converge_queues
from ansible_collections.mlfleet.stack.plugins.module_utils.rest import HttpError


def main() -> None:
    queue_options = {
        "name": {"type": "str", "required": True},
        "description": {"type": "str", "default": ""},
    }
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "username": {"type": "str", "required": True},
            "password": {"type": "str", "required": True, "no_log": True},
            "queues": {"type": "list", "elements": "dict", "required": True, "options": queue_options},
            "ca_file": {"type": "path"},
            "timeout_seconds": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    try:
        result = converge_queues(module.params, module.check_mode)
    except HttpError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
