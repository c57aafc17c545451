# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: unit_files
short_description: Install the files of a unit, after what its mounts need
description:
  - Installs files as M(mlfleet.stack.config_files) does.
  - Before that it installs the NFS client with M(mlfleet.stack.packages) where there are such mounts.
version_added: 0.1.0
author:
  - The mlfleet authors (@mlfleet)
options:
  files:
    description: What to install, with the options of M(mlfleet.stack.config_files).
    type: list
    elements: dict
    required: true
  mounts:
    description: Data that the unit wants mounted. Their mount units are among O(files).
    type: list
    elements: dict
    default: []
    suboptions:
      source:
        description: Directory of the host, or export of an NFS server as V(server:/path).
        type: str
        required: true
      path:
        description: Where the unit finds it.
        type: str
        default: /dioptra/data
      read_only:
        description: Whether nobody can write to it at O(mounts[].path).
        type: bool
        default: true
      options:
        description: Further mount options; for NFS in place of V(nfsvers=4,actimeo=1800).
        type: list
        elements: str
        default: []
attributes:
  check_mode:
    support: full
    description: Reports exactly what a run would change.
  diff_mode:
    support: full
    description: Shows packages and files.
seealso:
  - module: mlfleet.stack.config_files
"""

EXAMPLES = r"""
- name: Install the files of a worker
  mlfleet.stack.unit_files:
    files: [{path: /etc/systemd/system/worker.service, template: unit.service.j2}]
    mounts: [{source: /srv/datasets}]
"""

RETURN = r"""
changed_paths:
  description: As M(mlfleet.stack.config_files) returns it.
  returned: success
  type: list
  elements: str
  sample: [/etc/systemd/system/worker.service]
paths:
  description: As M(mlfleet.stack.config_files) returns it.
  returned: success
  type: list
  elements: str
  sample: [/etc/systemd/system/worker.service]
"""
