#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: dioptra_users
short_description: Provides the accounts of a Dioptra REST API
description:
  - Proves each account by signing in, and registers those that do not exist, in one round trip.
  - The API tells nobody's password and lets only its owner change it. An account that exists with another password is
    therefore a failure.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
extends_documentation_fragment:
  - mlfleet.stack.rest
options:
  users:
    description: The accounts. On an empty API the first one becomes the owner of the group C(public).
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Sign-in name.
        type: str
        required: true
      password:
        description: Password.
        type: str
        required: true
      email:
        description: E-mail address, which no other account may have. Used when the account is registered.
        type: str
        required: true
attributes:
  check_mode:
    description: Predicts which accounts would be registered; all of them where no API runs yet.
    support: full
  diff_mode:
    description: Shows the accounts that are registered, without passwords.
    support: full
"""

EXAMPLES = r"""
- name: Provide the workers' account
  mlfleet.stack.dioptra_users:
    url: http://127.0.0.1:5000
    users:
      - name: dioptra-worker
        password: "{{ topology_secret_dioptra_worker }}"
        email: dioptra-worker@example.org
"""

RETURN = r"""
changes:
  description: The accounts that were registered.
  returned: success
  type: list
  elements: str
  sample: [user dioptra-worker]
"""

from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra import converge_users
from ansible_collections.mlfleet.stack.plugins.module_utils.rest import run_module


def main() -> None:
    user_options = {
        "name": {"type": "str", "required": True},
        "password": {"type": "str", "required": True, "no_log": True},
        "email": {"type": "str", "required": True},
    }
    run_module(
        {"users": {"type": "list", "elements": "dict", "required": True, "options": user_options}}, converge_users
    )


if __name__ == "__main__":
    main()
