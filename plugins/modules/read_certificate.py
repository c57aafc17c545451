# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: read_certificate
short_description: Read a host's certificate if its key matches and owner and mode are correct
description:
  - The host's half of M(mlfleet.stack.host_certificate), which calls it; do not use it in playbooks.
  - Changes nothing.
version_added: 0.1.0
author:
  - The mlfleet authors (@mlfleet)
options:
  certificate:
    description: Path of the certificate.
    type: path
    required: true
  key:
    description: Path of its private key.
    type: path
    required: true
  group:
    description: Group that may read the key.
    type: str
    required: true
extends_documentation_fragment: mlfleet.stack.reads
"""

EXAMPLES = r"""
- name: Use the action instead
  mlfleet.stack.host_certificate:
    mode: internal
    names: [db1.example.org]
    directory: /etc/mlfleet/tls
"""

RETURN = r"""
certificate:
  description: >-
    Text of the certificate; empty if there is none, its key does not match, or owner or mode are wrong.
  returned: success
  type: str
"""

import grp
import ssl
import stat
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


def is_as_made(path: Path, group_id: int, mode: int) -> bool:
    found = path.stat()
    return (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (0, group_id, mode)


def are_as_made(certificate: Path, key: Path, group: str) -> bool:
    """Return whether all users can read the certificate, and only root and the group the key."""
    try:
        readers = grp.getgrnam(group).gr_gid
    except KeyError:
        return False
    return (
        is_as_made(certificate.parent, 0, 0o755)
        and is_as_made(certificate, 0, 0o644)
        and is_as_made(key, readers, 0o640)
    )


def fits(certificate: Path, key: Path) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (ssl.SSLError, OSError):
        return False
    return True


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "certificate": {"type": "path", "required": True},
            "key": {"type": "path", "required": True, "no_log": False},
            "group": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    certificate, key = Path(module.params["certificate"]), Path(module.params["key"])
    usable = certificate.is_file() and key.is_file() and are_as_made(certificate, key, module.params["group"])
    usable = usable and fits(certificate, key)
    module.exit_json(changed=False, certificate=certificate.read_text() if usable else "")


if __name__ == "__main__":
    main()
