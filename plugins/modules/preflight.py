# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Validate the whole inventory before a host is contacted
description:
  - Compares every option of every role that a host will run with the role's argument specification, from defaults and
    inventory alone, and reports all errors at once, one line each.
  - Checks that required groups have hosts, that no secret is missing or malformed, that names and ports make sense, and
    that operating system, Python and service manager are supported.
  - Ends the run if another run of the same inventory is under way on the controller.
  - Runs on the controller only and never shows a secret.
  - A task with C(run_once) validates all hosts of its play. Common values are rendered only once, so this is much
    faster for many hosts.
version_added: 0.1.0
author:
  - The mlfleet authors (@mlfleet)
options:
  roles:
    description:
      - The collection's roles in the site's order. A host runs those whose group it is in, and V(host) if it is listed.
      - Roles that these depend on are validated too.
      - The table of services, C(meta/services.yml) of role C(topology), states which groups need a host, which can have
        only one, and which building blocks a role uses, whose settings are validated with its own. In a role's
        C(vars/main.yml), C(__ROLE_python_versions) lists the supported versions, and C(__ROLE_gpu_wishes) is a list of
        workers with their C(count) and requested C(gpus).
      - If empty, the run is claimed and nothing is validated, for playbooks with a single purpose.
    type: list
    elements: str
    default: []
  facts:
    description:
      - Whether to check the hosts' facts instead of the settings - operating system, Python and service manager.
      - Settings are checked first and need no reachable host.
    type: bool
    default: false
  gpus:
    description:
      - What M(mlfleet.stack.gpu_facts) found on the host. With this option, only the assignment of its GPUs is
        computed.
      - Requests that cannot be met are an error, with a table of the requests.
    type: dict
attributes:
  check_mode:
    support: full
    description: Changes nothing, so it does the same; it only checks whether another run is under way.
  diff_mode:
    support: none
    description: Changes nothing.
notes:
  - O(facts=true) needs the facts of C(gather_subset=min), and those of M(mlfleet.stack.host_facts) for ports and for
    interpreters that the settings name.
  - Use it in a play with C(any_errors_fatal), since errors that concern all hosts are reported only for the first one.
seealso:
  - module: ansible.builtin.validate_argument_spec
"""

EXAMPLES = r"""
- name: Validate the inventory
  hosts: all
  gather_facts: false
  any_errors_fatal: true
  tasks:
    - name: Validate the settings
      mlfleet.stack.preflight:
        roles: [host, postgres, redis]
      run_once: true

- name: Validate the hosts
  hosts: all
  gather_facts: true
  gather_subset: [min]
  any_errors_fatal: true
  tasks:
    - name: Validate their facts
      mlfleet.stack.preflight:
        roles: [host, postgres, redis]
        facts: true
      run_once: true
"""

RETURN = r"""
ansible_facts:
  description: Results for later tasks.
  returned: with O(gpus) or O(facts)
  type: dict
  contains:
    store_marks:
      description: Data marks of the stores that each host uses, by host.
      type: dict
      sample: {node1: {redis: 5d1c0a7b2e9f4c36 db1}}
    gpu_assignments:
      description: An entry for each worker instance.
      type: list
      elements: dict
      sample:
        - worker: tensorflow-gpu
          instance: "1"
          gpus: ["0"]
          uuids: [GPU-8f5c1bb2-1c02-4d06-9f10-6f3dc5d1b2a3]
          environment: {CUDA_VISIBLE_DEVICES: GPU-8f5c1bb2-1c02-4d06-9f10-6f3dc5d1b2a3}
          devices: [/dev/nvidia0, /dev/nvidiactl, /dev/nvidia-uvm, /dev/nvidia-uvm-tools]
roles:
  description: The listed roles that this host runs, in the order given.
  returned: always
  type: list
  elements: str
  sample: [host, redis]
"""
