# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dioptra_resources
short_description: Manage plugins, entrypoints and parameter types of a Dioptra REST API from resource packages
description:
  - A resource package is what Dioptra's own import takes. It has a C(dioptra.toml) that declares parameter types,
    plugins with the tasks of their files, and entrypoints, and it has their files.
  - Reads the packages on the controller, compares all that they declare with what the API has in the group C(public),
    and imports those in which something differs, in one round trip.
  - The API imports a package whole or not at all. Queues of entrypoints stay. What no package declares is left alone.
  - A package that is wrong fails the task before the first request. That is one without its configuration or with a
    broken one, and one with a path or a link that leads out of it.
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
      - The file in which M(mlfleet.stack.dioptra_packages) has put the packages on the controller.
      - Either this or O(resources) is needed.
    type: path
attributes:
  action:
    description: Reads the packages on the controller.
    support: full
  check_mode:
    description: Predicts what a run would change; all of it where no API runs or the account does not sign in yet.
    support: full
  diff_mode:
    description: Shows each object and each file that differs.
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
  description: The objects and files that were imported because they differed.
  returned: success
  type: list
  elements: str
  sample: [parameter type image, plugin attacks, "plugin attacks: fgm.py", entrypoint fgm]
"""
