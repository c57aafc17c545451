# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""systemd's units and their states."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from ansible_collections.mlfleet.stack.plugins.module_utils.commands import QUESTION_SECONDS, run
from ansible_collections.mlfleet.stack.plugins.module_utils.containers import DockerError, docker
from ansible_collections.mlfleet.stack.plugins.module_utils.files import OURS

PROPERTIES = (
    "Id,LoadState,ActiveState,SubState,UnitFileState,NeedDaemonReload,"
    "FragmentPath,DropInPaths,InactiveExitTimestampMonotonic,StateChangeTimestampMonotonic,NRestarts,ExecMainStatus"
)
UNITS = Path("/etc/systemd/system")
KILL_SECONDS = 5  # for systemd to kill what has not stopped in time
UNIT_LABEL = "mlfleet.unit"  # label of a container; its value is the systemd unit that runs it


class UnitError(Exception):
    """A unit that failed an action, or does not answer."""


def ours(prefixes: Iterable[str] = ()) -> list[tuple[str, Path]]:
    """Return our units of this host, each with its file: those with such a prefix, and those made by us."""
    files = sorted([*UNITS.glob("*.service"), *UNITS.glob("*.timer"), *UNITS.glob("*.service.d/*.conf")])
    return [
        (name, file)
        for file in files
        if (name := (file if file.suffix != ".conf" else Path(file.parent.stem)).stem).startswith(tuple(prefixes))
        or (file.is_file() and OURS in file.read_bytes())
    ]


def command(*words: str, timeout: float = QUESTION_SECONDS) -> str:
    try:
        done = run(list(words), timeout)
    except TimeoutError:
        raise UnitError(f"{' '.join(words)} did not end within {timeout:.0f} s") from None
    if done.returncode != 0:
        raise UnitError((done.stderr or done.stdout).strip())
    return done.stdout


def stop(units: list[str], timeout: float) -> None:
    """Stop the units of these names or patterns."""
    if units:
        command("systemctl", "stop", "--", *units, timeout=timeout + KILL_SECONDS)


def since_epoch(monotonic_microseconds: str) -> float:
    """Convert one of systemd's times to seconds since the epoch."""
    age_seconds = time.clock_gettime(time.CLOCK_MONOTONIC) - int(monotonic_microseconds or 0) / 1e6
    return time.time() - age_seconds


class Unit:
    """The present state of a systemd unit."""

    def __init__(self, properties: dict[str, str]) -> None:
        self.id = properties["Id"]
        self.is_known = properties["LoadState"] != "not-found"
        self.state = properties["ActiveState"]
        self.is_enabled = properties["UnitFileState"] in ("enabled", "static", "generated")
        # systemd does not notice our file that overrides a package's, nor a drop-in in a new directory.
        ours = UNITS / self.id
        is_hidden = ours.exists() and str(ours) != properties["FragmentPath"]
        beside = [path for path in (UNITS / f"{self.id}.d").glob("*.conf") if OURS in path.read_bytes()]
        is_hidden |= not {str(path) for path in beside} <= set(properties["DropInPaths"].split())
        self.needs_daemon_reload = properties["NeedDaemonReload"] == "yes" or (self.is_known and is_hidden)
        self.start = properties["InactiveExitTimestampMonotonic"]
        self.started_at = since_epoch(self.start)
        # It waits for systemd to restart it, not for the first time since its start; timers have no number.
        is_waiting = properties["SubState"].startswith("auto-restart")
        self.has_ended_again = is_waiting and properties.get("NRestarts", "0") != "0"
        self.exit_status = int(properties.get("ExecMainStatus", 0))
        # A running unit changes its state only for a reload.
        self.loaded_at = since_epoch(properties["StateChangeTimestampMonotonic"])

    @property
    def is_running(self) -> bool:
        return self.state in ("active", "reloading")

    def is_same_process(self, other: Unit | None) -> bool:
        """Return whether it has been running without interruption since the other state was read."""
        return other is not None and self.start == other.start


def units(names: list[str]) -> list[Unit]:
    """Return the units of these names, in their order."""
    shown = command("systemctl", "show", f"--property={PROPERTIES}", "--", *names)
    blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.strip().split("\n\n")]
    return [Unit(block) for block in blocks]


def reread(current: list[Unit], timeout: float, others: list[Unit] | None = None) -> None:
    """Make systemd read the units on disk. Changed ones are stopped first, as their previous file defines how.

    The files of I(others) are read as well, but these are not stopped.
    """
    outdated = [unit for unit in current if unit.needs_daemon_reload]
    if running := [unit.id for unit in outdated if unit.is_running]:
        command("systemctl", "stop", "--", *running, timeout=timeout)
    remove_containers([unit.id for unit in outdated], timeout)
    known = current + (others or [])
    if any(unit.needs_daemon_reload or not unit.is_known for unit in known):
        command("systemctl", "daemon-reload")


def remove_containers(names: list[str], timeout: float = QUESTION_SECONDS) -> None:
    """Stop containers of units that systemd has lost, such as when it stopped the unit while the engine was down."""
    for name in names:
        label = f"label={UNIT_LABEL}={name.removesuffix('.service')}"
        try:
            found = docker("ps", "--all", "--quiet", "--filter", label).split()
        except DockerError:  # without an engine there are none
            return
        try:
            if found:
                docker("stop", *found, seconds=timeout)
                docker("rm", "--force", *found)
        except DockerError as error:
            raise UnitError(f"the container of {name} does not stop: {error}") from None
