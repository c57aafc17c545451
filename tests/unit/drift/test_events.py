"""A run's events are sorted into drift and problems that kept it from being seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mlfleet.drift.events import MAX_DIFF_LINES, Collector, Roles, message, objects, unified
from mlfleet.drift.report import Drift, Kind, State
from mlfleet.drift.run import Target, play

from .conftest import HERE

ROOT = HERE.parents[2]
AWAY = "all: {hosts: {away: {ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 1}}}\n"


@pytest.fixture(scope="module")
def root(make_project: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = make_project(tmp_path_factory.mktemp("events"))
    (root / "inventory/away.yml").write_text(AWAY)
    return root


@pytest.fixture(scope="module")
def found(root: Path) -> Collector:
    """The findings of a real run over three hosts, one of which does not answer."""
    return play(Target(root, root / "inventory"), "playbooks/events.yml", ["--check", "--diff"], lambda _event: None)


def of(found: Collector, task: str) -> dict[str, Drift]:
    return {item.object: item for item in found.found() if item.task == task and item.host == "one"}


def test_each_changed_path_is_an_entry(found: Collector, root: Path) -> None:
    state = root / "state-one"
    drift = of(found, "Install the files")
    assert list(drift) == [str(state), f"{state}/a.conf", f"{state}/b.conf"]
    assert "+a = 1" in drift[f"{state}/a.conf"].diff
    assert "+directory" in drift[str(state)].diff


def test_role_is_the_service_not_its_building_block(found: Collector) -> None:
    assert {item.role for item in of(found, "Install the files").values()} == {"service"}


def test_role_of_a_task_in_a_play_of_several_is_its_tag(found: Collector) -> None:
    assert of(found, "Provide accounts")["role app"].role == "accounts"
    assert of(found, "Run the units")["app.service"].role == "units"


def test_builtin_modules_are_named_by_the_file_they_change(found: Collector, root: Path) -> None:
    assert list(of(found, "Make a directory")) == [f"{root}/state-one/directory"]
    assert list(of(found, "Copy a file")) == [f"{root}/state-one/copied"]
    assert of(found, "Keep a file on the controller") == {}  # it is not a host
    (line,) = of(found, "Have a line").values()
    assert (line.object, line.diff.splitlines()[-1]) == (f"{root}/inventory/hosts.yml", "+# a comment")


def test_each_key_of_a_document_is_an_entry(found: Collector) -> None:
    drift = of(found, "Provide accounts")
    assert drift["role app"].diff.splitlines()[1:] == ["-password: another one", "+password: as declared"]
    assert drift["role new"].diff.splitlines()[1:] == ["+password: as declared"]


def test_unit_is_named_with_what_would_be_done(found: Collector) -> None:
    assert of(found, "Run the units")["app.service"].diff == "started, because it was not running"


def test_reason_stands_for_a_diff_that_is_not_there(found: Collector) -> None:
    assert of(found, "Keep the certificate")["Keep the certificate"].diff == "3 days are left"


def test_each_item_of_a_loop_is_an_entry(found: Collector) -> None:
    assert list(of(found, "Provide the buckets")) == ["/srv/first", "/srv/second"]


def test_undeclared_objects_of_a_task_that_changes_nothing_are_drift(found: Collector) -> None:
    drift = of(found, "Look for accounts")
    assert {item.kind for item in drift.values()} == {Kind.UNDECLARED}
    assert {name: item.remove for name, item in drift.items()} == {
        "PostgreSQL role mallory": "dropuser mallory",
        "bucket left-over": None,
    }


def test_censored_change_is_drift_without_its_content(found: Collector) -> None:
    assert list(of(found, "Install a secret")) == ["Install a secret"]
    assert list(of(found, "Install secrets")) == ["Install secrets"]
    assert "s3cret" not in repr(found)


def test_only_tasks_that_check_mode_skipped_are_not_checkable(found: Collector) -> None:
    tasks = [problem.task for problem in found.not_checkable]
    assert tasks == ["Ask a module without check mode", "Run a command"]


def test_ignored_and_rescued_failures_are_none(found: Collector) -> None:
    (failure,) = found.lasting
    assert (failure.host, failure.task, failure.message) == ("two", "Go wrong for good", "first line; second line")


def test_host_that_does_not_answer_keeps_no_other_from_being_checked(found: Collector) -> None:
    (problem,) = found.unreachable
    assert problem.host == "away" and "\n" not in problem.message
    hosts = {host.name: host for host in found.hosts(["one", "two", "away"], ["one", "two"])}
    assert {name: host.state for name, host in hosts.items()} == {
        "one": State.DRIFTED,
        "two": State.FAILED,
        "away": State.UNREACHABLE,
    }
    assert hosts["one"].roles[0] == "accounts" and "service" in hosts["two"].roles and not hosts["away"].roles


def test_state_is_unknown_when_a_play_has_not_begun(found: Collector) -> None:
    ended = Collector(Roles({}, {}, (*found.roles.names, "A play that never came")), played=found.played)
    assert [host.state for host in ended.hosts(["one"], [])] == [State.UNKNOWN]


def test_role_that_no_tag_names_is_not_looked_at_whole() -> None:
    found = Collector(Roles({}, {}, ()), frozenset({"redis"}))
    for role in ("redis", "minio"):
        found(result("Look", role, changed=False))
    assert [host.roles for host in found.hosts(["one"], [])] == [("redis",)]


def test_recorded_events_of_redis() -> None:
    found = Collector(Roles.read(ROOT / "playbooks/site.yml"))
    for event in json.loads((HERE / "redis.json").read_text()):
        found(event)
    drift = {item.object: item for item in found.found()}
    assert list(drift) == ["/etc/redis", "/etc/redis/redis.conf", "redis-server.service"]
    assert {item.role for item in drift.values()} == {"redis"}
    assert drift["/etc/redis"].diff.splitlines()[1:] == ["-directory redis:redis 2600", "+directory redis:redis 2770"]
    assert "-maxmemory 1mb\n+maxmemory 0mb" in drift["/etc/redis/redis.conf"].diff
    assert drift["redis-server.service"].diff == "started, because it was not running"
    assert [host.roles for host in found.hosts(["testbed"], ["testbed"])] == [("host", "redis")]


def result(task: str, role: str, **values: object) -> dict:
    data = {"host": "one", "play": "", "task": task, "role": role, "res": {"changed": True, **values}}
    return {"event": "runner_on_ok", "event_data": data}


@pytest.mark.parametrize(("role", "objects"), [("mlflow", ["/opt/mlflow"]), ("restapi", ["/opt/mlflow", "mlflow"])])
def test_restart_for_what_an_earlier_task_of_the_role_found_is_no_drift_of_its_own(role: str, objects: list) -> None:
    found = Collector(Roles({}, {}, ()))
    found(result("Install", role, path="/opt/mlflow"))
    found(result("Run", "mlflow", actions={"mlflow": "restarted, because a file it reads has changed"}))
    assert [item.object for item in found.found()] == objects


def test_each_play_of_one_role_is_that_role() -> None:
    roles = Roles.read(ROOT / "playbooks/site.yml")
    expected = {path.name for path in (ROOT / "roles").iterdir()} - {
        *("topology", "unit", "python_app", "native_app", "image", "worker", "serving", "rollout")
    }
    assert set(roles.plays.values()) == expected


def test_steps_of_a_rollout_are_no_drift() -> None:
    found = Collector(Roles({"MLflow": "mlflow"}, {}, ()))
    data = {"play": "MLflow", "role": "rollout", "task": "Drain server app1", "host": "app1"}
    found({"event": "runner_on_ok", "event_data": data | {"res": {"changed": True}}})
    assert found.found() == ()
    found({"event": "runner_on_ok", "event_data": data | {"role": "mlflow", "res": {"changed": True}}})
    assert len(found.found()) == 1


def test_what_two_tasks_say_of_an_object_is_one_entry() -> None:
    found = Collector(Roles({}, {}, ()))
    for text in ("a\n", "a\n", "b\n"):
        diff = [{"before_header": "/etc/x", "before": "", "after": text}]
        data = {"task": "Install", "host": "app1", "res": {"changed": True, "diff": diff}}
        found({"event": "runner_on_ok", "event_data": data})
    (drift,) = found.found()
    assert drift.diff.count("+a") == 1 and drift.diff.count("+b") == 1


def test_unit_that_takes_up_a_changed_file_is_no_object_of_its_own() -> None:
    def diff(name: str, after: str) -> dict[str, str]:
        return {"before_header": name, "before": "", "after": after}

    restarted = {"redis.service": "restarted, because a file it reads has changed"}
    changed = {"changed_paths": ["/etc/x"], "diff": [diff("/etc/x", "a"), diff("redis.service", "restarted")]}
    assert list(objects("Run redis", changed | {"actions": restarted})) == ["/etc/x"]
    assert objects("Run redis", {"changed_paths": [], "actions": restarted}) == restarted
    started = {"redis.service": "started, because it was not running"}
    assert list(objects("Run redis", changed | {"actions": started})) == ["/etc/x", "redis.service"]


def test_long_diff_is_cut() -> None:
    lines = unified("", "x\n" * 1000).splitlines()
    assert len(lines) == MAX_DIFF_LINES + 1 and lines[-1] == f"… {1001 - MAX_DIFF_LINES} more lines"


def test_diff_that_ansible_leaves_out_is_empty() -> None:
    assert objects("Copy", {"dest": "/etc/x", "diff": [{"src_binary": 1, "dst_larger": 104448}]}) == {"/etc/x": ""}


@pytest.mark.parametrize("module", [None, "ansible.legacy.setup"])
def test_module_that_broke_down_is_told_by_its_last_line(module: str | None) -> None:
    broken = {"msg": "no start of json", "module_stderr": "Traceback:\n  ...\nOSError: No space left on device\n"}
    result = {"msg": "modules failed", "failed_modules": {module: broken}} if module else broken
    assert message(result) == "the module crashed: OSError: No space left on device"


def test_facts_that_are_refused_say_why() -> None:
    busy = "this host is busy since 2026-11-27 06:41:10 UTC by a run of anna from 192.0.2.1 (unit minio)"
    result = {
        "msg": "The following modules failed to execute: mlfleet.stack.host_facts.",
        "failed_modules": {"mlfleet.stack.host_facts": {"failed": True, "msg": busy}},
    }
    assert message(result) == busy
