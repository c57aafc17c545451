"""One run at a time for a host, identified by the SSH connection of its modules."""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import time
from pathlib import Path

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils import files, host_lock


class Module:
    """The part of AnsibleModule that the lock uses."""

    check_mode = False
    _name = "mlfleet.stack.packages"

    def fail_json(self, msg):
        raise SystemExit(msg)


class Host:
    """Its processes: 10 and 20 are SSH connections of two controllers, 11 and 21 the shells of their modules."""

    def __init__(self, root: Path, monkeypatch) -> None:
        self.root, self.monkeypatch = root, monkeypatch
        for process, name, parent in ((10, "sshd", 1), (11, "sh", 10), (20, "sshd-session", 1), (21, "sh", 20)):
            self.start(process, name, parent)
        for process, user, address in ((11, "anna", "192.0.2.1"), (21, "mlfleet-drift", "192.0.2.2")):
            variables = f"USER={user}\0SSH_CONNECTION={address} 4711 192.0.2.9 22\0"
            (root / f"proc/{process}/environ").write_text(variables)
        monkeypatch.setattr(host_lock, "PROCESSES", root / "proc")
        monkeypatch.setattr(host_lock, "LOCK", root / "lock")
        monkeypatch.setattr(host_lock, "MARK", root / "mark.json")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(atexit, "register", lambda *_arguments: None)
        self.clock = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.clock)
        monkeypatch.setattr(time, "sleep", self.sleep)

    def sleep(self, seconds: float) -> None:
        self.clock += seconds

    def start(self, process: int, name: str, parent: int, began: int = 100) -> None:
        (self.root / f"proc/{process}").mkdir(parents=True, exist_ok=True)
        fields = ["S", str(parent), *["0"] * 17, str(began)]
        (self.root / f"proc/{process}/stat").write_text(f"{process} ({name}) {' '.join(fields)}")

    def end(self, process: int) -> None:
        (self.root / f"proc/{process}/stat").unlink()

    def module(self, process: int, shell: int) -> None:
        """Make this process count as the module, as a new one, from now on."""
        self.start(process, "python3", shell)
        self.monkeypatch.setattr(os, "getpid", lambda: process)
        self.release()

    def release(self) -> None:
        if host_lock._held:
            host_lock._held.close()
        host_lock._held = None


@pytest.fixture
def host(tmp_path, monkeypatch):
    found = Host(tmp_path, monkeypatch)
    yield found
    found.release()


def test_modules_of_a_run_take_turns_and_its_mark_lasts(host):
    host.module(12, 11)
    host_lock.hold(Module())
    since = json.loads(host_lock.MARK.read_text())["since"]
    host.end(12)
    host.module(13, 11)
    host_lock.hold(Module(), "unit minio")
    assert json.loads(host_lock.MARK.read_text())["since"] == since
    assert str(host_lock.read_mark()).endswith("UTC by a run of anna from 192.0.2.1 (unit minio)")


@pytest.mark.parametrize("is_working", [True, False])
def test_another_controller_waits_and_then_says_who_it_is(host, is_working):
    host.module(12, 11)
    host_lock.hold(Module())
    if not is_working:
        host.end(12)
    host.module(22, 21)
    with pytest.raises(SystemExit) as ended:
        host_lock.hold(Module())
    assert str(ended.value).startswith("this host is busy since 20")
    assert str(ended.value).endswith(
        "by a run of anna from 192.0.2.1 (packages): run again when it has ended; nothing was changed"
    )
    assert host_lock.WAIT_FOR_OTHERS_SECONDS < host.clock < host_lock.WAIT_FOR_OTHERS_SECONDS + 5
    host.release()
    with pytest.raises(host_lock.BusyError, match="by a run of anna"):
        host_lock.require_idle()


def test_who_needs_what_another_connection_makes_waits_as_long_as_that_may_take(host, monkeypatch):
    host.module(12, 11)
    host_lock.hold(Module())
    host.module(22, 21)

    def sleep(seconds: float) -> None:
        host.sleep(seconds)
        if host.clock > 600 and (host.root / "proc/10/stat").exists():
            host.end(12)
            host.end(10)

    monkeypatch.setattr(time, "sleep", sleep)
    host_lock.hold(Module(), others_seconds=3600)
    assert 600 < host.clock < 605


@pytest.mark.parametrize("end", ["connection", "number taken by another", "long ago"])
def test_nothing_is_left_of_a_run_that_has_ended(host, end):
    host.module(12, 11)
    host_lock.hold(Module())
    host.end(12)
    if end == "connection":
        host.end(10)
    elif end == "number taken by another":
        host.start(10, "sshd", 1, began=200)
    else:
        os.utime(host_lock.MARK, (0, 0))
    host.module(22, 21)
    host_lock.require_idle()
    host_lock.hold(Module())
    assert host.clock == 0
    assert "mlfleet-drift from 192.0.2.2" in str(host_lock.read_mark())


def test_what_a_killed_run_of_the_same_controller_has_left_running_is_waited_for(host):
    host.module(12, 11)
    host_lock.hold(Module())
    held, host_lock._held = host_lock._held, None
    host.module(13, 11)
    host_lock.require_idle()
    with pytest.raises(SystemExit, match="by a run of anna"):
        host_lock.hold(Module())
    assert host.clock > host_lock.WAIT_FOR_MODULE_SECONDS
    held.close()
    host.module(13, 11)
    host_lock.hold(Module())


def test_check_mode_takes_no_lock(host):
    module = Module()
    module.check_mode = True
    host_lock.hold(module)
    assert not host_lock.LOCK.exists()


def test_files_of_a_run_that_goes_on_are_no_strays(host, tmp_path):
    temporary = tmp_path / ".a.conf.0123456789abcdef.mlfleet"
    temporary.touch()
    items = [files.Item(str(tmp_path / "a.conf"), content="x")]
    host_lock.LOCK.touch()
    with host_lock.LOCK.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert str(temporary) not in [change.path for change in files.plan(items)]
    assert str(temporary) in [change.path for change in files.plan(items)]
    host.module(12, 11)
    host_lock.hold(Module())
    assert str(temporary) in [change.path for change in files.plan(items)]
