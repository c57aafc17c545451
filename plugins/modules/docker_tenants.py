#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_tenants
short_description: Refuse to change a Docker engine that runs others' containers
description:
  - Fails when packages or settings of the engine would change while it runs containers that are not mlfleet's, which
    are those without the label C(mlfleet.unit).
  - Run it before the engine changes, because a change may restart the engine and its containers.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  packages:
    description: Debian packages to be installed.
    type: list
    elements: str
    required: true
  settings:
    description: Text of the settings to be written.
    type: str
    required: true
  path:
    description: Path of the settings file.
    type: path
    default: /etc/docker/daemon.json
extends_documentation_fragment: mlfleet.stack.reads
"""

EXAMPLES = r"""
- name: Refuse to change an engine that others use
  mlfleet.stack.docker_tenants:
    packages: [docker.io]
    settings: "{}\n"
"""

RETURN = r"""
tenants:
  description: Names of the running containers that are not mlfleet's. The engine is not queried if nothing would
    change.
  returned: always
  type: list
  elements: str
  sample: [gitlab]
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils.containers import DockerError, docker
from ansible_collections.mlfleet.stack.plugins.module_utils.dpkg import missing, states
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.systemd import UNIT_LABEL


def is_changed(packages: list[str], settings: str, path: Path) -> bool:
    return bool(missing(packages, states(packages))) or not path.exists() or path.read_text() != settings


def tenants() -> list[str]:
    """Return running containers without our label; none if no engine answers."""
    shown = f'{{{{.Label "{UNIT_LABEL}"}}}} {{{{.Names}}}}'
    try:
        listed = docker("ps", "--format", shown)
    except DockerError:
        return []
    return [line.strip() for line in listed.splitlines() if line.startswith(" ")]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "packages": {"type": "list", "elements": "str", "required": True},
            "settings": {"type": "str", "required": True},
            "path": {"type": "path", "default": "/etc/docker/daemon.json"},
        },
        supports_check_mode=True,
    )
    options = module.params
    would_change = is_changed(options["packages"], options["settings"], Path(options["path"]))
    found = tenants() if would_change else []
    if found:
        module.fail_json(
            tenants=found,
            msg=f"The Docker engine runs containers that are not mlfleet's: {', '.join(found)}. Its packages or "
            "settings would change, which may restart them: stop them, or set docker_foreign_containers_allowed",
        )
    module.exit_json(changed=False, tenants=[])


if __name__ == "__main__":
    main()
