# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options of modules that talk to a MinIO server."""

    DOCUMENTATION = r"""
requirements:
  - minio (Python library, 7.2.16 or newer)
notes:
  - The Python library is needed where the module runs. Role P(mlfleet.stack.minio#role) installs it on the MinIO hosts,
    at C(/opt/mlfleet/tools); set C(ansible_python_interpreter) to its interpreter for the task, as the example does.
options:
  endpoint:
    description: URL of the server, such as V(http://127.0.0.1:9000).
    type: str
    required: true
  access_key:
    description: Administrative account of the server, such as root.
    type: str
    required: true
  secret_key:
    description: Secret of O(access_key).
    type: str
    required: true
  ca_file:
    description: Certificates of the authorities to trust instead of the usual ones.
    type: path
  timeout_seconds:
    description: Timeout for the connection and for each answer.
    type: int
    default: 30
"""

    CHANGES = r"""
attributes:
  check_mode:
    description: Predicts exactly what a run would change; all of it where no server runs or the library is missing.
    support: full
  diff_mode:
    description: Shows the state before and after of what differs, without secrets.
    support: full
"""
