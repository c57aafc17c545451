#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_cluster
short_description: Make a RabbitMQ node a member of its cluster and of all quorum queues
description:
  - A node that is alone joins the first of O(nodes) that answers; the first of them all stays alone, unless another
    one has a cluster already. Joining empties a node, so one with messages is refused.
  - Every quorum queue gets a member on the node.
  - Nodes of the cluster that O(nodes) does not list are reported, or leave.
  - Run it on one node after the other, in the order of O(nodes).
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
extends_documentation_fragment:
  - mlfleet.stack.rest
  - mlfleet.stack.rest.certificate
  - mlfleet.stack.rest.sign_in
options:
  rabbitmqctl:
    description: The broker's own command, word by word. Its other commands are in the same directory.
    type: list
    elements: str
    required: true
  node:
    description: The node at O(url).
    type: str
    required: true
  nodes:
    description: All nodes of the cluster. If one of them has messages, it comes first.
    type: list
    elements: str
    required: true
  data:
    description: Directory of the node's data, which tell check mode whether a node that does not run is in a cluster.
    type: path
    required: true
  others:
    description:
      - With V(absent), other nodes leave the cluster, and all quorum queues. A node that runs is stopped and emptied.
      - A node that alone has the messages of a queue, such as a classic one, is refused.
    type: str
    choices: [kept, absent]
    default: kept
attributes:
  check_mode:
    description: Predicts joins, leaves and members; of a node that joins, not its members.
    support: full
  diff_mode:
    description: Shows nodes, and the members of queues.
    support: full
"""

EXAMPLES = r"""
- name: Join the cluster of the brokers
  mlfleet.stack.rabbitmq_cluster:
    url: https://127.0.0.1:15672
    username: admin
    password: "{{ vault_rabbitmq_admin }}"
    rabbitmqctl: [runuser, -u, rabbitmq, --, /usr/lib/rabbitmq/bin/rabbitmqctl]
    node: rabbit@mq2.rabbitmq
    nodes: [rabbit@mq1.rabbitmq, rabbit@mq2.rabbitmq, rabbit@mq3.rabbitmq]
    data: /var/lib/rabbitmq/mnesia
"""

RETURN = r"""
changes:
  description: Nodes that joined or left, and queues that got a member.
  returned: success
  type: list
  elements: str
  sample: [node rabbit@mq2.rabbitmq, queue orders in virtual host shop]
undeclared:
  description: Nodes of the cluster that O(nodes) does not list, each with the command that removes it once it is down.
  returned: success
  type: list
  elements: dict
  sample:
    - kind: RabbitMQ node
      name: rabbit@mq4.rabbitmq
      remove: sudo rabbitmqctl forget_cluster_node rabbit@mq4.rabbitmq
"""

from ansible_collections.mlfleet.stack.plugins.module_utils.access import rest
from ansible_collections.mlfleet.stack.plugins.module_utils.rabbitmq_cluster import converge

OPTIONS = {
    "rabbitmqctl": {"type": "list", "elements": "str", "required": True},
    "node": {"type": "str", "required": True},
    "nodes": {"type": "list", "elements": "str", "required": True},
    "data": {"type": "path", "required": True},
    "others": {"type": "str", "choices": ["kept", "absent"], "default": "kept"},
}


def main():
    rest.run_module(rest.SIGN_IN_OPTIONS | rest.CERTIFICATE_OPTION | OPTIONS, converge)


if __name__ == "__main__":
    main()
