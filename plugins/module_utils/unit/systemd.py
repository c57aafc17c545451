# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What systemd says of its units."""

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
UNIT_LABEL = "mlfleet.unit"  # of a container; its value is the systemd unit that runs it


class UnitError(Exception):
    """A unit that did not do as it was told, or does not answer."""


def ours(prefixes: Iterable[str] = ()) -> list[tuple[str, Path]]:
    """Our units of this host, each with its file: those whose names begin so, and those of our making."""
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


def since_epoch(monotonic_microseconds: str) -> float:
    """A time of systemd's in seconds since the epoch."""
    age_seconds = time.clock_gettime(time.CLOCK_MONOTONIC) - int(monotonic_microseconds or 0) / 1e6
    return time.time() - age_seconds


class Unit:
    """A systemd unit as it is now."""

    def __init__(self, properties: dict[str, str]) -> None:
        self.id = properties["Id"]
        self.is_known = properties["LoadState"] != "not-found"
        self.state = properties["ActiveState"]
        self.is_enabled = properties["UnitFileState"] in ("enabled", "static", "generated")
        # A file of ours over a package's is not noticed by systemd itself, nor is one beside it in a new directory.
        ours = UNITS / self.id
        is_hidden = ours.exists() and str(ours) != properties["FragmentPath"]
        beside = [path for path in (UNITS / f"{self.id}.d").glob("*.conf") if OURS in path.read_bytes()]
        is_hidden |= not {str(path) for path in beside} <= set(properties["DropInPaths"].split())
        self.needs_daemon_reload = properties["NeedDaemonReload"] == "yes" or (self.is_known and is_hidden)
        self.start = properties["InactiveExitTimestampMonotonic"]
        self.started_at = since_epoch(self.start)
        # Waits for systemd to start it, which did so already since somebody else has; timers have no number.
        is_waiting = properties["SubState"].startswith("auto-restart")
        self.has_ended_again = is_waiting and properties.get("NRestarts", "0") != "0"
        self.exit_status = int(properties.get("ExecMainStatus", 0))
        # A running unit changes its state only to reload.
        self.loaded_at = since_epoch(properties["StateChangeTimestampMonotonic"])

    @property
    def is_running(self) -> bool:
        return self.state in ("active", "reloading")

    def is_same_process(self, other: Unit | None) -> bool:
        """Whether it has not ended since it was looked at."""
        return other is not None and self.start == other.start


def units(names: list[str]) -> list[Unit]:
    """The units of these names, in their order."""
    shown = command("systemctl", "show", f"--property={PROPERTIES}", "--", *names)
    blocks = [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.strip().split("\n\n")]
    return [Unit(block) for block in blocks]


def reread(current: list[Unit], timeout: float, others: list[Unit] | None = None) -> None:
    """Has systemd know units as they are on disk. Changed ones stop before, as only their former file says how.

    Of I(others) the files are read as well, and nothing is stopped.
    """
    outdated = [unit for unit in current if unit.needs_daemon_reload]
    if running := [unit.id for unit in outdated if unit.is_running]:
        command("systemctl", "stop", "--", *running, timeout=timeout)
    remove_containers([unit.id for unit in outdated], timeout)
    known = current + (others or [])
    if any(unit.needs_daemon_reload or not unit.is_known for unit in known):
        command("systemctl", "daemon-reload")


def remove_containers(names: list[str], timeout: float = QUESTION_SECONDS) -> None:
    """Ends containers of units that systemd has lost, as when it stopped the unit while the engine did not run."""
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
            raise UnitError(f"the container of {name} does not end: {error}") from None
