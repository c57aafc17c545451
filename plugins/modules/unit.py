# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: unit
short_description: Manage a systemd unit with all that is declared of it, in one round trip
description:
  - Makes the program's user, installs its files as M(mlfleet.stack.config_files) does, switches its TLS as
    M(mlfleet.stack.ssl_toggle), and runs it until it is healthy as M(mlfleet.stack.healthy_unit), in this order.
  - Before that it installs the NFS client with M(mlfleet.stack.packages) where there are such mounts.
  - The first step that fails ends it. The next run goes on from there, for a unit is restarted by its files' times.
  - When a unit that ran does not run with new O(files), the former ones are put back and it runs with them again. Where
    none ran there is nothing to go back to, and the new files stay.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  state:
    description:
      - With V(absent) the unit is stopped, disabled and removed with O(files), O(programs), its TLS and images.
      - What another unit names stays, and so do O(home) and O(data) with their owner.
      - With V(purged) these go, too.
    type: str
    choices: [present, absent, purged]
    default: present
  data:
    description: Directories with data beside O(home), for V(purged).
    type: list
    elements: path
    default: []
  programs:
    description: Programs and virtual environments that the unit alone runs, for V(absent).
    type: list
    elements: path
    default: []
  image_file:
    description: File that names the image of its container, for V(absent).
    type: path
  user:
    description: A system account without a home, which is made when it is missing, with a group of the same name.
    type: str
  home:
    description: >-
      The program's directory. Where it is another user's, as of an earlier version, the program ends, and the user gets
      all that the former one owns there.
    type: path
  shell:
    description: Its shell; by default one that exists keeps its own.
    type: str
  files:
    description: What to install, with the options of M(mlfleet.stack.config_files).
    type: list
    elements: dict
    required: true
  reloads:
    description: Whether the unit takes up O(files) by a reload in place of a restart.
    type: bool
    default: false
  marks:
    description: Files that are installed once the unit is healthy, with path, content, owner and group.
    type: list
    elements: dict
    default: []
  mounts:
    description: Data that the unit wants mounted. Their mount units are among O(files).
    type: list
    elements: dict
    default: []
    suboptions:
      source:
        description: Directory of the host, or export of an NFS server as V(server:/path).
        type: str
        required: true
      path:
        description: Where the unit finds it.
        type: str
        default: /dioptra/data
      read_only:
        description: Whether nobody can write to it at O(mounts[].path).
        type: bool
        default: true
      options:
        description: Further mount options; for NFS in place of V(nfsvers=4,actimeo=1800).
        type: list
        elements: str
        default: []
  tls:
    description: The options of M(mlfleet.stack.ssl_toggle), for a service with TLS of its own.
    type: dict
  run:
    description:
      - The options of M(mlfleet.stack.healthy_unit).
      - Of the files that the unit reads these are the ones that are not among O(files).
      - What this run has told of them is known, as by the lookup P(mlfleet.stack.outcome#lookup).
    type: dict
    required: true
attributes:
  check_mode:
    support: full
    description: Reports exactly what a run would change.
  diff_mode:
    support: full
    description: Shows user, files, certificates, and what happens to the unit.
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
  description: What was done to each unit and why.
  returned: success
  type: dict
  sample: {"redis-server": "restarted, for a file it reads has changed"}
tls:
  description: The service and, as M(mlfleet.stack.ssl_toggle) returns it, whether it speaks TLS; empty without O(tls).
  returned: success
  type: dict
  sample: {"service": "redis", "speaks_tls": true}
undeclared:
  description: What is there and nobody declared, with the command that removes it. It is no change.
  returned: success
  type: list
  elements: dict
  sample:
    - kind: drop-in of a unit
      name: /etc/systemd/system/minio.service.d/override.conf
      remove: rm /etc/systemd/system/minio.service.d/override.conf && systemctl daemon-reload
"""
