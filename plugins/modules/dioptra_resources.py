# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dioptra_resources
short_description: Manage plugins, entrypoints and parameter types of a Dioptra REST API from resource packages
description:
  - A resource package has the format of Dioptra's own import, with a C(dioptra.toml) that declares parameter types,
    plugins with the tasks of their files, and entrypoints, and with these files.
  - Reads the packages on the controller, compares their declarations with the API's group C(public), and imports those
    that differ, in one round trip.
  - The API imports a package completely or not at all. Queues of entrypoints stay. Undeclared objects are left alone.
  - An invalid package fails the task before the first request. A package is invalid if its configuration is missing or
    malformed, or if a path or link leads out of it.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
requirements:
  - git on the controller, for O(resources[].repo)
extends_documentation_fragment:
  - mlfleet.stack.rest
  - mlfleet.stack.rest.sign_in
  - mlfleet.stack.dioptra_resources
options:
  packages:
    description:
      - File on the controller to which M(mlfleet.stack.dioptra_packages) has written the packages.
      - Either this or O(resources) is required.
    type: path
attributes:
  action:
    description: Reads the packages on the controller.
    support: full
  check_mode:
    description: Predicts what a run would change; everything if no API is running or the account cannot sign in yet.
    support: full
  diff_mode:
    description: Shows each differing object and file.
    support: full
seealso:
  - module: mlfleet.stack.dioptra_packages
"""

EXAMPLES = r"""
- name: Provide plugins and entrypoints
  mlfleet.stack.dioptra_resources:
    url: http://127.0.0.1:5000
    username: admin
    password: "{{ topology_secret_dioptra_admin }}"
    resources:
      - src: "{{ inventory_dir }}/attacks"
      - src: "{{ inventory_dir }}/defences-1.4.tar.gz"
        config_path: defences-1.4/dioptra.toml
      - repo: https://git.example.org/ml/metrics.git
        version: v2.1
"""

RETURN = r"""
changes:
  description: Objects and files that were imported because they differed.
  returned: success
  type: list
  elements: str
  sample: [parameter type image, plugin attacks, "plugin attacks: fgm.py", entrypoint fgm]
"""
