#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dioptra_queues
short_description: Manage the queues of a Dioptra REST API
description:
  - Registers the queues that are missing in the group C(public), updates descriptions that differ, and deletes those
    with state V(absent).
  - The API removes a deleted queue from its entrypoints. A queue of the same name that is registered later is a new
    queue.
  - Unlisted objects are left alone.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
extends_documentation_fragment:
  - mlfleet.stack.rest
  - mlfleet.stack.rest.sign_in
options:
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
        description: Purpose of the queue.
        type: str
        default: ""
      state:
        description: Whether the queue exists.
        type: str
        choices: [present, absent]
        default: present
attributes:
  check_mode:
    description: Predicts what a run would change; everything if no API is running or the account does not exist yet.
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
      - {name: tensorflow-gpu, state: absent}
"""

RETURN = r"""
changes:
  description: The queues that were registered, updated or deleted.
  returned: success
  type: list
  elements: str
  sample: [queue tensorflow-cpu]
"""

from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import SIGN_IN_OPTIONS, run_module
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra.queues import converge_queues


def main() -> None:
    queue_options = {
        "name": {"type": "str", "required": True},
        "description": {"type": "str", "default": ""},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }
    run_module(
        SIGN_IN_OPTIONS | {"queues": {"type": "list", "elements": "dict", "required": True, "options": queue_options}},
        converge_queues,
    )


if __name__ == "__main__":
    main()
