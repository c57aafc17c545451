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
    description: Certificates of authorities to trust in addition to the usual ones.
    type: path
  timeout_seconds:
    description: Timeout for each answer of the service.
    type: int
    default: 30
"""

    TLS_NAME = r"""
options:
  tls_name:
    description: Name that the service's certificate must have, by default the host in O(url).
    type: str
"""

    SIGN_IN = r"""
options:
  username:
    description: Account to sign in with; it must have the rights for all requested changes.
    type: str
    required: true
  password:
    description: Its password.
    type: str
    required: true
"""
