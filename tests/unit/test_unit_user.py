"""Each unit's program runs as its own user, which takes over the files of a former one."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.mlfleet.stack.plugins.filter.unit import account
from ansible_collections.mlfleet.stack.plugins.module_utils.unit import converge

FORMER, NEW = 65001, 65002
RUN = {"template": "worker", "names": ["worker@1"], "stop_timeout_seconds": 3600}


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to others")
def test_new_user_gets_what_the_former_one_has_in_the_home_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = []
    monkeypatch.setattr(converge, "command", lambda *words, timeout: commands.append((*words, timeout)))
    monkeypatch.setattr(pwd, "getpwnam", lambda _name: SimpleNamespace(pw_uid=NEW, pw_gid=NEW))
    home, outside = tmp_path / "home", tmp_path / "outside"
    for path in (home, home / "cache", outside):
        path.mkdir()
        os.chown(path, FORMER, FORMER)
    for path in (home / "cache/model", home / "of-root"):
        path.write_text("")
    os.chown(home / "cache/model", FORMER, FORMER)
    (home / "link").symlink_to(outside)
    os.chown(home / "link", FORMER, FORMER, follow_symlinks=False)

    converge.hand_over(str(home), "worker", RUN)
    assert commands == [("systemctl", "stop", "--", "worker@*.service", 3600)]
    owners = {path.name: path.lstat().st_uid for path in (*home.rglob("*"), home, outside)}
    assert owners == {"cache": NEW, "model": NEW, "link": NEW, "of-root": 0, "home": FORMER, "outside": FORMER}

    os.chown(home, NEW, NEW)
    converge.hand_over(str(home), "worker", RUN)
    converge.hand_over(str(tmp_path / "not-there"), "worker", RUN)
    assert len(commands) == 1


def test_users_name_is_one_that_useradd_takes() -> None:
    assert account("dioptra-worker-tensorflow-cpu") == "dioptra-worker-tensorflow-cpu"
    long = [account(f"dioptra-worker-{'x' * 39}{end}") for end in "ab"]
    assert len(set(long)) == 2
    assert {len(name) for name in long} == {32}
