#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: import_resources
short_description: Import the packages that dioptra_resources has read
description:
  - The host's half of M(mlfleet.stack.dioptra_resources), which calls it; do not use it in playbooks.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
extends_documentation_fragment:
  - mlfleet.stack.rest
  - mlfleet.stack.rest.sign_in
options:
  payload:
    description: All packages, packed into one value that is neither logged nor shown.
    type: str
    required: true
attributes:
  check_mode:
    description: Predicts what a run would change.
    support: full
  diff_mode:
    description: Shows each object that differs.
    support: full
seealso:
  - module: mlfleet.stack.dioptra_resources
"""

EXAMPLES = r"""
- name: Use the action instead
  mlfleet.stack.dioptra_resources:
    url: http://127.0.0.1:5000
    username: admin
    password: "{{ topology_secret_dioptra_admin }}"
    resources:
      - src: files/attacks
"""

RETURN = r"""
changes:
  description: As M(mlfleet.stack.dioptra_resources) returns it.
  returned: success
  type: list
  elements: str
  sample: ["plugin attacks: fgm.py"]
"""

from ansible_collections.mlfleet.stack.plugins.module_utils.access.rest import SIGN_IN_OPTIONS, run_module
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra.resources import converge_resources


def main() -> None:
    run_module(SIGN_IN_OPTIONS | {"payload": {"type": "str", "required": True, "no_log": True}}, converge_resources)


if __name__ == "__main__":
    main()
