# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_certificate
short_description: Manage a host's certificate and key, issued by the deployment's own authority or given
description:
  - With O(mode=internal) the controller reads the host's certificate, and issues another one with a new key if its
    names differ, too few days are left, its key does not match or was readable by others, or the authority has changed.
    The controller stores nothing.
  - With O(mode=provided) the given pair is installed, if certificate and key match. M(mlfleet.stack.preflight) has
    checked names, chain and validity.
  - C(host.crt) contains the certificate, followed by its chain, and C(host.key) the key, which root and O(group) can
    read.
version_added: 0.1.0
author:
  - The mlfleet authors (@mlfleet)
requirements:
  - cryptography (Python library, on the controller)
options:
  mode:
    description: Source of certificate and key.
    type: str
    choices: [internal, provided]
    required: true
  directory:
    description: Directory of certificate and key on the host.
    type: path
    required: true
  names:
    description: Names and addresses in the certificate.
    type: list
    elements: str
    default: []
  authority:
    description: Directory on the controller with C(ca.crt) and, encrypted by Ansible Vault, C(ca.key).
    type: path
  valid_days:
    description: Validity of an issued certificate, in days.
    type: int
    default: 365
  renew_days:
    description: Number of days before its expiry when it is renewed.
    type: int
    default: 30
  certificate:
    description: For O(mode=provided), the certificate as PEM text.
    type: str
  key:
    description: For O(mode=provided), its private key as PEM text.
    type: str
  chain:
    description: For O(mode=provided), the certificates between O(certificate) and an authority, as PEM text.
    type: str
    default: ''
  group:
    description: Group that may read the key.
    type: str
    default: ssl-cert
attributes:
  check_mode:
    support: full
    description: Reports what a run would change; issues nothing.
  diff_mode:
    support: full
    description: Shows subject, names, validity and fingerprint before, and why it is replaced.
seealso:
  - module: mlfleet.stack.ssl_toggle
  - module: mlfleet.stack.ca_bundle
"""

EXAMPLES = r"""
- name: Keep the host's certificate
  mlfleet.stack.host_certificate:
    mode: internal
    directory: /etc/mlfleet/tls
    names: [db1.example.org, 192.0.2.7, localhost, 127.0.0.1]
    authority: "{{ inventory_dir }}/ca"
"""

RETURN = r"""
reason:
  description: Why another certificate was issued; empty if none was.
  returned: success
  type: str
  sample: its names have changed
"""
