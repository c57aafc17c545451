#!/usr/bin/python
# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: healthy_unit
short_description: Runs systemd units with their present configuration and waits until they answer
description:
  - Enables and starts units, and restarts those whose files are newer than their start, in one round trip.
  - Because file times and not handlers decide about the restart, a run that was killed between writing a file and
    restarting its service is completed by the next run.
  - Units that these want, such as mounts, are kept at their present configuration too.
  - Then asks the service itself until it answers. One that does not within the bound is a failure, whose message ends
    with the unit's last log lines.
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
      - One that does not run afterwards is a failure. When its own file has changed, O(names) stop before it does.
    type: list
    elements: str
    default: []
  changed_paths:
    description: Files that this run changed; those of O(wants) are looked for, which in check mode have no time to see.
    type: list
    elements: path
    default: []
  files:
    description: Files that the units read at their start.
    type: list
    elements: path
    default: []
  restart:
    description: Whether this run changed one of O(files), which in check mode cannot be seen in their times.
    type: bool
    default: false
  reload_files:
    description: Files that the units take up by a reload, which drops no connection.
    type: list
    elements: path
    default: []
  reload:
    description: Whether this run changed one of O(reload_files).
    type: bool
    default: false
  probe:
    description: How to ask whether the service is healthy; without it a running unit is.
    type: dict
    default: {}
    suboptions:
      http:
        description: URL that has to answer O(probe.status).
        type: str
      status:
        description: Status that is expected from O(probe.http).
        type: int
        default: 200
      headers:
        description: Headers sent to O(probe.http).
        type: dict
        default: {}
      tcp:
        description: Address and port that have to accept a connection, such as V(127.0.0.1:6379).
        type: str
      send:
        description: Line sent to O(probe.tcp).
        type: str
      expect:
        description: Regular expression that the answer of O(probe.tcp) has to match.
        type: str
      tls:
        description: Whether O(probe.send) goes through TLS.
        type: bool
        default: false
      client_certificate:
        description: Path of a certificate to show with O(probe.tls).
        type: path
      client_key:
        description: Path of its key.
        type: path
      log:
        description: Regular expression that the unit's log has to match after a start that this module made.
        type: str
  timeout_seconds:
    description: How long a unit may take to start and to become healthy, each.
    type: int
    default: 90
  stop_timeout_seconds:
    description: How long a unit that is restarted may take to stop, such as a worker that ends its job first.
    type: int
    default: 90
attributes:
  check_mode:
    description: Predicts starts, restarts and stops; asks no probe.
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
    restart: "{{ __redis_files is changed }}"
    probe:
      tcp: 127.0.0.1:6379
      send: PING
      expect: PONG|NOAUTH
"""

RETURN = r"""
actions:
  description: What was done to each unit and why.
  returned: always
  type: dict
  sample: {"redis-server": "restarted, for a file it reads has changed"}
"""

import re
import shutil
import socket
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url
from ansible_collections.mlfleet.stack.plugins.module_utils.systemd import (
    UNITS,
    Unit,
    UnitError,
    command,
    remove_containers,
    reread,
    units,
)

PROBE_SECONDS = 5
PAUSE_SECONDS = 0.5
LOG_LINES = 25


def instances(template: str) -> list[str]:
    """Instances of a template unit that run or are enabled."""
    pattern = f"{template}@*.service"
    loaded = command("systemctl", "list-units", "--all", "--plain", "--no-legend", "--", pattern)
    enabled = UNITS.glob(f"*.wants/{pattern}")
    return sorted({line.split()[0] for line in loaded.splitlines()} | {link.name for link in enabled})


def newest(files: list[str]) -> float:
    """Time of the last change to any of the files that exist, in seconds since the epoch."""
    return max((Path(file).stat().st_mtime for file in files if Path(file).exists()), default=0)


def plan(unit: Unit, options: dict) -> str:
    """What has to be done to the unit; nothing is an empty text."""
    if not unit.is_running:
        return "started, for it did not run"
    if unit.needs_daemon_reload:
        return "restarted, for its unit file has changed"
    if options["restart"] or newest(options["files"]) > unit.started_at:
        return "restarted, for a file it reads has changed"
    if options["reload"] or newest(options["reload_files"]) > unit.loaded_at:
        return "reloaded, for a file it reads has changed"
    if not unit.is_enabled:
        return "enabled, for it would not have come back with the host"
    return ""


def plan_wanted(unit: Unit, changed_paths: list[str]) -> str:
    """The same for a unit that others want."""
    file = str(UNITS / unit.id)
    if not unit.is_running:
        return "started, for it did not run"
    if file in changed_paths or newest([file]) > unit.started_at:
        return "restarted, for its file has changed"
    return ""


def ask(probe: dict, unit: str, started: bool, since: float) -> str:
    """One question to the service; what is wrong with the answer, or an empty text."""
    try:
        if probe.get("http"):
            try:
                status = open_url(
                    probe["http"], headers=probe["headers"], timeout=PROBE_SECONDS, use_proxy=False
                ).status
            except HTTPError as error:
                status = error.code
            if status != probe["status"]:
                return f"{probe['http']} answered {status}"
        if probe.get("tcp"):
            host, _colon, port = probe["tcp"].rpartition(":")
            with socket.create_connection((host, int(port)), timeout=PROBE_SECONDS) as connection:
                if probe.get("send"):
                    answer_text = exchange(connection, probe)
                    if not re.search(probe.get("expect") or "", answer_text):
                        return f"{probe['tcp']} answered {answer_text.strip()!r}"
        if probe.get("log") and started and not re.search(probe["log"], log(unit, since)):
            return f"its log has no line like {probe['log']!r} yet"
    except OSError as error:
        return f"{probe.get('http') or probe.get('tcp')}: {error}"
    return ""


def exchange(connection: socket.socket, probe: dict) -> str:
    """What the service answers to a line. Who it is, ssl_toggle has asked."""
    if probe.get("tls"):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if probe.get("client_certificate"):
            context.load_cert_chain(probe["client_certificate"], probe["client_key"])
        connection = context.wrap_socket(connection)
    connection.sendall(f"{probe['send']}\r\n".encode())
    return connection.recv(4096).decode(errors="replace")


def log(unit: str, since: float, lines: int = 1000) -> str:
    words = ("journalctl", f"--unit={unit}", f"--since=@{int(since)}", f"--lines={lines}", "--no-pager", "--output=cat")
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def wait(unit: str, probe: dict, started: bool, since: float, timeout_seconds: int) -> None:
    """Asks until the unit is healthy; UnitError when it stopped or the time is over."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        state = units([unit])[0].state
        if state in ("failed", "inactive"):
            raise UnitError("it stopped")
        wrong = ask(probe, unit, started, since) if state in ("active", "reloading") else f"its state is {state}"
        if not wrong:
            return
        if time.monotonic() > deadline:
            raise UnitError(f"not healthy within {timeout_seconds} s: {wrong}")
        time.sleep(PAUSE_SECONDS)


def start(unit: Unit, timeout_seconds: int) -> None:
    if unit.state == "failed":  # perhaps after too many starts: another chance
        command("systemctl", "reset-failed", unit.id)
    try:
        command("systemctl", "restart", unit.id, timeout=timeout_seconds)
    except UnitError as error:
        raise UnitError(f"did not start: {error}") from None


def reload(unit: Unit, options: dict) -> None:
    """systemd keeps no trace of a reload that failed, so the next run would not try again."""
    try:
        command("systemctl", "reload", unit.id, timeout=options["timeout_seconds"])
    except UnitError:
        start(unit, options["timeout_seconds"] + options["stop_timeout_seconds"])


def renew(wanted: list[str], users: list[Unit], options: dict) -> None:
    """Restarts units that others want; first those end what they do with them, as a job does with its data."""
    mine = [unit.id for unit in users]
    wanting = set(command("systemctl", "show", "--value", "--property=WantedBy", "--", *wanted).split())
    others = [unit.id for unit in units(sorted(wanting - set(mine))) if unit.is_running] if wanting - set(mine) else []
    command("systemctl", "stop", *mine, *others, timeout=options["stop_timeout_seconds"] + PROBE_SECONDS)
    try:
        command("systemctl", "restart", *wanted, timeout=options["timeout_seconds"])
    except UnitError as error:
        raise UnitError(f"{error}\nUntil it is mended these stay stopped: {', '.join([*mine, *others])}") from None
    if others:
        command("systemctl", "start", *others, timeout=options["timeout_seconds"])


def failure(name: str, error: UnitError, since: float) -> str:
    return f"{name}: {str(error).rstrip('.')}. Its last log lines:\n{log(name, since, LOG_LINES)}"


def run_wanted(wanted: list[str], since: float, options: dict) -> list[str]:
    """Starts those that do not run; what is wrong with the ones that cannot. One without a user stops again."""
    failed = []
    for unit in units(wanted) if wanted else []:
        try:
            if not unit.is_running:
                command("systemctl", "start", unit.id, timeout=options["timeout_seconds"])
        except UnitError as error:
            failed.append(failure(unit.id, UnitError(f"did not start: {error}"), since))
    return failed


def run(unit: Unit, action: str, since: float, options: dict) -> str:
    """Does with a unit what was planned, and waits until it is healthy; what is wrong, or an empty text."""
    started = action.startswith(("started", "restarted"))
    try:
        if started:
            start(unit, options["timeout_seconds"] + options["stop_timeout_seconds"])
        elif action.startswith("reloaded"):
            reload(unit, options)
        wait(unit.id, options["probe"], started, since, options["timeout_seconds"])
    except UnitError as error:
        return failure(unit.id, error, since)
    return ""


def run_all(current: list[Unit], planned: dict[str, str], since: float, options: dict) -> list[str]:
    """At once, for each may take its time to end what it does; what is wrong with them."""
    with ThreadPoolExecutor(max_workers=len(current) or 1) as pool:
        return [wrong for wrong in pool.map(lambda unit: run(unit, planned[unit.id], since, options), current) if wrong]


def prepare(current: list[Unit], wanted: list[Unit], surplus: list[str], options: dict) -> None:
    """Has systemd know the units as they are on disk, starts them with the host, and stops those that are too many."""
    for name in surplus:
        shutil.rmtree(UNITS / f"{name}.d", ignore_errors=True)
    reread(current, options["stop_timeout_seconds"] + PROBE_SECONDS, others=wanted)
    if surplus:
        try:
            command("systemctl", "disable", "--now", *surplus, timeout=options["stop_timeout_seconds"] + PROBE_SECONDS)
        except UnitError as error:
            raise UnitError(f"{', '.join(surplus)} did not stop: {error}") from None
        remove_containers(surplus)
    if disabled := [unit.id for unit in current if not unit.is_enabled]:
        command("systemctl", "enable", "--quiet", *disabled)


def main() -> None:
    probe_options = {
        "http": {"type": "str"},
        "status": {"type": "int", "default": 200},
        "headers": {"type": "dict", "default": {}},
        "tcp": {"type": "str"},
        "send": {"type": "str"},
        "expect": {"type": "str"},
        "tls": {"type": "bool", "default": False},
        "client_certificate": {"type": "path"},
        "client_key": {"type": "path", "no_log": False},
        "log": {"type": "str"},
    }
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "template": {"type": "str"},
            "wants": {"type": "list", "elements": "str", "default": []},
            "changed_paths": {"type": "list", "elements": "path", "default": []},
            "files": {"type": "list", "elements": "path", "default": []},
            "restart": {"type": "bool", "default": False},
            "reload_files": {"type": "list", "elements": "path", "default": []},
            "reload": {"type": "bool", "default": False},
            "probe": {"type": "dict", "default": {}, "options": probe_options},
            "timeout_seconds": {"type": "int", "default": 90},
            "stop_timeout_seconds": {"type": "int", "default": 90},
        },
        supports_check_mode=True,
    )
    options = module.params
    current = units(options["names"]) if options["names"] else []
    planned = {unit.id: plan(unit, options) for unit in current}
    if options["template"]:
        listed = {unit.id for unit in current}
        surplus = [name for name in instances(options["template"]) if name not in listed]
        planned.update(dict.fromkeys(surplus, "stopped, for the inventory does not want it"))
    wanted = units(options["wants"]) if options["wants"] and current else []
    planned.update({unit.id: plan_wanted(unit, options["changed_paths"]) for unit in wanted})
    if renewed := [unit.id for unit in wanted if planned[unit.id].startswith("restarted")]:
        planned.update({unit.id: planned[unit.id] or "restarted, for what it wants is" for unit in current})
    actions = {name: action for name, action in planned.items() if action}

    if not module.check_mode:
        since = time.time()
        try:
            stopped = [name for name, action in actions.items() if action.startswith("stopped")]
            prepare(current, wanted, stopped, options)
            if renewed:
                renew(renewed, current, options)
        except UnitError as error:
            module.fail_json(msg=str(error))
        names = [unit.id for unit in wanted]
        # Before the units start, for a worker without its data would fail its jobs; and after, for data that nobody
        # wanted until then is gone again.
        failed = (
            run_wanted(names, since, options)
            or run_all(current, planned, since, options)
            or run_wanted(names, since, options)
        )
        if failed:
            module.fail_json(msg="\n".join(failed))

    diff = {
        "before": "".join(f"{unit.id}: {unit.state}\n" for unit in current + wanted if unit.id in actions),
        "after": "".join(f"{name}: {action}\n" for name, action in actions.items()),
    }
    module.exit_json(changed=bool(actions), actions=actions, diff=diff if actions else {})


if __name__ == "__main__":
    main()
