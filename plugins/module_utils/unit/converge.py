# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Manage everything about a host's unit, its user, files, TLS and state, one after the other in one process."""

from __future__ import annotations

import grp
import os
import pwd
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible_collections.mlfleet.stack.plugins.module_utils import files
from ansible_collections.mlfleet.stack.plugins.module_utils.unit import health, removal
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.systemd import (
    UNITS,
    Unit,
    UnitError,
    command,
    remove_containers,
    units,
)

Result = dict[str, Any]
SETTLE_SECONDS = 5  # within which a program ends if it cannot run with its files


def converge(items: list[files.Item], options: dict[str, Any], check_mode: bool, with_diff: bool) -> Result:
    """Bring user, files, TLS and state to what is declared, or report what would change; return the module's result.

    A running unit that cannot run with the new files gets the old ones back. If none was running, the new ones stay.

    Raises:
        FilesError: the files cannot be installed; they are unchanged.
        ToggleError: TLS is not valid, or not accepted by the service; TLS is unchanged.
        UnitError: the user cannot be created, or the unit does not answer; with its last log lines.
    """
    if options["state"] != "present":
        return removal.remove(items, options, check_mode, with_diff)
    results: dict[str, Result] = {}
    running: list[Unit] = []
    failures: list[Exception] = []
    if options["user"]:
        results["user"] = account(options["user"], options["shell"], check_mode)
        if options["home"] and not check_mode:
            hand_over(options["home"], options["user"], options["run"])

    def take_up(installed: Result) -> None:
        results["files"] = installed
        try:
            if installed["changed"] and not check_mode and options["run"]["names"]:
                running.extend(unit for unit in units(options["run"]["names"]) if unit.is_running)
            if options["peers"] and not check_mode and restarts(taken_up(options, installed, False, True)):
                wait_for_peers(options["peers"], options["run"]["timeout_seconds"])
            results.update(taken_up(options, installed, bool(running), check_mode))
        except UnitError as error:
            if running and not health.is_kept_by_database(options["run"]):
                raise
            failures.append(error)

    try:
        installed = results["files"] = files.install(items, check_mode, with_diff, take_up)
    except UnitError as error:
        raise UnitError(f"{error}\n{go_back(running, options['run'], results['files']['changed_paths'])}") from error
    if failures:
        raise failures[0]
    # Last, because they state that it has run with its data.
    results["marks"] = files.install(files.parse(options["marks"]), check_mode, with_diff)
    return {
        "changed": any(result["changed"] for result in results.values()),
        "changed_paths": installed["changed_paths"],
        "actions": results["run"]["actions"],
        "tls": present_tls(options, results, check_mode),
        "undeclared": [entry for result in results.values() for entry in result.get("undeclared", [])],
        "diff": [entry for result in results.values() for entry in result.get("diff", [])] if with_diff else [],
    }


def present_tls(options: dict[str, Any], results: dict[str, Result], check_mode: bool) -> Result:
    """Return whether the service speaks TLS now; nothing if only its files tell, which are then as declared."""
    if options["tls"]:
        return {name: results["tls"][name] for name in ("service", "speaks_tls")}
    if not (check_mode and results["run"]["changed"]):
        return {}
    probed = urlsplit(options["run"]["probe"].get("http") or "")
    if not probed.port:
        return {}
    # Imported here, because it loads a slow library.
    from ansible_collections.mlfleet.stack.plugins.module_utils.tls import take_up, toggle

    service = take_up.Service(unit="", owner="", directory="", address=probed.netloc)
    return {"speaks_tls": toggle.speaks_tls(service, probed.scheme == "https")}


def restarts(predicted: dict[str, Result]) -> bool:
    """Return whether a running unit would be restarted, by what check mode predicts."""
    actions = predicted["run"]["actions"].values()
    return predicted.get("tls", {}).get("restarts", False) or any(each.startswith("restarted") for each in actions)


def wait_for_peers(peers: dict[str, Any], seconds: int) -> None:
    """Wait until the service on other hosts can do without this one.

    Raises:
        UnitError: it cannot, by the end of that time.
    """
    # Imported here, because only a cluster needs it.
    from ansible_collections.mlfleet.stack.plugins.module_utils import rabbitmq_cluster

    if wrong := rabbitmq_cluster.wait_until_spare(peers, seconds):
        raise UnitError(f"not restarted within {seconds} s, because {wrong}; the run after that is mended goes on")


def taken_up(options: dict[str, Any], installed: Result, can_go_back: bool, check_mode: bool) -> dict[str, Result]:
    """Bring TLS and state to their declared state, after the files."""
    results = {}
    if options["tls"]:
        # Imported here, because it loads a slow library.
        from ansible_collections.mlfleet.stack.plugins.module_utils.tls import toggle

        results["tls"] = toggle.switch(options["tls"], check_mode)
    told = told_of(options["run"], installed, options["reloads"])
    return results | {"run": health.keep(told, check_mode, can_go_back)}


def go_back(running: list[Unit], run: dict[str, Any], changed: list[str]) -> str:
    """Run the units with their restored files, and return the outcome as text.

    systemd does not notice that a unit's file is an older one again, and the probe would test the refused state.
    """
    before = {unit.id: unit for unit in running}
    names = ", ".join(before)
    timeout = run["timeout_seconds"] + run["stop_timeout_seconds"]
    try:
        now = units(run["names"])
        # Those that were only reloaded have kept running.
        kept = [unit.id for unit in now if unit.is_running and unit.is_same_process(before.get(unit.id))]
        if ended := [unit.id for unit in now if unit.id not in kept]:
            mounts = [name for name in run["wants"] if str(UNITS / name) in changed]
            command("systemctl", "stop", "--", *ended, *mounts, timeout=timeout)
            remove_containers(ended)
            command("systemctl", "daemon-reload")
        for name in before:
            if name in kept:
                command("systemctl", "reload", "--", name, timeout=timeout)
            else:
                health.start(before[name], timeout)
        time.sleep(SETTLE_SECONDS)
        for name in before:
            health.wait(name, {}, True, 0, run["timeout_seconds"], can_go_back=True)
    except UnitError as error:
        return f"The former files are back, but {names} does not run with them either: {error}"
    return f"The former files are back, and {names} runs with them."


def account(name: str, shell: str | None, check_mode: bool) -> dict[str, Any]:
    """Provide a system account with its own group and without a home; an empty shell keeps the present one."""
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        found = None
    is_other = bool(shell) and found is not None and found.pw_shell != shell
    if not check_mode and found is None:
        groups = [group.gr_name for group in grp.getgrall()]
        of_group = ["--gid", name] if name in groups else ["--user-group"]
        of_shell = ["--shell", shell] if shell else []
        command("useradd", "--system", "--no-create-home", *of_group, *of_shell, "--", name)
    elif not check_mode and is_other:
        command("usermod", "--shell", str(shell), "--", name)
    before = f"shell {found.pw_shell}\n" if found else ""
    after = f"shell {shell}\n" if shell else ""
    texts = {"before_header": f"user {name}", "after_header": f"user {name}", "before": before, "after": after}
    changed = found is None or is_other
    return {"changed": changed, "diff": [texts] if changed else []}


def hand_over(home: str, user: str, run: dict[str, Any]) -> None:
    """Give the contents of a home to its new user; the home itself follows with the files, so the next run can tell."""
    former = Path(home).lstat().st_uid if Path(home).is_dir() else 0
    found = pwd.getpwnam(user)
    if former in (0, found.pw_uid):
        return
    ended = [f"{run['template']}@*.service"] if run["template"] else run["names"]
    command("systemctl", "stop", "--", *ended, timeout=run["stop_timeout_seconds"])
    for _path, directories, names, place in os.fwalk(home):
        for name in directories + names:
            if os.stat(name, dir_fd=place, follow_symlinks=False).st_uid == former:
                os.chown(name, found.pw_uid, found.pw_gid, dir_fd=place, follow_symlinks=False)


def told_of(run: dict[str, Any], installed: dict[str, Any], reloads: bool) -> dict[str, Any]:
    """Return the options of healthy_unit, including the files that this call has installed or changed."""
    paths, changed = installed["paths"], installed["changed_paths"]
    taken_up = "reload_files" if reloads else "files"
    own = [path for path in paths + changed if path not in run["reload_files"]]
    return run | {taken_up: run[taken_up] + own, "changed_paths": run["changed_paths"] + changed}
