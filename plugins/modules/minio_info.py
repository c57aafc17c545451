#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: minio_info
short_description: Gather the objects and state of a MinIO server, without secrets
description:
  - Returns the policies, buckets, users, groups and service accounts of a server as M(mlfleet.stack.minio_access)
    compares them, and the state of the server itself.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
extends_documentation_fragment:
  - mlfleet.stack.minio
  - mlfleet.stack.reads
options:
  gather:
    description: Kinds of information to return.
    type: list
    elements: str
    choices: [policies, buckets, users, groups, service_accounts, server]
    default: [policies, buckets, users, groups, service_accounts, server]
"""

EXAMPLES = r"""
- name: Gather the access to the server
  mlfleet.stack.minio_info:
    endpoint: http://127.0.0.1:9000
    access_key: "{{ topology_minio_root_user }}"
    secret_key: "{{ topology_secret_minio_root }}"
    gather: [policies, users, groups]
  register: __minio_found
  vars:
    ansible_python_interpreter: /opt/mlfleet/tools/bin/python
"""

RETURN = r"""
policies:
  description: Each canned policy by its name, MinIO's own included.
  returned: when gathered
  type: dict
buckets:
  description:
    - Each bucket by its name, with C(versioning), C(object_lock), C(retention), C(quota) in bytes, C(lifecycle),
      C(encryption), C(tags) and C(anonymous).
  returned: when gathered
  type: dict
users:
  description: Each user but root by its name, with C(status), C(policies) and C(groups).
  returned: when gathered
  type: dict
  sample: {"mlflow": {"status": "enabled", "policies": ["mlflow-tracking-readwrite"], "groups": []}}
groups:
  description: Each group by its name, with C(status), C(policies) and C(members).
  returned: when gathered
  type: dict
service_accounts:
  description:
    - Each service account by its access key, with C(parent), C(status), C(policy), C(expires) and C(description).
  returned: when gathered
  type: dict
server:
  description:
    - The server's C(version), C(deployment_id), number of C(pools), and the C(drives) of the whole deployment that it
      sees as C(online) and C(offline), each as reported by its own host. C(uptime_seconds) is the uptime of the server
      that was started last.
  returned: when gathered
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import Result, exit_with
from ansible_collections.mlfleet.stack.plugins.module_utils.minio.access import inspect
from ansible_collections.mlfleet.stack.plugins.module_utils.minio.client import CONNECTION_OPTIONS, Client


def gather(options: dict, check_mode: bool) -> Result:
    client = Client(options)
    with client.one_line("reading"):
        return {"changed": False, **inspect(client, options["gather"])}


def main() -> None:
    subjects = ["policies", "buckets", "users", "groups", "service_accounts", "server"]
    options = {"gather": {"type": "list", "elements": "str", "choices": subjects, "default": subjects}}
    exit_with(AnsibleModule(argument_spec=CONNECTION_OPTIONS | options, supports_check_mode=True), gather)


if __name__ == "__main__":
    main()
