# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: ca_bundle
short_description: Trust certificate authorities on a host
description:
  - Installs certificates in Debian's trust store, and so in C(/etc/ssl/certs/ca-certificates.crt), the bundle for
    programs that do not use the store, such as Python's requests and boto3.
  - Each source is checked on the controller first. It must be a single, currently valid certificate of an authority in
    PEM form.
  - Removes only certificates that it installed itself and that are no longer listed.
version_added: 0.1.0
author:
  - The mlfleet authors (@mlfleet)
requirements:
  - cryptography (Python library, on the controller and the host; Debian's python3-cryptography)
options:
  sources:
    description:
      - Authorities to trust. A file on the controller, a directory of which every C(*.crt) and C(*.pem) file is used,
        or a PEM text.
      - Paths are absolute, or relative to the inventory's directory.
    type: list
    elements: str
    required: true
attributes:
  check_mode:
    support: full
    description: Reports what a run would change.
  diff_mode:
    support: full
    description: Shows subject, validity and fingerprint of each added or removed authority.
notes:
  - The bundle is replaced as a whole, so that no program ever reads a partial file.
seealso:
  - module: mlfleet.stack.host_certificate
"""

EXAMPLES = r"""
- name: Trust the company's authority and those of two partners
  mlfleet.stack.ca_bundle:
    sources:
      - files/company.crt
      - files/partners
"""

RETURN = r"""
bundle:
  description: Path of the bundle on the host.
  returned: success
  type: str
  sample: /etc/ssl/certs/ca-certificates.crt
"""

import re
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.mlfleet.stack.plugins.module_utils import files
from ansible_collections.mlfleet.stack.plugins.module_utils.commands import run
from ansible_collections.mlfleet.stack.plugins.module_utils.host_lock import hold
from ansible_collections.mlfleet.stack.plugins.module_utils.tls import certificates
from ansible_collections.mlfleet.stack.plugins.module_utils.tls.certificates import CertificateError, Pem

STORE = Path("/etc/ssl/certs")
BUNDLE = STORE / "ca-certificates.crt"
OURS = Path("/usr/local/share/ca-certificates/mlfleet")
PREFIX = "mlfleet-"


def name_of(authority: certificates.Certificate) -> str:
    """Return a unique file name that begins with its subject."""
    subject = re.sub("[^a-z0-9]+", "-", authority.subject.lower().partition("cn=")[2]).strip("-")
    return f"{PREFIX}{subject[:40] or 'authority'}-{authority.fingerprint[:12]}.crt"


def missing_in_bundle(wanted: list[certificates.Certificate]) -> list[certificates.Certificate]:
    """Return the authorities that the bundle lacks."""
    bundle = Pem(str(BUNDLE), BUNDLE.read_text(errors="replace") if BUNDLE.exists() else "")
    held = {"".join(block.split()) for block in bundle.blocks("CERTIFICATE")}
    return [authority for authority in wanted if "".join(authority.pem.split()) not in held]


def orphans() -> list[Path]:
    """Return links in the store to a removed certificate of ours, and links to those."""
    links = [path for path in STORE.iterdir() if path.is_symlink() and not path.exists()] if STORE.is_dir() else []
    return [path for path in links if path.readlink().name.startswith(PREFIX)]


def diff(changes: list[files.Change]) -> list[dict[str, str]]:
    """Show certificates by their contents, and the directory as it is."""
    entries = []
    for change in changes:
        texts = {"before": f"{change.before}\n", "after": f"{change.after}\n"}
        if change.item.state != "directory":
            found = Path(change.path)
            before = found.read_bytes() if found.is_file() else b""
            texts = {"before": certificates.described(before), "after": certificates.described(change.after.content)}
        entries.append({"before_header": change.path, "after_header": change.path, **texts})
    return entries


def bundle_diff(wanted: list[certificates.Certificate]) -> dict[str, str]:
    """Show what the bundle lacks although the store has it."""
    lacking = "".join(map(str, missing_in_bundle(wanted)))
    return {"before_header": str(BUNDLE), "after_header": str(BUNDLE), "before": "", "after": lacking}


def main() -> None:
    module = AnsibleModule(
        argument_spec={"sources": {"type": "list", "elements": "str", "required": True}}, supports_check_mode=True
    )
    if certificates.IMPORT_ERROR:
        if module.check_mode:  # the host would get the library in this run
            module.exit_json(changed=True, bundle=str(BUNDLE))
        module.fail_json(msg=missing_required_lib("cryptography"), exception=certificates.IMPORT_ERROR)
    hold(module)
    try:
        wanted = [certificates.authority(Pem("sources", text)) for text in module.params["sources"]]
        items = [files.Item(str(OURS), "directory", mode="0755", purge=True)]
        items += [files.Item(str(OURS / name_of(authority)), content=authority.pem) for authority in wanted]
        changes = [change for change in files.plan(items) if change.needed]
        is_stale = bool(changes) or bool(missing_in_bundle(wanted)) or bool(orphans())
        shown_changes = diff(changes) or ([bundle_diff(wanted)] if is_stale else [])
        if is_stale and not module.check_mode:
            files.apply(changes)
            # Orphans are removed last: by them the run after a killed one detects that it must continue.
            done = run(["update-ca-certificates"])
            if done.returncode != 0 or missing_in_bundle(wanted):
                module.fail_json(msg=f"update-ca-certificates did not install them: {done.stderr.strip()}")
            for path in orphans():
                path.unlink()
    except (CertificateError, files.FilesError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=is_stale, bundle=str(BUNDLE), diff=shown_changes)


if __name__ == "__main__":
    main()
