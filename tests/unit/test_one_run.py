"""Only one run changes hosts: each playbook claims the inventory first, and each module holds the host's lock."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlfleet.stack.plugins.module_utils.minio import access

ROOT = Path(__file__).parents[2]
OURS = "mlfleet.stack."
PLAYBOOKS = sorted(path.name for path in (ROOT / "playbooks").glob("*.yml"))
MODULES = sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py"))
ACTIONS = {path.stem for path in (ROOT / "plugins/action").glob("*.py")}
READS = {f"ansible.builtin.{name}" for name in ("assert", "debug", "fail", "set_fact")}
Task = dict[str, Any]


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) or []


@functools.cache
def documentation(module: str) -> dict[str, Any]:
    source = (ROOT / f"plugins/modules/{module}.py").read_text()
    loaded: dict[str, Any] = yaml.safe_load(source.partition('DOCUMENTATION = r"""')[2].partition('"""')[0])
    return loaded


def fragments(module: str) -> list[str]:
    found = documentation(module).get("extends_documentation_fragment", [])
    return [found] if isinstance(found, str) else found


def changes_nothing(module: str) -> bool:
    """Return whether a module changes nothing, by its description of check mode; which skips tests of services."""
    if f"{OURS}reads" in fragments(module):
        return True
    if "attributes" not in documentation(module):  # those that another fragment describes
        return False
    told = str(documentation(module)["attributes"]["check_mode"]["description"]).lower()
    return bool(re.match(r"(it )?(changes nothing|does nothing)", told))


def plays(playbook: str) -> Iterator[dict[str, Any]]:
    """Return the plays in order, with those of imported playbooks."""
    for play in load(ROOT / "playbooks" / playbook):
        imported = play.get("ansible.builtin.import_playbook")
        yield from plays(imported) if imported else [play]


def tasks(play: dict[str, Any]) -> Iterator[Task]:
    for task in [*play.get("pre_tasks", []), *play.get("tasks", []), *play.get("post_tasks", [])]:
        yield from unfolded(task)


def unfolded(task: Task) -> Iterator[Task]:
    inner = [each for part in ("block", "rescue", "always") for each in task.get(part, [])]
    yield from (each for part in inner for each in unfolded(part)) if "block" in task else [task]


def action(task: Task) -> str:
    [found] = [key for key in task if "." in key]
    return found


def changes_hosts(play: dict[str, Any]) -> bool:
    names = [role["role"] if isinstance(role, dict) else role for role in play.get("roles", [])]
    has_role = any((ROOT / "roles" / name.removeprefix(OURS) / "tasks").exists() for name in names)
    return not play.get("check_mode") and (has_role or not all(map(reads, tasks(play))))


def reads(task: Task) -> bool:
    name = action(task)
    is_ours = name.startswith(OURS)
    if name.endswith("import_role") and (part := task[name].get("tasks_from")):
        role = task[name]["name"].removeprefix(OURS)
        made = load(ROOT / "roles" / role / f"tasks/{part}.yml")
        return stays_on_the_controller(role) if part == "controller" else all(map(reads, made))
    if name == "ansible.builtin.uri":
        return task[name].get("method", "GET") == "GET"
    return task.get("check_mode") is True or (changes_nothing(name.removeprefix(OURS)) if is_ours else name in READS)


def stays_on_the_controller(role: str) -> bool:
    """Return whether everything that the role prepares for its hosts is on the controller."""
    made = load(ROOT / "roles" / role / "tasks/controller.yml")
    return all(each.get("delegate_to") == "localhost" or f"{OURS}dioptra_packages" in each for each in made)


def claims(play: dict[str, Any]) -> bool:
    first = next(tasks(play), {})
    is_claim = set(first.get(f"{OURS}preflight") or {}) <= {"roles"}
    return f"{OURS}preflight" in first and is_claim and play["hosts"] == "all" and bool(play.get("any_errors_fatal"))


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_playbook_claims_the_inventory_before_it_changes_a_host(playbook: str) -> None:
    for play in plays(playbook):
        if claims(play):
            assert play["tags"] == "always" and not play.get("roles")
            return
        assert not changes_hosts(play), f"{playbook}: import claim.yml before the play {play['name']!r}"


def test_what_playbooks_change_is_seen() -> None:
    """Otherwise the test above would pass regardless of what they do."""
    changing = {name for name in PLAYBOOKS if any(map(changes_hosts, plays(name)))}
    assert {"site.yml", "rotate_ca.yml", "restart_minio.yml", "install_gpu_driver.yml", "drift.yml"} <= changing
    assert not {"claim.yml", "verify.yml"} & changing


def uses(module: str) -> list[Task]:
    """Return the tasks of roles and playbooks that call it."""
    files = [*(ROOT / "roles").glob("*/tasks/*.yml"), *(ROOT / "playbooks").glob("*.yml")]
    found = [part for file in files for part in load(file)]
    single = [each for part in found for each in (tasks(part) if "hosts" in part else unfolded(part))]
    return [task for task in single if OURS + module in task]


def is_the_controllers(module: str) -> bool:
    return bool(uses(module)) and all(task.get("delegate_to") == "localhost" for task in uses(module))


def runs_another(module: str) -> bool:
    """Return whether the module only has the documentation, and its action runs other modules."""
    return module in ACTIONS and "def main()" not in (ROOT / f"plugins/modules/{module}.py").read_text()


def is_by_http(module: str) -> bool:
    return f"{OURS}rest" in fragments(module)


@pytest.mark.parametrize(
    "module",
    [
        name
        for name in MODULES
        if not (changes_nothing(name) or runs_another(name) or is_by_http(name) or is_the_controllers(name))
    ],
)
def test_module_that_writes_on_a_host_holds_its_lock(module: str) -> None:
    source = (ROOT / f"plugins/modules/{module}.py").read_text()
    if "minio.access import" in source:
        source = inspect.getsource(access.exit_with)
    assert re.search(r"^ +hold\(module", source, re.MULTILINE), f"{module} changes hosts without host_lock.hold"
