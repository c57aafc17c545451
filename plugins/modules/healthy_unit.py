#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: healthy_unit
short_description: Run systemd units with their present configuration and wait until they answer
description:
  - Enables and starts units, and restarts those whose files are newer than their start, in one round trip.
  - File times decide about the restart instead of handlers, so that the next run completes one that was killed between
    writing a file and restarting its service.
  - Units that these want, such as mounts, are kept at their current configuration too.
  - Then probes the service until it answers. If it does not answer before the timeout, the task fails, and the message
    ends with the unit's last log lines.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  names:
    description: Names of the units, such as V(redis-server) or V(worker@1). They share the files and the probe.
    type: list
    elements: str
    required: true
  template:
    description:
      - Name of a template unit; its running or enabled instances that O(names) does not list are stopped.
      - Drop-ins of such an instance are removed.
    type: str
  wants:
    description:
      - Units that O(names) name with C(Wants) and C(After), and that systemd starts with them, such as mounts.
      - The task fails if one of them does not run afterwards. If its own file has changed, O(names) are stopped before
        it.
    type: list
    elements: str
    default: []
  changed_paths:
    description:
      - Files that this run has changed, or would change in check mode, where their times do not show it. Only those
        among O(files), O(reload_files) and O(wants) count.
    type: list
    elements: path
    default: []
  files:
    description: Files that the units read at their start.
    type: list
    elements: path
    default: []
  restart:
    description: Whether to restart them regardless of the times of O(files).
    type: bool
    default: false
  reload_files:
    description: Files that the units load on a reload, which drops no connection.
    type: list
    elements: path
    default: []
  probe:
    description: Health check of the service; without it, a running unit counts as healthy.
    type: dict
    default: {}
    suboptions:
      http:
        description: URL that must answer with O(probe.status).
        type: str
      status:
        description: Expected status of O(probe.http).
        type: int
        default: 200
      headers:
        description: Headers sent to O(probe.http).
        type: dict
        default: {}
      tcp:
        description: Address and port that must accept a connection, such as V(127.0.0.1:6379).
        type: str
      send:
        description: Line sent to O(probe.tcp).
        type: str
      expect:
        description: Regular expression that the answer of O(probe.tcp) must match.
        type: str
      tls:
        description: Whether to send O(probe.send) through TLS.
        type: bool
        default: false
      client_certificate:
        description: Path of a client certificate for O(probe.tls).
        type: path
      client_key:
        description: Path of the client certificate's key.
        type: path
      log:
        description: Regular expression that the unit's log must match after a start by this module.
        type: str
      reloaded:
        description:
          - Regular expression that the unit's log must match after a reload by this module.
          - For programs that keep their previous settings when they refuse new ones.
        type: str
  migration:
    description: For programs that migrate their database before they run, how to detect a migration.
    type: dict
    suboptions:
      file:
        description: File with the progress, which is locked during a migration.
        type: path
        required: true
      timeout_seconds:
        description: Timeout for a migration, in addition to O(timeout_seconds). After that the module fails, and the
          migration goes on.
        type: int
        required: true
  timeout_seconds:
    description: Timeout for each unit to start, and to become healthy.
    type: int
    default: 90
  stop_timeout_seconds:
    description: Timeout for a restarted unit to stop, such as a worker that finishes its job first.
    type: int
    default: 90
extends_documentation_fragment: mlfleet.stack.live
attributes:
  check_mode:
    description: Predicts starts, restarts and stops; runs no probe.
    support: full
  diff_mode:
    description: Shows the state of each unit and why it would change.
    support: full
"""

EXAMPLES = r"""
- name: Run Redis
  mlfleet.stack.healthy_unit:
    names: [redis-server]
    files: "{{ __redis_files.paths }}"
    changed_paths: "{{ __redis_files.changed_paths }}"
    probe:
      tcp: 127.0.0.1:6379
      send: PING
      expect: PONG|NOAUTH
"""

RETURN = r"""
actions:
  description: Action on each unit, and its reason.
  returned: always
  type: dict
  sample: {"redis-server": "restarted, because a file it reads has changed"}
undeclared:
  description: Undeclared objects, with the command that removes each. They do not count as a change.
  returned: success
  type: list
  elements: dict
  sample:
    - kind: drop-in of a unit
      name: /etc/systemd/system/minio.service.d/override.conf
      remove: rm /etc/systemd/system/minio.service.d/override.conf && systemctl daemon-reload
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils.host_lock import hold
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.health import ARGUMENT_SPEC, keep
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.systemd import UnitError


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    hold(module)
    try:
        result = keep(module.params, module.check_mode)
    except UnitError as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
