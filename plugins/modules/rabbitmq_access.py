#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_access
short_description: Manage virtual hosts, users, policies, exchanges and queues of RabbitMQ as one document
description:
  - Applies one document to a RabbitMQ broker, through the HTTP API of its management, in the order in which its parts
    depend on each other.
  - Sends only salted hashes of passwords. A user whose hash matches is left alone, so check mode predicts exactly.
  - The permissions of a user are exactly as listed. Unlisted users, virtual hosts and policies are reported, and left
    alone.
  - Type and arguments of an exchange or a queue cannot be changed; a difference is a failure, and no message is lost.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
extends_documentation_fragment:
  - mlfleet.stack.rest
  - mlfleet.stack.rest.certificate
  - mlfleet.stack.rest.sign_in
options:
  rabbitmqctl:
    description:
      - The broker's own command, word by word, for when the broker refuses O(username). It then provides this account,
        which must be in O(users), and must have all rights in the virtual hosts of O(exchanges) and O(queues).
      - By default, a refused account is a failure.
    type: list
    elements: str
    default: []
  vhosts:
    description: Virtual hosts.
    type: list
    elements: str
    default: []
  users:
    description: Users.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the user.
        type: str
        required: true
      password:
        description: Its password, required unless the user is to be removed.
        type: str
      tags:
        description: What it may do in the management, such as V(monitoring) or V(administrator).
        type: list
        elements: str
        default: []
      permissions:
        description: All its rights.
        type: list
        elements: dict
        default: []
        suboptions:
          vhost:
            description: A virtual host of O(vhosts).
            type: str
            required: true
          configure:
            description:
              - Regular expression of the queues and exchanges that it may create and delete; by default none.
              - It may match any part of a name, unless it begins with C(^) and ends with C($).
            type: str
            default: ^$
          write:
            description: The same of those that it may publish to.
            type: str
            default: ^$
          read:
            description: The same of those that it may consume.
            type: str
            default: ^$
      state:
        description: Whether the user exists.
        type: str
        choices: [present, absent]
        default: present
  policies:
    description: Policies, which set properties of queues and exchanges by their names.
    type: list
    elements: dict
    default: []
    suboptions:
      vhost:
        description: A virtual host of O(vhosts).
        type: str
        required: true
      name:
        description: Name of the policy.
        type: str
        required: true
      pattern:
        description: Regular expression of the names that it applies to.
        type: str
        required: true
      apply_to:
        description: What it applies to.
        type: str
        choices: [all, queues, exchanges]
        default: all
      priority:
        description: If several policies apply, the one with the highest priority does.
        type: int
        default: 0
      definition:
        description: The properties, such as C(max-length).
        type: dict
        required: true
  exchanges:
    description: Durable exchanges.
    type: list
    elements: dict
    default: []
    suboptions:
      vhost:
        description: A virtual host of O(vhosts).
        type: str
        required: true
      name:
        description: Name of the exchange.
        type: str
        required: true
      type:
        description: How it routes messages.
        type: str
        choices: [direct, fanout, headers, topic]
        default: direct
      arguments:
        description: Further arguments.
        type: dict
        default: {}
  queues:
    description: Durable queues.
    type: list
    elements: dict
    default: []
    suboptions:
      vhost:
        description: A virtual host of O(vhosts).
        type: str
        required: true
      name:
        description: Name of the queue.
        type: str
        required: true
      type:
        description: How it keeps messages.
        type: str
        choices: [quorum, classic, stream]
        default: quorum
      arguments:
        description: Further arguments, such as C(x-max-length).
        type: dict
        default: {}
attributes:
  check_mode:
    description: Predicts exactly what a run would change. If the broker does not run yet, this is the whole document.
    support: full
  diff_mode:
    description: Shows the changed objects, without passwords.
    support: full
"""

EXAMPLES = r"""
- name: Provide the queue of the orders
  mlfleet.stack.rabbitmq_access:
    url: https://127.0.0.1:15671
    username: admin
    password: "{{ vault_rabbitmq_admin }}"
    vhosts: [/, shop]
    users:
      - name: admin
        password: "{{ vault_rabbitmq_admin }}"
        tags: [administrator]
        permissions: [{vhost: shop, configure: ".*", write: ".*", read: ".*"}]
      - name: orders
        password: "{{ vault_rabbitmq_orders }}"
        permissions:
          - {vhost: shop, write: ^amq\\.default$, read: ^orders$}
    queues:
      - {vhost: shop, name: orders}
"""

RETURN = r"""
changes:
  description: Names of the changed objects, such as C(user orders).
  returned: success
  type: list
  elements: str
  sample: [user orders, queue orders in virtual host shop]
undeclared:
  description: Users, virtual hosts and policies that are not in the document, each with the command that removes it.
  returned: success
  type: list
  elements: dict
  sample: [{kind: RabbitMQ user, name: guest, remove: sudo rabbitmqctl delete_user guest}]
"""

from ansible_collections.mlfleet.stack.plugins.module_utils.access import rest
from ansible_collections.mlfleet.stack.plugins.module_utils.rabbitmq import converge

IN_VHOST = {"vhost": {"type": "str", "required": True}, "name": {"type": "str", "required": True}}
ARGUMENTS = {"arguments": {"type": "dict", "default": {}}}


def a_list(options):
    return {"type": "list", "elements": "dict", "default": [], "options": options}


OPTIONS = {
    "rabbitmqctl": {"type": "list", "elements": "str", "default": []},
    "vhosts": {"type": "list", "elements": "str", "default": []},
    "users": a_list(
        {
            "name": {"type": "str", "required": True},
            "password": {"type": "str", "no_log": True},
            "tags": {"type": "list", "elements": "str", "default": []},
            "permissions": a_list(
                {
                    "vhost": {"type": "str", "required": True},
                    "configure": {"type": "str", "default": "^$"},
                    "write": {"type": "str", "default": "^$"},
                    "read": {"type": "str", "default": "^$"},
                }
            ),
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        }
    ),
    "policies": a_list(
        {
            **IN_VHOST,
            "pattern": {"type": "str", "required": True},
            "apply_to": {"type": "str", "choices": ["all", "queues", "exchanges"], "default": "all"},
            "priority": {"type": "int", "default": 0},
            "definition": {"type": "dict", "required": True},
        }
    ),
    "exchanges": a_list(
        {
            **IN_VHOST,
            "type": {"type": "str", "choices": ["direct", "fanout", "headers", "topic"], "default": "direct"},
            **ARGUMENTS,
        }
    ),
    "queues": a_list(
        {
            **IN_VHOST,
            "type": {"type": "str", "choices": ["quorum", "classic", "stream"], "default": "quorum"},
            **ARGUMENTS,
        }
    ),
}


def main():
    rest.run_module(rest.SIGN_IN_OPTIONS | rest.CERTIFICATE_OPTION | OPTIONS, converge)


if __name__ == "__main__":
    main()
