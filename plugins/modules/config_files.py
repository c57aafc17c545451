# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: config_files
short_description: Render and install files and directories together, all or nothing
description:
  - Renders any number of templates on the controller and installs them with their directories in one round trip.
  - A template that does not render stops the task before anything is sent. A file that does not validate, an unknown
    owner or a failed write leaves the host as it was.
version_added: 0.1.0
author:
  - The mlfleet authors (@mlfleet)
options:
  files:
    description:
      - Files and directories to install. Directories are created before files, parents first, and files are removed
        last.
      - Missing parents that are not listed are created as C(root:root 0755).
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: The absolute path on the host.
        type: str
        required: true
      state:
        description:
          - Desired state of O(files[].path).
          - V(file) replaces a link with a file and never follows it. V(directory) accepts a link to a directory if root
            owns the link. V(absent) removes a directory with its contents.
        type: str
        choices: [file, directory, absent]
        default: file
      template:
        description: A template, found and rendered as M(ansible.builtin.template) does. A file has either this or
          O(files[].content).
        type: str
      content:
        description: Text of the file, written verbatim.
        type: raw
      owner:
        description: Name or id of the owner.
        type: str
        default: root
      group:
        description: Name or id of the group.
        type: str
        default: root
      mode:
        description: An octal string in quotes; by default V(0644) for a file and V(0755) for a directory.
        type: raw
      validate:
        description:
          - A command that checks the new file; C(%s) is replaced by the path of a copy. It runs without a shell.
          - It also runs in check mode, unless the host does not have the program yet.
        type: str
      sensitive:
        description: Keep the content out of the diff, and the output of O(files[].validate) out of the error.
        type: bool
        default: false
      purge:
        description: Remove the files and links in this directory that O(files) does not list. Directories in it stay.
        type: bool
        default: false
      tell:
        description:
          - Report files in this directory that O(files) does not list, and keep them. Files with the words C(Made by
            mlfleet) are not reported.
        type: bool
        default: false
      records:
        description:
          - Remove the files in this directory that O(files) does not list, and before each of them the file whose path
            it contains, if that has the words C(Made by mlfleet).
          - By such records files are removed whose paths are no longer declared.
        type: bool
        default: false
      only_ours:
        description: With V(absent), keep a file without the words C(Made by mlfleet), because others have made it.
        type: bool
        default: false
      vars:
        description: Variables for this item's template only, so that one template serves many items.
        type: dict
        default: {}
attributes:
  check_mode:
    support: full
    description: Reports exactly what a run would change. An owner that does not exist yet counts as a change.
  diff_mode:
    support: full
    description: Shows kind, owner and mode, and the content unless it is sensitive.
notes:
  - Contents never appear in the invocation, the host's log or the process list.
  - SELinux contexts, ACLs and extended attributes are out of scope.
seealso:
  - module: ansible.builtin.template
  - module: ansible.builtin.file
"""

EXAMPLES = r"""
- name: Install Redis' configuration
  mlfleet.stack.config_files:
    files:
      - {path: /etc/redis, state: directory, group: redis, mode: "0750"}
      - {path: /etc/redis/redis.conf, template: redis.conf.j2, group: redis, mode: "0640"}
      - {path: /etc/redis/users.acl, template: users.acl.j2, group: redis, mode: "0640", sensitive: true}
  register: __redis_files
  notify: Restart redis

- name: Install nginx's configuration if nginx accepts it
  mlfleet.stack.config_files:
    files:
      - {path: /etc/nginx/nginx.conf, template: nginx.conf.j2, validate: nginx -t -c %s}
      - {path: /etc/nginx/sites-enabled/default, state: absent}

- name: Keep one file an instance, and no other
  mlfleet.stack.config_files:
    files:
      - {path: /etc/mlfleet/worker, state: directory, purge: true}
      - {path: /etc/mlfleet/worker/1.env, template: instance.env.j2, mode: "0640", vars: {instance: 1}}
      - {path: /etc/mlfleet/worker/2.env, template: instance.env.j2, mode: "0640", vars: {instance: 2}}
"""

RETURN = r"""
changed_paths:
  description: Every path that was changed, or would be in check mode; created parents and purged files included.
  returned: success
  type: list
  elements: str
  sample: [/etc/redis, /etc/redis/redis.conf]
paths:
  description: Every listed path that is a file.
  returned: success
  type: list
  elements: str
  sample: [/etc/redis/redis.conf, /etc/redis/users.acl]
undeclared:
  description: Undeclared files in directories with O(files[].tell), with the command that removes each.
  returned: success
  type: list
  elements: dict
  sample: [{kind: file, name: /etc/nginx/extra.conf, remove: rm /etc/nginx/extra.conf}]
"""
