"""A unit is removed with everything that only it uses, and objects that another one names stay."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils import filesystem
from ansible_collections.mlfleet.stack.plugins.module_utils.files import Item, install
from ansible_collections.mlfleet.stack.plugins.module_utils.unit import removal
from ansible_collections.mlfleet.stack.plugins.plugin_utils import services

RELOADED = ["systemctl daemon-reload", "systemctl reset-failed -- one.service"]
GROUPS = {
    "all": ["a", "b"],
    "mlflow": ["a"],
    "nginx": ["a", "b"],
    "pgadmin": [],
    "workers": ["b"],
    "worker_pytorch_cpu": ["b"],
}


@pytest.fixture
def host(tmp_path: Path, monkeypatch) -> Path:
    for name in ("units/one.service.d", "config/one", "config/two", "state/one", "opt/one.0123abcd", "opt/uv"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "opt/one").symlink_to("one.0123abcd")
    for name in (
        "units/one.service",
        "units/one.service.d/mlfleet.conf",
        "config/one/settings",
        "config/one.env",
        "shared.sh",
    ):
        (tmp_path / name).write_text("mine")
    (tmp_path / "units/two.service").touch()
    monkeypatch.setattr(removal, "UNITS", tmp_path / "units")
    return tmp_path


def own(host: Path, *names: str) -> list[str]:
    items = [Item(str(host / name)) for name in names]
    items += [Item(str(host / "config/one"), "directory", purge=True), Item(str(host / "state/one"), "directory")]
    options = {
        "run": {"template": None},
        "home": str(host / "state/one"),
        "tls": None,
        "image_file": None,
        "programs": [str(host / "opt/one")],
    }
    return [str(path.relative_to(host)) for path in removal.own(items, options)]


def test_files_directories_and_trees_of_an_environment_go(host: Path) -> None:
    assert own(host, "units/one.service", "units/one.service.d/mlfleet.conf", "config/one.env", "config/gone") == [
        "config/one",
        "config/one.env",
        "opt/one",
        "opt/one.0123abcd",
        "units/one.service",
        "units/one.service.d",
    ]


def test_recorded_file_goes_and_its_directory_stays(host: Path) -> None:
    for name in ("records", "etc/traefik/dynamic"):
        (host / name).mkdir(parents=True)
    file = host / "etc/traefik/dynamic/sites.yml"
    file.write_text("# Made by mlfleet\n")
    (host / "records/sites").write_text(f"{file}\n")
    items = [Item(str(host / "records"), "directory", records=True)]
    options = {"run": {"template": None}, "home": None, "tls": None, "image_file": None, "programs": []}
    assert removal.own(items, options) == [file, host / "records"]


def test_file_that_another_unit_names_stays(host: Path) -> None:
    (host / "units/two.service").write_text(f"ExecStop=/bin/sh {host}/shared.sh 20")
    assert "shared.sh" not in own(host, "shared.sh")
    (host / "units/two.service").write_text(f"ExecStop=/bin/sh {host}/shared.sh.old")
    assert "shared.sh" in own(host, "shared.sh")


def test_service_of_a_unit() -> None:
    names = {"pgadmin": "pgadmin", "dioptra-worker-pytorch-gpu@": "worker_pytorch_gpu", "dioptra-restapi": "restapi"}
    assert {unit: services.group_of(unit) for unit in names} == names
    assert services.group_of("postgresql@15-main") == "postgres"
    for group, unit in services.UNITS.items():
        assert services.group_of(unit) == services.group_of(unit.rstrip("@")) == group  # its unit, and its kept data
    assert services.group_of("container-mine") == "container-mine"


def test_declared_units_are_no_leftovers() -> None:
    there = ["pgadmin", "dioptra-worker-vision@", "container-mine", "mlflow"]
    declared = ["mlflow", "dioptra-worker-vision@"]
    assert services.leftovers(there, declared) == ["pgadmin", "container-mine"]
    assert services.to_remove(there, declared, "pgadmin", "a", []) == ["pgadmin"]
    assert services.to_remove(there, declared, "worker_vision", "a", []) == []
    assert services.to_remove(there, [], "a", "a", ["nginx"]) == [
        "container-mine",
        "worker_vision",
        "frontend",
        "mlflow",
        "pgadmin",
    ]


@pytest.mark.parametrize(
    ("name", "data", "found", "problem"),
    [
        ("pgadmin", "pgadmin", [[], ["pgadmin"]], ""),
        ("pgadmin", "", [[], []], ""),  # a second time
        ("pgadmin", "mlflow", [["pgadmin"]], "remove_data: mlflow is not what is removed, pgadmin"),
        ("mlflow", "", [[], ["mlflow"]], ""),  # from a host that has left the group
        ("mlflow", "", [[], []], ""),  # that a second time
        ("nginx", "", [[], []], "nginx is wanted on every host: take hosts out of its group in the inventory first"),
        ("b", "", [[], []], "b is still in nginx, worker_pytorch_cpu: take it out of these groups in the"),
        ("worker_vision", "", [["worker_vision"]], ""),
        ("worker-vision", "", [[], []], "remove: no host has worker-vision; name a host, or one of postgres,"),
        ("", "", [[], []], "remove: no host has it; name a host"),
    ],
)
def test_what_is_still_wanted_is_not_removed(name: str, data: str, found: list[list[str]], problem: str) -> None:
    assert services.removal_problem(name, data, GROUPS, found).startswith(problem)
    assert bool(services.removal_problem(name, data, GROUPS, found)) == bool(problem)


def test_what_goes_is_told() -> None:
    assert services.removal_told("mlflow", GROUPS, {"a": [], "b": ["mlflow"]}) == "to remove: mlflow from b"
    told = services.removal_told("mlflow", GROUPS, {"a": [], "b": []})
    assert told == "to remove: no service and no kept data; mlflow is wanted on a, and no other host has it"
    assert services.removal_told("pgadmin", GROUPS, {"a": []}) == "to remove: no service and no kept data"


def test_only_data_of_this_deployment_are_kept_data() -> None:
    place = {"path": "/data", "mark": "5d1c0a7b2e9f4c36 a", "has_data": True, "is_declared": True}
    stores = {"redis": [place], "postgres": [{**place, "is_declared": False}], "rabbitmq": [{**place, "mark": ""}]}
    assert services.kept_stores(stores) == ["redis-server"]


@pytest.fixture
def commands(host: Path, monkeypatch) -> list[str]:
    """Return the commands of a removal, in order, with a mark for the removal of files."""
    ran: list[str] = []
    unit = SimpleNamespace(id="one.service", is_known=True, is_running=True, is_enabled=True)
    monkeypatch.setattr(removal, "command", lambda *words, **_options: ran.append(" ".join(words)) or "")
    monkeypatch.setattr(removal, "units", lambda _names: [unit])
    monkeypatch.setattr(removal, "remove_containers", lambda *_arguments: None)
    monkeypatch.setattr(removal.pwd, "getpwnam", lambda _name: SimpleNamespace(pw_shell="/usr/sbin/nologin"))
    real = removal.files.install

    def install(items: list[Item], check_mode: bool = False, with_diff: bool = True) -> dict:
        removed = [f"rm {Path(item.path).relative_to(host)}" for item in items]
        ran.extend(each for each in removed if each not in ran)  # data are predicted first
        return real(items, check_mode, with_diff)

    monkeypatch.setattr(removal.files, "install", install)
    return ran


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("state", ["absent", "purged"])
def test_unit_file_goes_last(host: Path, commands: list[str], state: str, check_mode: bool) -> None:
    options = {
        "state": state,
        "user": "one",
        "home": str(host / "state/one"),
        "data": [],
        "tls": None,
        "image_file": None,
        "programs": [],
        "run": {"names": ["one"], "template": None, "stop_timeout_seconds": 9},
    }
    told = removal.remove([Item(str(host / "units/one.service"))], options, check_mode, True)
    assert told["changed"] and told["actions"] == {"one.service": "stopped and disabled"}
    assert ("rm state/one" in commands) == (state == "purged")
    assert any(entry["before_header"] == "user one" for entry in told["diff"]) == (state == "purged")
    assert (host / "units/one.service").exists() == (host / "state/one").exists() == check_mode or state == "absent"
    expected = ["systemctl disable --now -- one.service", "rm state/one", "userdel -- one"]
    expected = (expected if state == "purged" else expected[:1]) + ["rm units/one.service", *RELOADED]
    assert commands == ([each for each in expected if each.startswith("rm")] if check_mode else expected)


@pytest.mark.parametrize("state", ["absent", "purged"])
def test_directory_of_a_packaged_service_goes_with_the_last_data_in_it(
    host: Path, commands: list[str], state: str
) -> None:
    home = host / "state/broker"
    (home / "data").mkdir(parents=True)
    (home / "cookie").touch()
    options = {
        "state": state,
        "user": "broker",
        "home": None,
        "data": [str(home / "data")],
        "tls": None,
        "image_file": None,
        "programs": [],
        "run": {"names": ["one"], "template": None, "stop_timeout_seconds": 9},
    }
    removal.remove([Item(str(home), "directory"), Item(str(home / "cookie"))], options, False, True)
    assert (home / "data").exists() == home.exists() == (state == "absent") and not (home / "cookie").exists()
    # Its account stays with the data, so that no other one gets its number.
    assert ("userdel -- broker" in commands) == (state == "purged")


def test_mark_of_data_goes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("data/base", "disk/base", "disk/theirs"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name).with_name("mlfleet.mark").touch()
    points = [tmp_path / "disk", tmp_path / "disk/theirs"]
    monkeypatch.setattr(filesystem, "_mount_points", lambda: ["/", *map(str, points)])
    for name, left in ("data", ["mlfleet.mark"]), ("disk", ["mlfleet.mark", "theirs"]):
        removal.empty(tmp_path / name)
        assert sorted(path.name for path in (tmp_path / name).iterdir()) == left


def test_files_of_all_instances_and_mounts_go(host: Path) -> None:
    ours = "# Made by mlfleet; changes are undone by the next run.\n"
    for name in ("units/w@2.service.d/devices.conf", "units/data.mount", "units/w@.service"):
        (host / name).parent.mkdir(exist_ok=True)
        (host / name).write_text(f"{ours}[Unit]\nWants=network.target data.mount\n")
    options = {"run": {"template": "w"}, "home": None, "tls": None, "image_file": None, "programs": []}

    def gone() -> list[str]:
        return [str(path.relative_to(host)) for path in removal.own([Item(str(host / "units/w@.service"))], options)]

    assert gone() == ["units/data.mount", "units/w@.service", "units/w@2.service.d"]
    (host / "units/two.service").write_text("Wants=data.mount")
    assert gone() == ["units/w@.service", "units/w@2.service.d"]


def test_image_that_is_not_ours_or_not_ours_alone_stays(tmp_path: Path, monkeypatch) -> None:
    containers = ["0 one"]

    def docker(*words: str) -> str:
        if words[0] == "ps":
            return "\n".join(containers)
        return "abc\nabc\n" if "mlfleet/one" in " ".join(words) else ""

    monkeypatch.setattr(removal, "docker", docker)
    (tmp_path / "one").write_text("mlfleet/one:0123\n")
    assert removal.images_of(str(tmp_path / "one"), ["one.service"]) == ["abc"]
    for another in ("1 other", "2 "):
        containers[1:] = [another]
        assert removal.images_of(str(tmp_path / "one"), ["one"]) == []
    containers[1:] = []
    (tmp_path / "two").write_text("registry.example.org/theirs@sha256:00\n")
    assert removal.images_of(str(tmp_path / "two"), ["two"]) == []
    (tmp_path / "three").write_text("mlfleet/one:4567\n")
    assert removal.images_of(str(tmp_path / "one"), ["one"]) == []


def test_file_systems_mounted_in_a_removed_directory_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "ours/code",
        "ours/mine and yours/theirs/file",
        "ours/mine and yours/file",
        "disk/lost+found",
        "disk/data",
    ):
        (tmp_path / name).mkdir(parents=True)
    points = [tmp_path / "ours/mine and yours/theirs", tmp_path / "disk"]
    monkeypatch.setattr(filesystem, "_mount_points", lambda: ["/", *map(str, points)])
    items = [Item(str(tmp_path / name), "absent") for name in ("ours", "disk")]
    assert install(items, check_mode=True)["changed"]
    install(items)
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    theirs = ["ours", "ours/mine and yours", "ours/mine and yours/theirs", "ours/mine and yours/theirs/file"]
    assert left == ["disk", "disk/lost+found", *theirs]
    assert not install(items)["changed"]


def test_a_file_stays_whose_directory_another_unit_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "UNITS", tmp_path / "units")
    for name in ("units", "etc/mlfleet/shared", "etc/mlfleet/one"):
        (tmp_path / name).mkdir(parents=True)
    paths = [tmp_path / f"etc/mlfleet/{name}" for name in ("shared/code.py", "one/settings")]
    for path in paths:
        path.touch()
    (tmp_path / "units/two.service").write_text(
        f"Environment=PYTHONPATH={paths[0].parent}\nReadOnlyPaths={tmp_path}/etc/mlfleet"
    )
    assert removal.named_by_others(paths) == {paths[0]}
