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

    CERTIFICATE = r"""
options:
  certificate_file:
    description:
      - Path of the certificate that the service must present. For a service of the same host, whose certificate has
        other names.
      - By default the certificate must be valid for the host in O(url).
    type: path
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
