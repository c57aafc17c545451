# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: unit
short_description: Manage a systemd unit with its user, files, TLS and state in one round trip
description:
  - Creates the program's user, installs its files like M(mlfleet.stack.config_files), switches its TLS like
    M(mlfleet.stack.ssl_toggle), and starts it and waits until it is healthy like M(mlfleet.stack.healthy_unit), in this
    order.
  - Before that, installs the NFS client with M(mlfleet.stack.packages) if there are such mounts.
  - Ends with the first step that fails. The next run continues from there, since restarts depend on file times.
  - If a running unit does not start with new O(files), the previous ones are restored and it runs with them again. If
    no unit was running, there is nothing to restore, and the new files stay.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  state:
    description:
      - With V(absent) the unit is stopped, disabled and removed with O(files), O(programs), its TLS and images.
      - Objects that another unit names stay, and so do O(home) and O(data) with their owner.
      - With V(purged), these are removed too.
    type: str
    choices: [present, absent, purged]
    default: present
  data:
    description: Directories with data in addition to O(home), for V(purged).
    type: list
    elements: path
    default: []
  programs:
    description: Programs and virtual environments that only this unit runs, for V(absent).
    type: list
    elements: path
    default: []
  image_file:
    description: File that names the image of its container, for V(absent).
    type: path
  user:
    description: A system account without a home, created with a group of the same name if missing.
    type: str
  home:
    description: >-
      Directory of the program. If it belongs to another user, such as that of an earlier version, the program is
      stopped, and the user gets everything that the previous one owns there.
    type: path
  shell:
    description: Shell of the account; by default an existing account keeps its own.
    type: str
  files:
    description: Files to install, with the options of M(mlfleet.stack.config_files).
    type: list
    elements: dict
    required: true
  reloads:
    description: Whether a reload is enough after a change of O(files).
    type: bool
    default: false
  marks:
    description: Files that are installed once the unit is healthy, with path, content, owner and group.
    type: list
    elements: dict
    default: []
  mounts:
    description: Data mounts that the unit needs. Their mount units are among O(files).
    type: list
    elements: dict
    default: []
    suboptions:
      source:
        description: Directory on the host, or NFS export in the form V(server:/path).
        type: str
        required: true
      path:
        description: Mount point.
        type: str
        default: /dioptra/data
      read_only:
        description: Whether it is read-only at O(mounts[].path).
        type: bool
        default: true
      options:
        description: Additional mount options; for NFS they replace V(nfsvers=4,actimeo=1800).
        type: list
        elements: str
        default: []
  peers:
    description:
      - The RabbitMQ that runs as the unit, by C(url), C(username), C(password), C(ca_file) and C(timeout_seconds) as in
        M(mlfleet.stack.rabbitmq_cluster). A running unit is restarted only when all nodes of its cluster run, and all
        members of its quorum queues are online; it waits for that as long as for a start, and then fails.
      - One that cannot be asked is restarted.
    type: dict
  tls:
    description: The options of M(mlfleet.stack.ssl_toggle), for a service with TLS of its own.
    type: dict
  run:
    description:
      - The options of M(mlfleet.stack.healthy_unit).
      - Its C(files) lists only files that are not among O(files); those in C(reload_files) are only reloaded.
      - Whether this run has changed them is known, as in the lookup P(mlfleet.stack.outcome#lookup).
    type: dict
    required: true
attributes:
  check_mode:
    support: full
    description: Reports exactly what a run would change.
  diff_mode:
    support: full
    description: Shows user, files, certificates, and the action on the unit.
seealso:
  - module: mlfleet.stack.config_files
  - module: mlfleet.stack.ssl_toggle
  - module: mlfleet.stack.healthy_unit
"""

EXAMPLES = r"""
- name: Run Redis
  mlfleet.stack.unit:
    files:
      - {path: /etc/redis/redis.conf, template: redis.conf.j2, group: redis, mode: "0640"}
    tls:
      service: redis
      unit: redis-server
      owner: redis
      certificate: /etc/mlfleet/tls/host.crt
      key: /etc/mlfleet/tls/host.key
      directory: /etc/redis/tls
      files:
        - {path: /etc/redis/tls/tls.conf, template: tls.conf.j2}
      address: 127.0.0.1:6379
      plain_request: PING
    run:
      names: [redis-server]
      probe: {tcp: "127.0.0.1:6379", send: PING, expect: NOAUTH, tls: true}
"""

RETURN = r"""
changed_paths:
  description: Every file and directory that was changed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/etc/redis/redis.conf]
actions:
  description: Action on each unit, and its reason.
  returned: success
  type: dict
  sample: {"redis-server": "restarted, because a file it reads has changed"}
tls:
  description:
    - With O(tls), the service and, as M(mlfleet.stack.ssl_toggle) returns it, whether it speaks TLS.
    - Otherwise, if check mode predicts an action on a service that is probed by HTTP, whether it speaks TLS now.
  returned: success
  type: dict
  sample: {"service": "redis", "speaks_tls": true}
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
