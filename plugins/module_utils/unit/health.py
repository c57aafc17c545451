# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keep systemd units at their present configuration, and check whether they answer."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

from ansible.module_utils.common.warnings import warn
from ansible.module_utils.urls import open_url
from ansible_collections.mlfleet.stack.plugins.module_utils import environments, live
from ansible_collections.mlfleet.stack.plugins.module_utils.access.strays import stray
from ansible_collections.mlfleet.stack.plugins.module_utils.commands import run as program
from ansible_collections.mlfleet.stack.plugins.module_utils.files import OURS
from ansible_collections.mlfleet.stack.plugins.module_utils.unit import migrations
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.systemd import (
    UNITS,
    Unit,
    UnitError,
    command,
    remove_containers,
    reread,
    units,
)

ARGUMENT_SPEC = {
    "names": {"type": "list", "elements": "str", "required": True},
    "template": {"type": "str"},
    "wants": {"type": "list", "elements": "str", "default": []},
    "changed_paths": {"type": "list", "elements": "path", "default": []},
    "files": {"type": "list", "elements": "path", "default": []},
    "restart": {"type": "bool", "default": False},
    "reload_files": {"type": "list", "elements": "path", "default": []},
    "probe": {
        "type": "dict",
        "default": {},
        "options": {
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
            "reloaded": {"type": "str"},
        },
    },
    "live": live.OPTION,
    "migration": migrations.OPTION,
    "timeout_seconds": {"type": "int", "default": 90},
    "stop_timeout_seconds": {"type": "int", "default": 90},
}

PROBE_SECONDS = 5
DROP_INS = (UNITS, Path("/run/systemd/system"))  # directories for administrators
PAUSE_SECONDS = 0.5
RELOAD_SECONDS = 10
LOG_LINES = 25


def instances(template: str) -> list[str]:
    """Return the instances of a template unit that are running or enabled."""
    pattern = f"{template}@*.service"
    loaded = command("systemctl", "list-units", "--all", "--plain", "--no-legend", "--", pattern)
    enabled = UNITS.glob(f"*.wants/{pattern}")
    return sorted({line.split()[0] for line in loaded.splitlines()} | {link.name for link in enabled})


def services(names: list[str]) -> list[Unit]:
    """Return the services that the timers among the units start."""
    timers = [name for name in names if name.endswith(".timer")]
    return units([name.removesuffix(".timer") + ".service" for name in timers]) if timers else []


def newest(files: list[str]) -> float:
    """Return the time of the last change to any of the existing files, in seconds since the epoch."""
    return max((Path(file).stat().st_mtime for file in files if Path(file).exists()), default=0)


def is_changed(files: list[str], changed_paths: list[str], since: float) -> bool:
    """Return whether one of the files is newer, or in check mode would be, after a run has changed it."""
    return not set(changed_paths).isdisjoint(files) or newest(files) > since


def plan(unit: Unit, options: dict) -> str:
    """Return the action that the unit needs, or an empty text."""
    if not unit.is_running:
        return "started, because it was not running"
    if unit.needs_daemon_reload:
        return "restarted, because its unit file has changed"
    changed = options["changed_paths"]
    if options["restart"] or is_changed(options["files"], changed, unit.started_at):
        return "restarted, because a file it reads has changed"
    if is_changed(options["reload_files"], changed, unit.loaded_at):
        return "reloaded, because a file it reads has changed"
    if wrong := other_in_memory(options):
        return f"restarted, because {wrong}"
    if not unit.is_enabled:
        return "enabled, because it would not have started with the host"
    return ""


def plan_wanted(unit: Unit, changed_paths: list[str]) -> str:
    """Return the same for a unit that others want."""
    file = str(UNITS / unit.id)
    if not unit.is_running:
        return "started, because it was not running"
    if is_changed([file], changed_paths, unit.started_at):
        return "restarted, because its file has changed"
    return ""


def ask(probe: dict, unit: str, started: bool, since: float) -> str:
    """Probe the service once; return what is wrong with the answer, or an empty text."""
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
    except (HTTPException, ValueError) as error:  # for some malformed answers, the library raises ValueError
        return f"{probe.get('http') or probe.get('tcp')} answered what is no HTTP: {error!r}"
    return ""


def exchange(connection: socket.socket, probe: dict) -> str:
    """Return the service's answer to a line."""
    connection = secured(connection, probe)
    connection.sendall(f"{probe['send']}\r\n".encode())
    return connection.recv(4096).decode(errors="replace")


def secured(connection: socket.socket, probe: dict) -> socket.socket:
    """Return the connection, with TLS if the probe requires it. A caller that sends a secret must check the server."""
    if not probe.get("tls"):
        return connection
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if probe.get("client_certificate"):
        context.load_cert_chain(probe["client_certificate"], probe["client_key"])
    return context.wrap_socket(connection)


def other_in_memory(options: dict) -> str:
    """Return how a running program differs from its files; nothing if it cannot be asked or does not answer."""
    if not options["live"]:
        return ""
    host, _colon, port = options["probe"]["tcp"].rpartition(":")
    try:
        with (
            socket.create_connection((host, int(port)), timeout=PROBE_SECONDS) as plain,
            secured(plain, options["probe"]) as connection,
        ):
            return live.PROGRAMS[options["live"]["program"]].difference(connection, options["live"])
    except OSError:
        return ""


def strays(current: list[Unit]) -> list[dict]:
    """Report drop-ins of others that change the units, or will when systemd reads them."""
    names = dict.fromkeys(name for unit in current for name in (unit.id, re.sub("@.*[.]", "@.", unit.id)))
    found = []
    for name in names:
        restart = ["systemctl", "daemon-reload"], ["systemctl", "try-restart", name.replace("@.", "@*.")]
        paths = [path for where in DROP_INS for path in sorted(where.glob(f"{name}.d/*.conf"))]
        found += [
            stray("drop-in of a unit", str(path), ["rm", str(path)], *restart)
            for path in paths
            if OURS not in path.read_bytes()
        ]
    return found


def log(unit: str, since: float, lines: int = 1000) -> str:
    """Return the last lines since then. Given only a start, journalctl would count from there, hence --reverse."""
    words = ("journalctl", f"--unit={unit}", f"--since=@{int(since)}", f"--lines={lines}", "--no-pager", "--output=cat")
    return "\n".join(reversed(program([*words, "--reverse"]).stdout.strip().splitlines()))


def let_migrate(migration: dict | None, start_seconds: float) -> tuple[str, float]:
    """Wait while a database is being migrated; return what was done, and how long it took."""
    words, begun = "", time.monotonic()
    while migration and (now := migrations.under_way(migration["file"])):
        words = now
        if (seconds := time.monotonic() - begun) > migration["timeout_seconds"] + start_seconds:
            raise UnitError(f"{words}, for {seconds:.0f} s now. It goes on; another run waits for it")
        time.sleep(PAUSE_SECONDS)
    return words, time.monotonic() - begun


def wait(
    unit: str,
    probe: dict,
    started: bool,
    since: float,
    timeout_seconds: int,
    can_go_back: bool = False,
    migration: dict | None = None,
    found: Unit | None = None,
) -> None:
    """Wait until the unit is healthy; raise UnitError if it stops or the time is over.

    A unit that can go back to its previous files fails after its second try. A migration of its database has a separate
    timeout, and causes a warning if it took longer than a start may. I(found) is the unit's state, if it was just read.
    """
    deadline, waited_for, waited_seconds = time.monotonic() + timeout_seconds, "", 0.0
    while True:
        now = found or units([unit])[0]
        found, state = None, now.state
        if state in ("failed", "inactive"):
            raise UnitError("it stopped")
        if can_go_back and now.has_ended_again:
            raise UnitError("it ended twice")
        words, seconds = let_migrate(migration, timeout_seconds)
        if words:
            waited_for, waited_seconds = words, waited_seconds + seconds
            deadline = time.monotonic() + timeout_seconds
            continue
        wrong = ask(probe, unit, started, since) if state in ("active", "reloading") else f"its state is {state}"
        if not wrong:
            if waited_seconds > timeout_seconds:
                warn(f"{unit}: {waited_for}, which took {waited_seconds:.0f} s")
            return
        if time.monotonic() > deadline:
            raise UnitError(f"not healthy within {timeout_seconds} s: {wrong}")
        time.sleep(PAUSE_SECONDS)


def is_kept_by_database(options: dict) -> bool:
    """Return whether other files cannot help, because the unit's database is being migrated or was refused."""
    migration = options["migration"]
    return bool(migration) and (
        bool(migrations.under_way(migration["file"]))
        or any(unit.exit_status == migrations.REFUSED for unit in units(options["names"]))
    )


def wait_for_reload(unit: str, probe: dict, since: float) -> None:
    """Wait for the log line of a reload: some programs keep their settings if they refuse new ones, and only log it."""
    deadline = time.monotonic() + RELOAD_SECONDS
    while probe.get("reloaded") and not re.search(probe["reloaded"], log(unit, since)):
        if time.monotonic() > deadline:
            raise UnitError("it has not taken up its new files")
        time.sleep(PAUSE_SECONDS)


def start(unit: Unit, timeout_seconds: int) -> None:
    if unit.state == "failed":  # perhaps after too many starts, which would prevent another one
        command("systemctl", "reset-failed", unit.id)
    try:
        command("systemctl", "restart", unit.id, timeout=timeout_seconds)
    except UnitError as error:
        raise UnitError(f"did not start: {error}") from None


def reload(unit: Unit, options: dict, can_go_back: bool) -> None:
    """Reload; restart after a failure unless the files can go back, because systemd keeps no trace of a failure."""
    try:
        command("systemctl", "reload", unit.id, timeout=options["timeout_seconds"])
    except UnitError as error:
        if can_go_back:
            raise UnitError(f"did not reload: {error}") from None
        start(unit, options["timeout_seconds"] + options["stop_timeout_seconds"])


def renew(wanted: list[str], users: list[Unit], options: dict) -> None:
    """Restart units that others want, after stopping these others, so that they finish what they do with them."""
    mine = [unit.id for unit in users]
    wanting = set(command("systemctl", "show", "--value", "--property=WantedBy", "--", *wanted).split())
    others = [unit.id for unit in units(sorted(wanting - set(mine))) if unit.is_running] if wanting - set(mine) else []
    command("systemctl", "stop", *mine, *others, timeout=options["stop_timeout_seconds"] + PROBE_SECONDS)
    try:
        command("systemctl", "restart", *wanted, timeout=options["timeout_seconds"])
    except UnitError as error:
        raise UnitError(f"{error}\nUntil this is fixed, these stay stopped: {', '.join([*mine, *others])}") from None
    if others:
        command("systemctl", "start", *others, timeout=options["timeout_seconds"])


def failure(name: str, error: UnitError, since: float) -> str:
    return f"{name}: {str(error).rstrip('.')}. Its last log lines:\n{log(name, since, LOG_LINES)}"


def run_wanted(wanted: list[str], since: float, options: dict) -> list[str]:
    """Start those that are not running, and return the failures. A unit that nothing uses stops again."""
    failed = []
    for unit in units(wanted) if wanted else []:
        try:
            if not unit.is_running:
                command("systemctl", "start", unit.id, timeout=options["timeout_seconds"])
        except UnitError as error:
            failed.append(failure(unit.id, UnitError(f"did not start: {error}"), since))
    return failed


def run(unit: Unit, action: str, since: float, options: dict, can_go_back: bool, is_as_found: bool) -> str:
    """Carry out the planned action and wait until the unit is healthy; return what is wrong, or an empty text."""
    started = action.startswith(("started", "restarted"))
    try:
        if started:
            start(unit, options["timeout_seconds"] + options["stop_timeout_seconds"])
        elif action.startswith("reloaded"):
            reload(unit, options, can_go_back)
            wait_for_reload(unit.id, options["probe"], since)
        bound, migration = options["timeout_seconds"], options["migration"]
        found = unit if is_as_found else None
        wait(unit.id, options["probe"], started, since, bound, can_go_back, migration, found)
    except UnitError as error:
        return failure(unit.id, error, since)
    return ""


def run_all(
    current: list[Unit],
    planned: dict[str, str],
    since: float,
    options: dict,
    can_go_back: bool,
    are_as_found: bool,
) -> list[str]:
    """Run all units in parallel, because each may take long to finish its work; return the failures."""
    with ThreadPoolExecutor(max_workers=len(current) or 1) as pool:
        found = pool.map(lambda unit: run(unit, planned[unit.id], since, options, can_go_back, are_as_found), current)
        return [wrong for wrong in found if wrong]


def prepare(current: list[Unit], others: list[Unit], surplus: list[str], options: dict) -> None:
    """Make systemd read the units on disk, enable them, and stop surplus ones."""
    for name in surplus:
        shutil.rmtree(UNITS / f"{name}.d", ignore_errors=True)
    reread(current, options["stop_timeout_seconds"] + PROBE_SECONDS, others=others)
    if surplus:
        try:
            command("systemctl", "disable", "--now", *surplus, timeout=options["stop_timeout_seconds"] + PROBE_SECONDS)
        except UnitError as error:
            raise UnitError(f"{', '.join(surplus)} did not stop: {error}") from None
        with suppress(UnitError):  # one that failed to stop would stay listed, and so be surplus forever
            command("systemctl", "reset-failed", *surplus)
        remove_containers(surplus, options["stop_timeout_seconds"] + PROBE_SECONDS)
    if disabled := [unit.id for unit in current if not unit.is_enabled]:
        command("systemctl", "enable", "--quiet", *disabled)


def keep(options: dict, check_mode: bool, can_go_back: bool = False) -> dict:
    """Run the units with the files on disk, or report what would change; return the module's result.

    C(can_go_back) means that the caller restores the previous files if this fails, so it should fail early.

    Raises:
        UnitError: a unit fails an action, or does not answer; with its last log lines.
    """
    current = units(options["names"]) if options["names"] else []
    scheduled = services([unit.id for unit in current])
    planned = {unit.id: plan(unit, options) for unit in current}
    if any(unit.needs_daemon_reload for unit in scheduled):
        planned = {name: action or "restarted, because its unit file has changed" for name, action in planned.items()}
    if options["template"]:
        listed = {unit.id for unit in current}
        surplus = [name for name in instances(options["template"]) if name not in listed]
        planned.update(dict.fromkeys(surplus, "stopped, because the inventory does not declare it"))
    wanted = units(options["wants"]) if options["wants"] and current else []
    planned.update({unit.id: plan_wanted(unit, options["changed_paths"]) for unit in wanted})
    if renewed := [unit.id for unit in wanted if planned[unit.id].startswith("restarted")]:
        planned.update({unit.id: planned[unit.id] or "restarted, because a unit it wants is" for unit in current})
    actions = {name: action for name, action in planned.items() if action}

    if not check_mode:
        since = time.time()
        surplus = [name for name, action in actions.items() if action.startswith("stopped")]
        # A migration would start over if its unit were stopped.
        waited_for, _seconds = let_migrate(options["migration"], options["timeout_seconds"])
        prepare(current, wanted + scheduled, surplus, options)
        if renewed:
            renew(renewed, current, options)
        names = [unit.id for unit in wanted]
        # Before the units start, because a worker without its data would fail its jobs; and after, because a mount
        # that nothing used until then has stopped again.
        failed = (
            run_wanted(names, since, options)
            or run_all(current, planned, since, options, can_go_back, not actions and not waited_for)
            or run_wanted(names, since, options)
        )
        if failed:
            raise UnitError("\n".join(failed))
        for stamp in map(Path, options["files"] if actions else []):
            if stamp.name == environments.STAMP:  # the previous environment was in use until now
                environments.clear(stamp.parent)

    states = {unit.id: unit.state for unit in current + wanted}
    diff = [
        {
            "before_header": name,
            "after_header": name,
            "before": f"{states[name]}\n" if name in states else "",
            "after": f"{action}\n",
        }
        for name, action in actions.items()
    ]
    return {"changed": bool(actions), "actions": actions, "diff": diff, "undeclared": strays(current + scheduled)}
