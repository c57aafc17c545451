# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from ansible_collections.mlfleet.stack.plugins.action.config_files import ARGUMENT_SPEC
from ansible_collections.mlfleet.stack.plugins.module_utils import files, host_lock
from ansible_collections.mlfleet.stack.plugins.module_utils.files import FilesError, install, pack, parse, unpack
from ansible_collections.mlfleet.stack.plugins.modules.config_files import DOCUMENTATION

ME = {"owner": str(os.geteuid()), "group": str(os.getegid())}
SECRET = "correct-horse-battery-staple"


@pytest.fixture(autouse=True)
def nobody_else(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(host_lock, "LOCK", tmp_path_factory.getbasetemp() / "no lock")


def entry(path, **keys):
    return {"path": str(path), **ME, **keys}


def put(*entries, **keywords):
    return install(unpack(pack(parse(list(entries))))[0], **keywords)


def tree(root):
    """Return everything below root as {name: (mode, content or target)}."""
    return {
        str(path.relative_to(root)): (
            stat.S_IMODE(path.lstat().st_mode),
            str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else None,
        )
        for path in sorted(root.rglob("*"))
    }


def test_directories_files_and_missing_parents_are_made(tmp_path):
    result = put(
        entry(tmp_path / "a/b/x.conf", content="x\n\n", mode="0640"),
        entry(tmp_path / "a/b", state="directory", mode="0700"),
    )
    assert tree(tmp_path) == {"a": (0o755, None), "a/b": (0o700, None), "a/b/x.conf": (0o640, b"x\n\n")}
    assert result["changed_paths"] == [f"{tmp_path}/a", f"{tmp_path}/a/b", f"{tmp_path}/a/b/x.conf"]
    assert result["paths"] == [f"{tmp_path}/a/b/x.conf"]


def test_second_run_changes_nothing(tmp_path):
    entries = [
        entry(tmp_path / "d", state="directory", purge=True),
        entry(tmp_path / "d/x", content="x", mode="600"),
        entry(tmp_path / "gone", state="absent"),
    ]
    assert put(*entries)["changed"]
    inode = (tmp_path / "d/x").stat().st_ino
    again = put(*entries)
    assert (again["changed"], again["changed_paths"], again["diff"]) == (False, [], [])
    assert (tmp_path / "d/x").stat().st_ino == inode


def test_check_mode_tells_what_the_run_does(tmp_path):
    (tmp_path / "conf.d").mkdir(mode=0o700)
    (tmp_path / "conf.d/stray").write_text("former secret")
    (tmp_path / "conf.d/kept").write_text("old\n")
    (tmp_path / "old").mkdir()
    (tmp_path / "old/file").touch()
    entries = [
        entry(tmp_path / "conf.d", state="directory", purge=True),
        entry(tmp_path / "conf.d/kept", content="new\n", validate="grep -q new %s"),
        entry(tmp_path / "new/deep/file", content=SECRET, sensitive=True),
        entry(tmp_path / "old", state="absent"),
    ]
    before = tree(tmp_path)
    check = put(*entries, check_mode=True)
    assert tree(tmp_path) == before
    assert put(*entries) == check
    assert check["changed_paths"] == [
        str(tmp_path / name)
        for name in ("new", "conf.d", "new/deep", "conf.d/kept", "new/deep/file", "old", "conf.d/stray")
    ]
    assert set(tree(tmp_path)) == {"conf.d", "conf.d/kept", "new", "new/deep", "new/deep/file"}
    assert not any(secret in str(check) for secret in (SECRET, "former secret"))


def test_other_mode_keeps_the_file(tmp_path):
    path = tmp_path / "x"
    path.write_text("same")
    path.chmod(0o644)
    inode = path.stat().st_ino
    result = put(entry(path, content="same", mode="0600"))
    assert (path.stat().st_ino, stat.S_IMODE(path.stat().st_mode)) == (inode, 0o600)
    [shown] = result["diff"]
    assert "0644" in shown["before"] and "0600" in shown["after"] and "same" not in str(shown)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_owner_is_compared_by_id(tmp_path):
    path = tmp_path / "x"
    assert put(entry(path, content="x", owner="daemon", group="daemon"))["changed"]
    assert not put(entry(path, content="x", owner=str(path.stat().st_uid), group="daemon"))["changed"]


def test_unknown_owner_is_predicted_in_check_mode_and_refused_in_a_run(tmp_path):
    entries = [entry(tmp_path / "new/x", content="x"), entry(tmp_path / "y", content="y", owner="nobody-knows")]
    check = put(*entries, check_mode=True)
    assert str(tmp_path / "y") in check["changed_paths"] and "nobody-knows" in str(check["diff"])
    with pytest.raises(FilesError, match="y: user nobody-knows does not exist; nothing was changed"):
        put(*entries)
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("check_mode", [True, False])
def test_one_invalid_file_stops_all(tmp_path, check_mode):
    (tmp_path / "good").write_text("old")
    with pytest.raises(FilesError, match=r"bad is not valid; nothing was changed\. Its checker says: line 7 is wrong"):
        put(
            entry(tmp_path / "good", content="new", validate="test -s %s"),
            entry(tmp_path / "dir/bad", content="x", validate="sh -c 'echo line 7 is wrong; exit 1' %s"),
            check_mode=check_mode,
        )
    assert set(tree(tmp_path)) == {"good"} and (tmp_path / "good").read_text() == "old"


def test_validator_of_a_sensitive_file_is_not_quoted(tmp_path):
    with pytest.raises(FilesError) as error:
        put(entry(tmp_path / "x", content=SECRET, sensitive=True, validate="sh -c 'cat %s; exit 1'"))
    assert SECRET not in str(error.value)


def test_missing_validator_is_left_out_in_check_mode_only(tmp_path):
    x = entry(tmp_path / "x", content="x", validate="no-such-program %s")
    assert put(x, check_mode=True)["changed"]
    with pytest.raises(FilesError, match="there is no no-such-program"):
        put(x)
    assert tree(tmp_path) == {}


@pytest.mark.parametrize("step", range(7))
def test_failure_at_any_step_restores_everything(tmp_path, monkeypatch, step):
    (tmp_path / "d").mkdir(mode=0o700)
    (tmp_path / "d/one").write_text("old one")
    (tmp_path / "d/two").symlink_to("one")
    (tmp_path / "mode").write_text("same")
    (tmp_path / "gone").mkdir()
    (tmp_path / "gone/file").write_text("still here")
    before = tree(tmp_path)
    steps = iter(range(99))

    def failing(call):
        def wrapper(*args, **keywords):
            if next(steps) == step:
                raise OSError(28, "No space left on device", args[0])
            return call(*args, **keywords)

        return wrapper

    for name in ("replace", "link", "rename"):
        monkeypatch.setattr(files.os, name, failing(getattr(os, name)))
    with pytest.raises(FilesError, match="No space left on device; nothing was changed"):
        put(
            entry(tmp_path / "d", state="directory", mode="0755"),
            entry(tmp_path / "d/one", content="new one"),
            entry(tmp_path / "d/two", content="new two"),
            entry(tmp_path / "e/three", content="new three"),
            entry(tmp_path / "mode", content="same", mode="0600"),
            entry(tmp_path / "gone", state="absent"),
            entry(tmp_path / "d/none", state="absent"),
            entry(tmp_path / "four", content="4"),
        )
    monkeypatch.undo()
    assert tree(tmp_path) == before


def test_failed_write_leaves_no_trace(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_attributes", lambda *_args: (_ for _ in ()).throw(PermissionError(1, "Not permitted")))
    with pytest.raises(FilesError, match="Not permitted; nothing was changed"):
        put(entry(tmp_path / "x", content="x"))
    assert tree(tmp_path) == {}


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "target").write_text("untouched")
    (tmp_path / "x").symlink_to("target")
    result = put(entry(tmp_path / "x", content="new"))
    assert not (tmp_path / "x").is_symlink() and (tmp_path / "target").read_text() == "untouched"
    assert "link to target" in result["diff"][0]["before"]


def test_a_directory_may_be_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    (tmp_path / "d").symlink_to("elsewhere")
    assert put(entry(tmp_path / "d", state="directory", mode="0750"))["changed"]
    assert (tmp_path / "d").is_symlink() and stat.S_IMODE((tmp_path / "elsewhere").stat().st_mode) == 0o750


def test_what_a_killed_run_left_is_removed(tmp_path):
    leftover = tmp_path / ".x.0123456789abcdef.mlfleet"
    leftover.write_text("half")
    assert put(entry(tmp_path / "x", content="x"))["changed_paths"] == [str(tmp_path / "x"), str(leftover)]
    assert set(tree(tmp_path)) == {"x"}


@pytest.mark.parametrize("moment", range(10))
def test_killed_at_any_moment_leaves_whole_files_and_is_completed_by_the_next(tmp_path, moment):
    texts = [f"{letter * 60_000}\n# End.\n" for letter in "ab"]
    wanted = [[entry(tmp_path / f"d/{name}.env", content=text) for name in range(8)] for text in texts]
    put(*wanted[0])
    child = os.fork()
    if child == 0:
        while True:
            put(*wanted[1])
            put(*wanted[0])
    time.sleep(0.03 + moment / 211)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert {path.read_text() for path in (tmp_path / "d").glob("*.env") if path.name[0] != "."} <= set(texts)
    put(*wanted[1])
    assert {path.name: path.read_text() for path in (tmp_path / "d").iterdir()} == dict.fromkeys(
        (f"{name}.env" for name in range(8)), texts[1]
    )


def test_purge_keeps_directories_and_listed_files(tmp_path):
    for name in ("listed", "stray", ".hidden"):
        (tmp_path / name).write_text("x")
    (tmp_path / "link").symlink_to("listed")
    (tmp_path / "sub").mkdir()
    put(entry(tmp_path, state="directory", purge=True), entry(tmp_path / "listed", content="x"))
    assert set(tree(tmp_path)) == {"listed", "sub"}


def test_files_of_others_are_told_and_stay(tmp_path):
    for name, text in {"listed": "x", "stray": "x", "toggled": "# Made by mlfleet's ssl_toggle"}.items():
        (tmp_path / name).write_text(text)
    result = put(entry(tmp_path, state="directory", tell=True), entry(tmp_path / "listed", content="x"))
    assert [stray["name"] for stray in result["undeclared"]] == [str(tmp_path / "stray")]
    assert set(tree(tmp_path)) == {"listed", "stray", "toggled"}


def test_binary_content_is_not_shown(tmp_path):
    (tmp_path / "x").write_bytes(b"\xff\xfe\x00")
    shown = put(entry(tmp_path / "x", content="text\n", mode=f"{(tmp_path / 'x').stat().st_mode & 0o777:04o}"))["diff"]
    assert [(d["before"].startswith("(binary"), d["after"]) for d in shown] == [(True, "text\n")]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"path": "etc/x", "content": ""}], "must be absolute"),
        ([{"path": "/"}], "cannot be managed"),
        ([{"path": "/x"}], "has a template or content"),
        ([{"path": "/x", "state": "absent", "content": "x"}], "nothing else has"),
        ([{"path": "/x", "content": {"a": 1}}], "content must be text"),
        ([{"path": "/x", "content": "", "mode": 416}], "quoted octal string"),
        ([{"path": "/x", "content": "", "mode": "u=rw"}], "quoted octal string"),
        ([{"path": "/x", "content": "", "purge": True}], "only a directory can be purged"),
        ([{"path": "/x", "content": "", "validate": "true"}], "names it as %s"),
        ([{"path": "/x", "content": "", "validate": "true '%s"}], "is no command"),
        ([{"path": "/x", "content": ""}, {"path": "/x/", "state": "absent"}], "listed twice"),
        ([{"path": "/x", "state": "absent"}, {"path": "/x/y", "content": ""}], "which is declared absent"),
    ],
)
def test_bad_items_get_one_clear_line(entries, message):
    with pytest.raises(FilesError, match=message):
        parse(entries)


@pytest.mark.parametrize("check_mode", [True, False])
def test_directory_and_file_do_not_replace_each_other(tmp_path, check_mode):
    (tmp_path / "d").mkdir()
    (tmp_path / "f").touch()
    with pytest.raises(FilesError, match="d is a directory, but must be a file"):
        put(entry(tmp_path / "d", content=""), check_mode=check_mode)
    with pytest.raises(FilesError, match="f is a file, but must be a directory"):
        put(entry(tmp_path / "f", state="directory"), check_mode=check_mode)


@pytest.mark.parametrize(
    ("text", "stays"), [("# Made by mlfleet; changes are undone.\n", False), ("[Service]\n", True)]
)
def test_only_a_file_of_ours_goes(tmp_path, text, stays):
    (tmp_path / "unit").write_text(text)
    gone = [entry(tmp_path / name, state="absent", only_ours=True) for name in ("unit", "none")]
    assert put(*gone)["changed"] is not stays
    assert (tmp_path / "unit").exists() is stays


def test_mask_of_a_unit_goes_too(tmp_path):
    (tmp_path / "unit").symlink_to("/dev/null")
    assert put(entry(tmp_path / "unit", state="absent", only_ours=True))["changed"]
    assert not (tmp_path / "unit").is_symlink()


def test_record_removes_the_file_that_it_names(tmp_path):
    records = entry(tmp_path / "records", state="directory", records=True)
    elsewhere = [tmp_path / "a/one.yml", tmp_path / "b/two.yml"]

    def recorded(path):
        text = "# Made by mlfleet\n"
        return [entry(tmp_path / "records" / path.name, content=f"{path}\n"), entry(path, content=text)]

    one, two = map(recorded, elsewhere)
    assert put(records, *one)["changed"]
    assert not put(records, *one)["changed"]
    predicted = put(records, *two, check_mode=True)["changed_paths"]
    assert elsewhere[0].exists()
    assert put(records, *two)["changed_paths"] == predicted
    # The record goes last, since from it the next run knows what a killed one has left.
    assert predicted[-2:] == [str(elsewhere[0]), f"{tmp_path}/records/one.yml"]
    assert not elsewhere[0].exists() and elsewhere[1].exists()
    elsewhere[1].write_text("now another's\n")
    assert put(records)["changed_paths"] == [f"{tmp_path}/records/two.yml"]
    assert elsewhere[1].exists()


def test_documentation_matches_the_arguments():
    documented = yaml.safe_load(DOCUMENTATION)["options"]["files"]["suboptions"]
    keys = ("type", "choices", "default", "required")
    assert {name: {k: v for k, v in option.items() if k in keys} for name, option in documented.items()} == (
        ARGUMENT_SPEC["files"]["options"]
    )


# --- end to end ------------------------------------------------------------------------------------------------------

PLAYBOOK = """
- hosts: localhost
  connection: local
  gather_facts: false
  become: false
  vars:
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
  roles: [demo]
"""
TASKS = """
- name: Install the demo
  mlfleet.stack.config_files:
    files:
      - {path: "{{ target }}/d", state: directory, owner: "{{ me }}", group: "{{ us }}"}
      - {path: "{{ target }}/d/a", template: a.j2, owner: "{{ me }}", group: "{{ us }}", vars: {number: 1}}
      - {path: "{{ target }}/d/b", template: a.j2, owner: "{{ me }}", group: "{{ us }}", vars: {number: 2}}
      - {path: "{{ target }}/d/s", template: s.j2, owner: "{{ me }}", group: "{{ us }}", mode: "0600", sensitive: true}
- name: Let Ansible render the same
  ansible.builtin.template: {src: a.j2, dest: "{{ target }}/d/builtin", mode: "0644"}
  vars: {number: 1}
"""
TEMPLATES = {
    "a.j2": "{% if true %}\nnumber {{ number }}\n{% endif %}\n{% include 'part.j2' %}\n",
    "part.j2": "from {{ name_of_part }}\n",
    "s.j2": "password {{ secret }}\n",
}


@pytest.fixture
def play(tmp_path):
    role = tmp_path / "roles/demo"
    for directory in ("tasks", "templates"):
        (role / directory).mkdir(parents=True)
    (role / "tasks/main.yml").write_text(TASKS)
    for name, text in TEMPLATES.items():
        (role / "templates" / name).write_text(text)
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    (tmp_path / "ansible.cfg").touch()
    collections = Path(__file__).parents[2] / ".ansible/collections"

    def run(*arguments, **variables):
        variables = {"target": str(tmp_path / "target"), "me": ME["owner"], "us": ME["group"]} | variables
        command = [Path(sys.executable).with_name("ansible-playbook"), "play.yml", "-i", "localhost,", *arguments]
        command += [word for item in variables.items() for word in ("-e", "=".join(item))]
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(collections),
        }
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


def test_a_role_installs_its_templates_without_showing_the_secret(play, tmp_path):
    code, output = play("-vvv", "--diff", secret=SECRET, name_of_part="part")
    assert code == 0, output
    assert {name: content for name, (_mode, content) in tree(tmp_path / "target").items()} == {
        "d": None,
        "d/a": b"number 1\nfrom part\n",
        "d/b": b"number 2\nfrom part\n",
        "d/builtin": b"number 1\nfrom part\n",
        "d/s": f"password {SECRET}\n".encode(),
    }
    assert "+number 1" in output and "(new content, sensitive: not shown)" in output
    assert SECRET not in output
    code, output = play("--check", "--diff", secret=SECRET, name_of_part="part")
    assert code == 0 and "changed=0" in output


def test_an_undefined_variable_stops_before_anything_is_sent(play, tmp_path):
    code, output = play(secret=SECRET)
    assert code != 0
    assert (
        f"{tmp_path}/target/d/a: template a.j2 does not render:" in output and "'name_of_part' is undefined" in output
    )
    assert not (tmp_path / "target").exists()


def test_what_confirms_may_have_all_undone_save_what_others_put_there(tmp_path):
    (tmp_path / "x").write_text("former")
    told = []

    def refuse(result):
        told.append(result["changed_paths"])
        (tmp_path / "a/log").write_text("of a program that began")
        raise RuntimeError

    entries = [
        entry(tmp_path / "x", content="new"),
        entry(tmp_path / "a", state="directory"),
        entry(tmp_path / "b", state="directory"),
        entry(tmp_path / "a/y", content="y"),
    ]
    with pytest.raises(RuntimeError):
        put(*entries, confirm=refuse)
    assert told == [[f"{tmp_path}/{name}" for name in ("a", "b", "x", "a/y")]]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "log", "x"]
    assert (tmp_path / "x").read_text() == "former"
