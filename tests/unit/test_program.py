"""A single-file program is the same as on the controller, even after manual changes."""

from __future__ import annotations

import hashlib
import os

import pytest
from ansible_collections.mlfleet.stack.plugins.modules import program

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the program belongs to root")
SHA256 = hashlib.sha256(b"program").hexdigest()


@pytest.fixture
def sent(tmp_path):
    path = tmp_path / "sent"
    path.write_bytes(b"program")
    return path


@pytest.fixture
def path(tmp_path):
    return tmp_path / "app"


def test_program_is_installed_once(path, sent):
    told = program.converge(path, SHA256, None, False)
    assert told["changed"] and not path.exists()
    assert program.converge(path, SHA256, sent, True) == told and not path.exists()
    assert program.converge(path, SHA256, sent, False) == told
    assert path.read_bytes() == b"program" and path.stat().st_mode & 0o7777 == 0o755
    assert program.converge(path, SHA256, None, False) == {"changed": False, "diff": {}}
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["app", "sent"]


@pytest.mark.parametrize("trouble", ["byte", "mode", "owner", "link", "left by a killed run"])
def test_what_was_done_by_hand_is_mended(path, sent, trouble):
    program.converge(path, SHA256, sent, False)
    if trouble == "byte":
        path.write_bytes(b"programs")
    elif trouble == "mode":
        path.chmod(0o4755)
    elif trouble == "owner":
        os.chown(path, 65534, 65534)
    elif trouble == "link":
        path.unlink()
        path.symlink_to("/bin/sh")
    else:
        path.unlink()
        path.with_name(".app.new").write_bytes(b"prog")
    before = program.converge(path, SHA256, None, False)["diff"]["before"]
    assert (
        before
        == {
            "byte": f"0:0 0755 {hashlib.sha256(b'programs').hexdigest()}\n",
            "mode": f"0:0 4755 {SHA256}\n",
            "owner": f"65534:65534 0755 {SHA256}\n",
            "link": "no file\n",
            "left by a killed run": "absent\n",
        }[trouble]
    )
    assert program.converge(path, SHA256, sent, False)["changed"]
    assert not program.converge(path, SHA256, None, False)["changed"]
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["app", "sent"]
