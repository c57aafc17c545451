# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dioptra_packages
short_description: Read resource packages for Dioptra on the controller
description:
  - Reads and checks the packages, and writes the relevant parts to one file for M(mlfleet.stack.dioptra_resources).
  - So an invalid or unreachable package ends a run before its first change, and a machine with the file needs no
    packages.
  - Contacts no host.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
requirements:
  - git on the controller, for O(resources[].repo)
extends_documentation_fragment:
  - mlfleet.stack.dioptra_resources
options:
  resources:
    required: true
  dest:
    description: File on the controller, readable only by its owner.
    type: path
    required: true
attributes:
  action:
    description: Runs on the controller only.
    support: full
  check_mode:
    description: Check mode is the same, because the file is not part of any host.
    support: full
  diff_mode:
    description: Nothing to show.
    support: none
seealso:
  - module: mlfleet.stack.dioptra_resources
"""

EXAMPLES = r"""
- name: Read the packages before anything is changed
  mlfleet.stack.dioptra_packages:
    resources:
      - repo: https://git.example.org/ml/metrics.git
        version: v2.1
    dest: /root/.cache/mlfleet/builds/prod/dioptra/packages
"""

RETURN = r"""
"""
