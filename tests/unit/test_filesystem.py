"""Links of other users are not followed, and files are synced before they get their name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils import files, filesystem

ME = {"owner": str(os.geteuid()), "group": str(os.getegid())}


@pytest.fixture
def link_of_a_service(monkeypatch):
    """Create links that are not ours."""

    def make(path: Path, target: Path) -> None:
        path.symlink_to(target)
        if os.geteuid() == 0:
            os.lchown(path, 65534, 65534)
        else:
            monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    return make


def state_of(path: Path) -> tuple[int, int, list[str]]:
    found = path.stat()
    return found.st_uid, found.st_mode, sorted(entry.name for entry in path.iterdir())


@pytest.mark.parametrize("wanted", ["directory", "file below", "purged file", "absent"])
def test_link_that_appears_between_plan_and_apply_is_not_followed(tmp_path, link_of_a_service, wanted):
    victim, owned = tmp_path / "victim", tmp_path / "owned"
    for directory in (victim, owned):
        directory.mkdir(mode=0o755)
        (directory / "stray").write_text("keep")
    items = {
        "directory": [files.Item(str(owned), "directory", mode="0700", **ME)],
        "file below": [files.Item(str(owned / "new"), content="x", **ME)],
        "purged file": [files.Item(str(owned), "directory", mode="0755", purge=True, **ME)],
        "absent": [files.Item(str(owned / "stray"), "absent")],
    }[wanted]
    changes = [change for change in files.plan(items) if change.needed]
    before = state_of(victim)
    owned.rename(tmp_path / "aside")
    link_of_a_service(owned, victim)
    with pytest.raises(OSError, match="owned is a link of user") as raised:
        files.apply(changes)
    assert raised.value.filename.startswith(str(owned))
    assert state_of(victim) == before


def test_file_exchanged_for_a_link_is_not_read(tmp_path, link_of_a_service):
    (tmp_path / "secret").write_text("secret")
    link_of_a_service(tmp_path / "file", tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic links"):
        filesystem.read(str(tmp_path / "file"))


def test_link_of_ours_is_followed(tmp_path):
    (tmp_path / "real/below").mkdir(parents=True)
    (tmp_path / "absolute").symlink_to(tmp_path / "real")
    (tmp_path / "relative").symlink_to("absolute/../real")
    (tmp_path / "loop").symlink_to("loop")
    with filesystem.directory(str(tmp_path / "relative/below")) as found:
        assert os.fstat(found).st_ino == (tmp_path / "real/below").stat().st_ino
    with pytest.raises(OSError, match="Too many"), filesystem.directory(str(tmp_path / "loop")):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError), filesystem.directory(str(tmp_path / "file/below")):
        pass


def test_what_gets_its_name_was_synced_before_and_the_name_after(tmp_path, monkeypatch):
    done = []
    replace, fsync = os.replace, os.fsync

    def note_replace(source, target, **keywords):
        done.append(f"rename {target}")
        replace(source, target, **keywords)

    def note_fsync(descriptor):
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        done.append(f"sync {'directory' if path.is_dir() else path.name.split('.')[1]}")
        fsync(descriptor)

    monkeypatch.setattr(os, "replace", note_replace)
    monkeypatch.setattr(os, "fsync", note_fsync)
    items = [files.Item(str(tmp_path / name), content=name, **ME) for name in ("a", "b")]
    files.install(items)
    assert done == ["sync a", "sync b", "rename a", "rename b", "sync directory"]
    done.clear()
    files.install(items)
    assert done == []
    filesystem.save(tmp_path / "c", b"c")
    assert done == ["sync c", "rename c", "sync directory"]
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o600
