#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: packages
short_description: Install or remove Debian packages, with an exact prediction and safe to run again after a kill
description:
  - Queries dpkg for missing packages and installs these with C(apt-get), without recommended packages.
  - Unlike M(ansible.builtin.apt) it needs no C(python3-apt) on the host and no package lists to answer in check mode,
    so that a check of a fresh host ends with a prediction instead of an error.
  - Package lists are updated first, unless they were updated within the last ten minutes and contain the names.
  - A virtual package that an installed package provides, such as awk by mawk, is not missing.
  - Check mode warns of names that are in none of the host's package lists.
  - A C(dpkg) run that was interrupted is completed first; locks held by another C(apt) are waited for.
version_added: 0.1.0
author: The mlfleet authors (@mlfleet)
options:
  name:
    description: Names of the packages.
    type: list
    elements: str
    required: true
  state:
    description:
      - Whether they are installed. With V(absent), their units are disabled; their settings and data stay.
      - A package that the system or other installed packages need is not removed, and a warning says so.
    type: str
    choices: [present, absent]
    default: present
  files:
    description:
      - Files of packages on the controller, by the names of the packages, to use instead of apt's sources.
      - Such a package is installed when it is missing or has another version than the file, also an earlier one. The
        file is sent only then.
    type: dict
    default: {}
  versions:
    description: Versions in these files; set by the action.
    type: dict
    default: {}
  starts_services:
    description:
      - Whether newly installed packages may start their services, with the settings that the packages bring.
      - Services of packages that are upgraded at the same time are restarted in any case. A policy of the host's own,
        in C(/usr/sbin/policy-rc.d), is left alone and decides instead.
    type: bool
    default: true
  lock_timeout_seconds:
    description: Timeout for another program that holds apt's locks.
    type: int
    default: 300
attributes:
  check_mode:
    description: Predicts which packages would be installed or removed.
    support: full
  diff_mode:
    description: Lists the packages that are added or removed.
    support: full
"""

EXAMPLES = r"""
- name: Install Redis
  mlfleet.stack.packages:
    name: [redis-server]

- name: Install Grafana from a file on the controller
  mlfleet.stack.packages:
    name: [grafana]
    files: {grafana: /root/grafana_12.1.0_amd64.deb}
"""

RETURN = r"""
installed:
  description: The packages that were missing, or had another version than their files.
  returned: always
  type: list
  elements: str
  sample: [redis-server]
removed:
  description: The packages that were removed.
  returned: always
  type: list
  elements: str
  sample: []
undeclared:
  description: Packages of O(name) that are held back from upgrades, with the command that ends the hold.
  returned: success
  type: list
  elements: dict
  sample: [{kind: held package, name: redis-server, remove: apt-mark unhold redis-server}]
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils.access.strays import stray
from ansible_collections.mlfleet.stack.plugins.module_utils.commands import WORK_SECONDS
from ansible_collections.mlfleet.stack.plugins.module_utils.commands import run as program
from ansible_collections.mlfleet.stack.plugins.module_utils.dpkg import (
    LISTS,
    held,
    lists_are_new,
    missing,
    removable,
    states,
    units,
    unknown,
    versions,
)
from ansible_collections.mlfleet.stack.plugins.module_utils.host_lock import hold

ENVIRONMENT = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
LISTS_SECONDS = 600  # age up to which package lists count as new
LOCKED = ("Could not get lock", "Unable to lock", "was locked by another process")

# Debian asks this file before a package starts a service. It does nothing unless the variable is set, so that it is
# harmless if a killed run leaves it.
POLICY = Path("/usr/sbin/policy-rc.d")
NO_START = {"MLFLEET_NO_START": "1"}
POLICY_TEXT = """\
#!/bin/sh
# Made by mlfleet for the time of an installation: no service starts before it is configured.
[ -n "$MLFLEET_NO_START" ] || exit 0
case " $* " in
*" start "*) exit 101 ;;
# Of a package that was removed before, too.
*" restart "*) systemctl --quiet is-active "$1" || exit 101 ;;
esac
"""


@contextmanager
def nothing_starts() -> Iterator[None]:
    """Keep newly installed services from starting, unless the host has a policy of its own."""
    if POLICY.exists() and "Made by mlfleet" not in POLICY.read_text():
        yield
        return
    POLICY.write_text(POLICY_TEXT)
    POLICY.chmod(0o755)
    ENVIRONMENT.update(NO_START)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def run(command: list[str], lock_timeout_seconds: int) -> None:
    """Run an apt or dpkg command, waiting while another program holds the lock; raise RuntimeError if it fails."""
    deadline = time.monotonic() + lock_timeout_seconds
    while True:
        try:
            done = program(command, WORK_SECONDS, env=ENVIRONMENT)
        except TimeoutError as error:
            raise RuntimeError(str(error)) from None
        if done.returncode == 0:
            return
        if not any(sign in done.stderr for sign in LOCKED) or time.monotonic() > deadline:
            raise RuntimeError(f"{' '.join(command[:2])}: {done.stderr.strip() or done.stdout.strip()[-2000:]}")
        time.sleep(2)


def install(names: list[str], files: dict[str, str], lock_timeout_seconds: int) -> None:
    options = ["--yes", "--no-install-recommends", "--fix-broken", "--option=Dpkg::Options::=--force-confold"]
    lock = f"--option=DPkg::Lock::Timeout={lock_timeout_seconds}"
    if any(name in files for name in names):
        options.append("--allow-downgrades")
    command = ["apt-get", "install", *options, lock, *(files.get(name, name) for name in names)]
    run(["dpkg", "--configure", "--pending", "--force-confold"], lock_timeout_seconds)
    if lists_are_new(LISTS_SECONDS) and not unknown(
        [name for name in names if name not in files]
    ):  # a host's roles install in quick succession
        with suppress(RuntimeError):  # such as when a mirror no longer has what the lists name
            run(command, lock_timeout_seconds)
            return
    run(["apt-get", "update"], lock_timeout_seconds)
    os.utime(LISTS)
    run(command, lock_timeout_seconds)


def remove(names: list[str], lock_timeout_seconds: int) -> None:
    run(["dpkg", "--configure", "--pending", "--force-confold"], lock_timeout_seconds)
    if brought := units(names):  # dpkg keeps the links that enable them, and systemd would miss them at each start
        run(["systemctl", "disable", "--", *brought], lock_timeout_seconds)
    run(
        ["dpkg", "--remove", "--", *names], lock_timeout_seconds
    )  # which takes no other package with them, as apt would


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "files": {"type": "dict", "default": {}},
            "versions": {"type": "dict", "default": {}},
            "starts_services": {"type": "bool", "default": True},
            "lock_timeout_seconds": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    declared, is_wanted = module.params["name"], module.params["state"] == "present"
    files, wanted = module.params["files"], module.params["versions"]
    found = states(declared)
    there = [name for name in declared if found.get(name, ("", ""))[1] == "installed"]
    names = missing(declared, found) if is_wanted else removable(there)
    names += [name for name, version in versions(wanted).items() if version != wanted[name]]
    are_sent = all(name in files for name in names if name in wanted)
    if names and are_sent and not module.check_mode:
        hold(module)
        try:
            with nullcontext() if module.params["starts_services"] else nothing_starts():
                lock_timeout_seconds = module.params["lock_timeout_seconds"]
                install(names, files, lock_timeout_seconds) if is_wanted else remove(names, lock_timeout_seconds)
        except RuntimeError as error:
            done = "installed" if is_wanted else "removed"
            module.fail_json(msg=f"Packages {', '.join(names)} could not be {done}: {error}")
    of_sources = [name for name in names if name not in wanted]
    for name in unknown(of_sources) if of_sources and is_wanted and module.check_mode else []:
        module.warn(f"no package list of this host has {name}; the run fails unless a newer one does")
    for name in [] if is_wanted else sorted(set(there) - set(names)):
        module.warn(f"package {name} stays, because others need it; dpkg --no-act --remove {name} says which")
    texts = [{}, {f"package {name}": wanted.get(name, "installed") for name in names}]
    before, after = texts if is_wanted else reversed(texts)
    undeclared = (
        [stray("held package", name, ["apt-mark", "unhold", name]) for name in held(found)] if is_wanted else []
    )
    module.exit_json(
        changed=bool(names),
        installed=names if is_wanted else [],
        removed=[] if is_wanted else names,
        undeclared=undeclared,
        diff={"before": before, "after": after} if names else {},
    )


if __name__ == "__main__":
    main()
