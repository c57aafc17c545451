"""A run records by name what it changes on a host, so no service is restarted or drained for another's change."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ansible import constants
from ansible_collections.mlfleet.stack.plugins.plugin_utils import outcomes

ROOT = Path(__file__).parents[2]
Run = Callable[..., SimpleNamespace]

# Each makes the changes that a file requests, and records what it does.
STUBS = {
    "python_venv": """
module = AnsibleModule({"path": {"type": "path"}}, supports_check_mode=True)
path = module.params["path"]
changed = do("install", path)
module.exit_json(changed=changed, stamp=f"{path}/.installed", usable=True)
""",
    "run_unit": """
module = AnsibleModule({"payload": {}}, supports_check_mode=True)
run = unpack(module.params["payload"])[1]["run"]
changed = bool(run["changed_paths"])
if changed and not module.check_mode:
    note("restart", run["names"][0])
module.exit_json(changed=changed, actions=dict.fromkeys(run["names"], "restarted") if changed else {}, tls={})
""",
    "nginx_server": """
module = AnsibleModule({"servers": {"type": "list"}, "state": {}, "drain_seconds": {}}, supports_check_mode=True)
(server,), state = module.params["servers"], module.params["state"]
changed = state == "drained"
if changed and not module.check_mode:
    Path(f"{server}.put back").touch()
    note("drain", server)
module.exit_json(changed=do("put back", server) or changed if state == "in_use" else changed)
""",
}
HEAD = """
from pathlib import Path
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlfleet.stack.plugins.module_utils.files import unpack

def note(what, name):
    with open({log!r}, "a") as log:
        log.write(f"{{what}} {{Path(name).name}}\\n")

def do(what, name):
    asked = Path(f"{{name}}.{{what}}")
    changed = asked.exists()
    if changed and not module.check_mode:
        asked.unlink()
        note(what, name)
    return changed
"""


def service(name: str) -> dict[str, object]:
    """The files of a role."""
    path = f"{{{{ {name}_dir }}}}"
    rollout = {
        "rollout_name": name,
        "rollout_role": f"mlfleet.stack.{name}",
        "rollout_parts": [f"{path}/.installed", name],
        "rollout_server": path,
        "topology_nginx_hosts": ["b"],
        "topology_state": "{{ state | default('present') }}",
    }
    phases = [f"{name}_install", f"{name}_configure"]
    include = {
        "name": "mlfleet.stack.rollout",
        "tasks_from": "rolling",
        "rolespec_validate": False,
        "apply": {"tags": name},
    }
    unit = {"files": [], "run": {"names": [name], "files": [f"{path}/.installed"]}}
    return {
        "defaults/main": {f"{name}_dir": "{{ place }}/{{ inventory_hostname }}-" + name},
        "tasks/main": [{"ansible.builtin.include_role": include, "vars": rollout, "tags": phases}],
        "tasks/service": [
            {"mlfleet.stack.python_venv": {"path": path}, "tags": phases[0]},
            {"mlfleet.stack.unit": unit, "tags": phases[1]},
        ],
    }


@pytest.fixture
def roll(tmp_path: Path) -> Run:
    """Run the role rollout for two services on each of two hosts, with stubs for the modules."""
    stack, place = tmp_path / "ansible_collections/mlfleet/stack", tmp_path / "hosts"
    place.mkdir()
    shutil.copytree(ROOT / "plugins", stack / "plugins", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in STUBS.items():
        (stack / f"plugins/modules/{name}.py").write_text(HEAD.format(log=f"{tmp_path}/log") + text)
    library = stack / "plugins/plugin_utils/library.py"
    library.write_text(library.read_text().replace("/var/cache/mlfleet-modules", f"{tmp_path}/modules"))
    shutil.copytree(ROOT / "roles/rollout", stack / "roles/rollout")
    for role, files in {"topology": {}, "one": service("one"), "two": service("two")}.items():
        for directory in ("defaults", "tasks"):
            (stack / f"roles/{role}/{directory}").mkdir(parents=True)
        for name, content in files.items():
            (stack / f"roles/{role}/{name}.yml").write_text(yaml.safe_dump(content))
    tasks = [
        {"ansible.builtin.import_role": {"name": f"mlfleet.stack.{name}"}, "tags": name} for name in ("one", "two")
    ]
    (tmp_path / "play.yml").write_text(
        yaml.safe_dump([{"hosts": "all", "serial": 1, "gather_facts": False, "tasks": tasks}])
    )
    (tmp_path / "ansible.cfg").touch()

    def run(*words: str, pending: tuple[str, ...] = ()) -> SimpleNamespace:
        (tmp_path / "log").write_text("")
        for name in pending:
            (place / f"{name}.install").touch()
        command = [Path(sys.executable).with_name("ansible-playbook"), "play.yml", "-i", "a,b,", *words]
        command += ["-e", f"place={place} ansible_connection=local ansible_python_interpreter={sys.executable}"]
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(tmp_path),
        }
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        changed = dict(re.findall(r"^([ab]) +: .*changed=(\d+)", done.stdout, re.MULTILINE))
        return SimpleNamespace(log=(tmp_path / "log").read_text().splitlines(), changed=changed, output=done.stdout)

    return run


def test_a_service_is_drained_and_restarted_where_it_changes(roll: Run) -> None:
    predicted = roll("--check", pending=("b-two",))
    done = roll()
    assert (predicted.log, done.log) == ([], ["drain b-two", "install b-two", "restart two", "put back b-two"])
    # Prediction and change are two tasks each, for installation and unit.
    assert predicted.changed == done.changed == {"a": "0", "b": "6"}


def test_a_server_that_is_removed_is_not_drained(roll: Run) -> None:
    predicted = roll("--check", "-e", "state=absent", pending=("b-two",))
    done = roll("-e", "state=absent")
    assert done.log == ["install b-two", "restart two"]
    assert predicted.changed == done.changed == {"a": "0", "b": "4"}


def test_a_service_is_not_touched_for_the_change_of_another_one(roll: Run) -> None:
    done = roll("--tags", "one_install,two_configure", pending=("a-one",))
    assert done.log == ["drain a-one", "install a-one", "put back a-one"]


def test_the_last_task_about_a_name_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(tmp_path))
    assert outcomes.told("a/b") == {}
    outcomes.tell("a/b", {"/x": {"changed": True}, "/y": {"changed": True}})
    outcomes.tell("a/b", {"/x": {"changed": False}})
    outcomes.tell("c", {"/z": {"changed": True}})
    assert outcomes.changed("a/b") == {"/y"}
