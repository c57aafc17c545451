# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One run at a time for a host.

A module that changes a host holds a lock meanwhile, which the kernel releases if it is killed. Between two modules, a
mark states whose run it is. A run is identified by its SSH connection: Ansible shares one among all its modules,
another controller has another one, and it ends soon after the run. So nothing needs to be passed on or cleaned up.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import pwd
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from ansible_collections.mlfleet.stack.plugins.module_utils.commands import WORK_SECONDS

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

LOCK = Path("/run/mlfleet.lock")  # for root only, because any process that can open it could hold it
MARK = Path("/run/mlfleet.json")
PROCESSES = Path("/proc")
FRESH_SECONDS = 60  # how long a run keeps a host between two modules
WAIT_FOR_OTHERS_SECONDS = 90  # enough for the connection of a run that has just ended to close
WAIT_FOR_MODULE_SECONDS = WORK_SECONDS  # such as an installation that continues after its run was killed
PAUSE_SECONDS = 0.2
_held: IO[str] | None = None


class BusyError(Exception):
    """One line that states who is changing this host."""


@dataclass(frozen=True)
class Mark:
    """The owner of a run, and what it does."""

    connection: str  # process of the SSH connection, with its start time; empty without one
    module: str  # the process that changes the host, in the same form
    who: str
    since: float
    doing: str

    def __str__(self) -> str:
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(self.since))
        return f"busy since {since} UTC by a run of {self.who} ({self.doing})"


def hold(module: AnsibleModule, doing: str = "", others_seconds: float = WAIT_FOR_OTHERS_SECONDS) -> None:
    """Keep other runs from changing this host until the module ends; fail with one line if that is not possible.

    Check mode needs no lock, because it changes nothing.
    """
    if module.check_mode or os.geteuid() != 0:
        return
    global _held
    # Until the process ends, for whatever reason.
    _held = os.fdopen(os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "r+")
    try:
        _wait(_held, others_seconds)
    except BusyError as error:
        module.fail_json(msg=f"{error}; nothing was changed")
    _mark(doing or module._name.rpartition(".")[2])
    atexit.register(os.utime, MARK)


@contextmanager
def others_are_idle() -> Iterator[bool]:
    """Yield whether no other process changes this host before the context ends; always true for the lock's holder."""
    if _held or not os.access(LOCK, os.R_OK):
        yield True
        return
    with LOCK.open() as lock:
        yield _takes(lock, fcntl.LOCK_SH)


def require_idle() -> None:
    """Wait for the run of another controller; needs no privileges.

    Raises:
        BusyError: it is still in progress.
    """
    deadline = time.monotonic() + WAIT_FOR_OTHERS_SECONDS
    while other := _other_run():
        if time.monotonic() > deadline:
            raise BusyError(f"this host is {other}: run again when it has ended")
        time.sleep(PAUSE_SECONDS)


def _wait(lock: IO[str], others_seconds: float) -> None:
    begin = time.monotonic()
    while not _takes(lock, fcntl.LOCK_EX) or _other_run():
        other = _other_run()
        waited = time.monotonic() - begin
        if waited > (others_seconds if other else WAIT_FOR_MODULE_SECONDS):
            raise BusyError(f"this host is {other or read_mark()}: run again when it has ended")
        fcntl.flock(lock, fcntl.LOCK_UN)
        time.sleep(PAUSE_SECONDS)


def _takes(lock: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# --- the mark --------------------------------------------------------------------------------------------------------


def read_mark() -> Mark | None:
    try:
        return Mark(**json.loads(MARK.read_text()))
    except (OSError, ValueError, TypeError):
        return None


def _mark(doing: str) -> None:
    connection, who = _connection()
    found = read_mark()
    is_same_run = found is not None and found.connection == connection and _is_fresh()
    since = found.since if found and is_same_run else time.time()
    mark = Mark(connection, _identity(str(os.getpid())), who, since, doing)
    unfinished = MARK.with_name(f".{MARK.name}.new")
    unfinished.write_text(json.dumps(asdict(mark)))
    unfinished.chmod(0o644)
    unfinished.replace(MARK)


def _is_fresh() -> bool:
    return time.time() - MARK.stat().st_mtime < FRESH_SECONDS


def _other_run() -> Mark | None:
    """Return the run of another connection that is changing this host, or did recently and is still connected."""
    found = read_mark()
    if not found or not found.connection or found.connection == _connection()[0]:
        return None
    return found if _is_alive(found.module) or (_is_alive(found.connection) and _is_fresh()) else None


def _is_alive(identity: str) -> bool:
    return _identity(identity.partition(":")[0]) == identity


def _connection() -> tuple[str, str]:
    """Return this process's SSH connection, and its user and controller."""
    process, below = str(os.getpid()), ""
    with suppress(OSError):  # processes of others may be hidden
        while process not in ("0", "1"):
            name, fields = _status(process)
            if name.startswith("sshd"):
                return _identity(process), _who(below)
            process, below = fields[1], process
    return "", f"{_name(os.getuid())} on this host"


def _status(process: str) -> tuple[str, list[str]]:
    """Return the program's name, and the fields that follow it in C(/proc/PID/stat)."""
    text = (PROCESSES / process / "stat").read_text()
    return text.partition("(")[2].rpartition(")")[0], text.rpartition(")")[2].split()


def _identity(process: str) -> str:
    """Return the process with its start time, to distinguish it from a later one with its number; empty if ended."""
    try:
        return f"{process}:{_status(process)[1][19]}"
    except OSError:
        return ""


def _who(shell: str) -> str:
    """Return user and controller from the environment that sshd set for the program."""
    try:
        variables = (PROCESSES / shell / "environ").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return "another user"
    found = dict(variable.partition("=")[::2] for variable in variables)
    return f"{found.get('USER', 'root')} from {found.get('SSH_CONNECTION', 'this host').split()[0]}"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
