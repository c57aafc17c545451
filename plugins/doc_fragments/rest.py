# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """Options of modules that talk to a service's JSON API."""

    DOCUMENTATION = r"""
options:
  url:
    description: URL of the service without a path, such as V(http://127.0.0.1:5000).
    type: str
    required: true
  ca_file:
    description: Certificates of the authorities to trust beside the usual ones.
    type: path
  timeout_seconds:
    description: How long the service may take for each answer.
    type: int
    default: 30
"""

    SIGN_IN = r"""
options:
  username:
    description: Account that signs in, with the right to do all that is asked for.
    type: str
    required: true
  password:
    description: Its password.
    type: str
    required: true
"""
