# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A migration is under way as long as its file is locked, and has a separate timeout."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils.unit import health, migrations
from ansible_collections.mlfleet.stack.plugins.module_utils.unit.systemd import UnitError

UNIT = Path(__file__).parents[2] / "roles/unit"
WORDS = "Migrating Dioptra's database from a1 to b2"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / ".migrating"
    path.write_text(WORDS)
    return path


def test_file_counts_only_while_somebody_has_locked_it(file):
    assert migrations.under_way(file) == ""
    with file.open() as opened:
        fcntl.flock(opened, fcntl.LOCK_EX)
        assert migrations.under_way(file) == WORDS
    assert migrations.under_way(file) == ""


def test_what_a_user_puts_in_its_place_neither_holds_nor_shows_anything(tmp_path, file):
    (tmp_path / "link").symlink_to(file)
    os.mkfifo(tmp_path / "pipe")
    with file.open() as opened, os.fdopen(os.open(tmp_path / "pipe", os.O_RDWR), "w") as pipe:
        fcntl.flock(opened, fcntl.LOCK_EX)
        fcntl.flock(pipe, fcntl.LOCK_EX)
        found = [migrations.under_way(tmp_path / name) for name in ("link", "pipe", "not-there", ".")]
    assert found == ["", "", "", ""]


@pytest.fixture
def wait(monkeypatch):
    """Wait for a unit that migrates for some seconds and answers one later, with a fake clock; return the output."""

    def wait(takes_seconds, bound_seconds):
        clock = SimpleNamespace(now=0.0)
        monkeypatch.setattr(health.time, "monotonic", lambda: clock.now)
        monkeypatch.setattr(health.time, "sleep", lambda seconds: setattr(clock, "now", clock.now + seconds))
        unit = SimpleNamespace(state="active", has_ended_again=False)
        monkeypatch.setattr(health, "units", lambda _names: [unit])
        monkeypatch.setattr(migrations, "under_way", lambda _file: WORDS if clock.now < takes_seconds else "")
        monkeypatch.setattr(health, "ask", lambda *_: "" if clock.now > takes_seconds + 1 else "no answer")
        migration = {"file": "/nowhere", "timeout_seconds": bound_seconds}
        told: list[str] = []
        monkeypatch.setattr(health, "warn", told.append)
        health.wait("restapi", {}, True, 0, 10, migration=migration)
        return told

    return wait


def test_long_one_is_waited_for_and_told(wait):
    assert wait(3600, 7200) == [f"restapi: {WORDS}, which took 3600 s"]


def test_short_one_is_not_told(wait):
    assert wait(8, 7200) == []


def test_one_beyond_its_bound_is_left_to_end(wait):
    with pytest.raises(UnitError, match=rf"^{WORDS}, for 60 s now. It goes on; another run waits for it$"):
        wait(3600, 50)


def test_status_that_ends_all_tries_is_the_same_for_the_program_its_unit_and_the_run():
    (ended,) = re.findall(r"^REFUSED = (\d+)", (UNIT / "files/migrate.py").read_text(), re.MULTILINE)
    (prevented,) = re.findall(
        r"^RestartPreventExitStatus=(\d+)$", (UNIT / "templates/unit.service.j2").read_text(), re.MULTILINE
    )
    assert int(ended) == int(prevented) == migrations.REFUSED
