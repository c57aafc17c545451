#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: grafana_access
short_description: Give Grafana's administrator the declared password
description:
  - Verifies the password by signing in. If Grafana refuses it, Grafana's own command sets it, and the account's
    sessions are ended.
  - After five wrong passwords Grafana locks an account for five minutes, and refuses the right one too. Then the
    password is set, which changes nothing if it was right, and the module warns.
  - The account is Grafana's first one, which it creates when it first starts.
  - Other accounts are left alone; other administrators are reported.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
extends_documentation_fragment:
  - mlfleet.stack.rest
  - mlfleet.stack.rest.certificate
  - mlfleet.stack.rest.sign_in
options:
  command:
    description: Grafana's command C(cli) with its options, word by word, which may write to its database.
    type: list
    elements: str
    required: true
attributes:
  check_mode:
    description: Predicts what a run would change; the password if Grafana is not running yet.
    support: full
  diff_mode:
    description: Shows the account if it differs, without its password.
    support: full
"""

EXAMPLES = r"""
- name: Provide the administrator
  mlfleet.stack.grafana_access:
    url: http://127.0.0.1:3000
    username: admin
    password: "{{ topology_secret_grafana }}"
    command: [runuser, -u, grafana, --, /usr/share/grafana/bin/grafana, cli, --homepath, /usr/share/grafana]
"""

RETURN = r"""
changes:
  description: The account, if its password was set.
  returned: success
  type: list
  elements: str
  sample: [account admin]
undeclared:
  description: Other administrators. No command removes them; an administrator can do so in Grafana's pages.
  returned: success
  type: list
  elements: dict
  sample: [{kind: Grafana administrator, name: mallory, remove: ''}]
"""

from ansible_collections.mlfleet.stack.plugins.module_utils.access import rest
from ansible_collections.mlfleet.stack.plugins.module_utils.grafana import converge

OPTIONS = {"command": {"type": "list", "elements": "str", "required": True}}


def main():
    rest.run_module(rest.SIGN_IN_OPTIONS | rest.CERTIFICATE_OPTION | OPTIONS, converge)


if __name__ == "__main__":
    main()
