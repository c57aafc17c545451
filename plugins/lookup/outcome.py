# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: outcome
short_description: Return what this run has done to a file or unit of the host
description:
  - Returns the outcome of the last task of this run for a unit, or for a file that was installed beside units, such as
    the stamp of a virtual environment. In check mode it is what that task would do.
    - Roles use their own names for this, so they never see the outcome of another service, whichever tags are run.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  _terms:
    description: Path of each file, or name of each unit.
    required: true
  host:
    description: Another host of this run, by default the task's own.
    type: str
"""

EXAMPLES = r"""
- name: Show whether MLflow changes
  ansible.builtin.debug:
    msg: "{{ query('mlfleet.stack.outcome', '/opt/mlfleet/mlflow/.installed', 'mlflow') | selectattr('changed') }}"
"""

RETURN = r"""
_list:
  description:
    - For each name, whether it was C(changed), or would be.
    - For a virtual environment's stamp also whether the environment is C(usable), and for a unit whether it
      C(speaks_tls) now, if M(mlfleet.stack.unit) returned it.
  type: list
  elements: dict
"""

from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.mlfleet.stack.plugins.plugin_utils import outcomes


class LookupModule(LookupBase):
    """Look up the outcomes; a name that no task has reported counts as unchanged."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[outcomes.Outcome]:
        self.set_options(var_options=variables, direct=kwargs)
        told = outcomes.told(self.get_option("host") or (variables or {})["inventory_hostname"])
        return [told.get(name, {"changed": False}) for name in terms]
