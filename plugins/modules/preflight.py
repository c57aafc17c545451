# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Validate the whole inventory before a host is touched
description:
  - Compares every option of every role that a host will run with the role's argument specification, from defaults and
    inventory alone, and reports all errors at once, one line each.
  - Checks that required groups have hosts, that no secret is missing or malformed, that names and ports make sense, and
    that operating system, Python and service manager are supported.
  - Ends a run of the same inventory that begins while another one is under way on the controller.
  - Runs on the controller only and never shows a secret.
  - A task that runs once speaks for all hosts of its play. What they have in common is rendered once, so this is much
    faster for many hosts.
version_added: 0.1.0
author:
  - The mlfleet authors (@mlfleet)
options:
  roles:
    description:
      - The collection's roles in the site's order. A host runs those whose group it is in, and V(host) if it is listed.
      - What these depend on is validated too.
      - The table C(__topology_services) of role C(topology) says which groups need a host, which can have only one, and
        which building blocks a role uses, whose settings are validated with its own. In a role's C(vars/main.yml),
        C(__ROLE_python_versions) are those that a kind of workers runs on, and C(__ROLE_gpu_wishes) is a list of
        workers with their C(count) and the C(gpus) that each wants.
      - Without any the run is claimed and nothing is validated, for playbooks that do one thing alone.
    type: list
    elements: str
    default: []
  facts:
    description:
      - Whether to look at the hosts' facts instead of at the settings - operating system, Python and service manager.
      - Settings come first and need no host that answers.
    type: bool
    default: false
  gpus:
    description:
      - What M(mlfleet.stack.gpu_facts) found on the host. Then nothing is looked at but who gets which of its GPUs.
      - Wishes that cannot be fulfilled are an error, with a table of who wants what.
    type: dict
attributes:
  check_mode:
    support: full
    description: Changes nothing, so it does the same; it only looks whether another run is under way.
  diff_mode:
    support: none
    description: Changes nothing.
notes:
  - O(facts=true) needs the facts of C(gather_subset=min), and those of M(mlfleet.stack.host_facts) for ports and for
    interpreters that the settings name.
  - Use it in a play with C(any_errors_fatal), since what concerns all hosts is reported for the first one alone.
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
    - name: Validate what they are
      mlfleet.stack.preflight:
        roles: [host, postgres, redis]
        facts: true
      run_once: true
"""

RETURN = r"""
ansible_facts:
  description: What later tasks need of what was found.
  returned: with O(gpus) or O(facts)
  type: dict
  contains:
    store_marks:
      description: By host, the marks of the data in the stores that it uses.
      type: dict
      sample: {node1: {redis: 5d1c0a7b2e9f4c36 db1}}
    gpu_assignments:
      description: An entry for each instance.
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
