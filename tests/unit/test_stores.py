"""The data with which a deployment continues: the decision table, and a host's report."""

from __future__ import annotations

import json

import pytest
from ansible_collections.mlfleet.stack.plugins.filter.unit import mark_files
from ansible_collections.mlfleet.stack.plugins.module_utils import stores
from ansible_collections.mlfleet.stack.plugins.plugin_utils import services

GROUPS = {"postgres": ["db1"], "mlflow": ["app1"], "restapi": ["app1", "app2"], "nginx": ["edge1"]}
ALL = ["db1", "app1", "app2", "edge1"]
DATA = "/var/lib/postgresql/15/main"
BEGUN = stores.Store("postgres", ["db1"], ["db1"], [], {}, "machine of db1").beginning


def place(mark="", has_data=False, path=DATA, is_declared=True):
    return {"path": path, "mark": mark, "has_data": has_data, "is_declared": is_declared}


def store(places, used, asked=ALL, name="postgres", groups=GROUPS):
    """Return a store: C(places) has those of each of its hosts, C(used) the marks of those that have used it."""
    facts = {
        host: {
            "machine_id": f"machine of {host}",
            "stores": {name: places[host]} if host in places else {},
            "used_stores": {name: used[host]} if host in used else {},
        }
        for host in asked
    }
    return stores.Store.of(name, services.users_of(name), groups, asked, lambda host: facts.get(host, {}))


def problems(found, hosts=ALL):
    return [line for host in hosts for line in found.problems(host)]


GOES_ON = {
    "fresh": ([], {}),
    "fresh, and its host has a PostgreSQL": ([place()], {}),
    "marked": ([place("x db1", True)], {"db1": "x db1", "app1": "x db1"}),
    "marked, with a new user": ([place("x db1", True)], {"app1": "x db1"}),
    "marked, moved along": ([place("x db0", True)], {"app1": "x db0"}),
    "of before there were marks": ([place("", True)], {"app1": "", "app2": ""}),
    "of before, marked but for its users": ([place("x db1", True)], {"app1": "", "app2": ""}),
    "of before, killed when one user was marked": ([place("", True)], {"app1": f"{BEGUN} db1", "app2": ""}),
}


@pytest.mark.parametrize(("places", "used"), GOES_ON.values(), ids=GOES_ON)
def test_data_of_this_deployment_are_used(places, used):
    assert problems(store({"db1": places}, used)) == []


REFUSED = {
    "moved line": ([], {"app1": "x db0", "app2": "x db0"}, "app1, app2 used, last on db0"),
    "moved line, of before": (
        [],
        {"app1": ""},
        "not those that app1 used (looked at its directory, which does not exist)",
    ),
    "fresh cluster in its place": ([place()], {"app1": f"{BEGUN} db1"}, f"looked at {DATA}"),
    "fresh cluster in its place, of before": ([place()], {"app1": ""}, "has no data"),
    "data without a mark that came from elsewhere": ([place("", True)], {"app1": "x db0"}, "has no data"),
    "another deployment's": ([place("y db1", True)], {"app1": "x db0"}, "has other data than app1 used"),
    "one user of another's": ([place("y db1", True)], {"app1": "y db1", "app2": "x db1"}, "than app2 used"),
    "gone, and nobody else has used it": ([], {"db1": "x db1"}, "not those that db1 used"),
    "another version": (
        [place(is_declared=False, has_data=True), place(path="/var/lib/postgresql/17/main")],
        {"app1": ""},
        "looked at /var/lib/postgresql/17/main; there are data in /var/lib/postgresql/15/main on db1",
    ),
}


@pytest.mark.parametrize(("places", "used", "words"), REFUSED.values(), ids=REFUSED)
def test_an_empty_store_is_refused_in_one_line(places, used, words):
    (line,) = problems(store({"db1": places}, used))
    assert words in line and stores.GUIDE in line and "-e topology_empty_store_accepted=postgres" in line


def test_a_run_over_some_hosts_says_what_it_can_know():
    moved = store({}, {"app1": "x db0"}, ["app1", "app2"])
    (line,) = problems(moved, ["app1", "app2"])
    assert line.startswith("postgres was on db0 when this host last used it and is on db1 now")
    assert moved.mark is None
    assert problems(store({}, {"app1": "x db1"}, ["app1"]), ["app1"]) == []
    assert problems(store({}, {}, ["app1"]), ["app1"]) == []


def test_a_store_on_several_hosts_has_data_when_one_of_them_has():
    groups = {"minio": ["s1", "s2"], "mlflow": ["app1"]}

    def of(places, asked=("s1", "s2", "app1")):
        return store(places, {"app1": "x s1"}, list(asked), "minio", groups)

    assert problems(of({"s1": [place("x s1", True)], "s2": [place()]}), ["s1", "s2", "app1"]) == []
    assert problems(of({"s2": [place()]}, ["s2"]), ["s2"]) == []  # the other host is not in the run
    assert len(problems(of({}), ["s1", "s2", "app1"])) == 1


def test_an_external_store_is_nobodys_matter():
    found = store({}, {"app1": "x db1"}, groups=GROUPS | {"postgres": []})
    assert problems(found) == [] and found.mark is None


def test_marks_are_those_that_are_there_and_follow_from_the_host_else():
    assert str(store({"db1": [place("x db0", True)]}, {}).mark) == "x db1"
    assert str(store({"db1": [place("x db0", True, is_declared=False)]}, {}).mark) == f"{BEGUN} db1"
    assert str(store({}, {}).mark) == f"{BEGUN} db1"
    assert store({}, {}, groups=GROUPS | {"postgres": ["app2"]}).beginning != BEGUN


def test_a_host_tells_what_it_has_used(tmp_path):
    used = tmp_path / "stores"
    assert stores.used(used) == {}
    (tmp_path / "dioptra-restapi.secret.env").touch()
    assert stores.used(used) == {"postgres": "", "redis": ""}
    used.mkdir()  # by a run with marks, before the service was healthy
    assert stores.used(used) == {}
    (used / "redis").write_text("x db1\n")
    assert stores.used(used) == {"redis": "x db1\n"}
    assert stores.Mark.of(stores.used(used)["redis"]) == stores.Mark("x", "db1")


@pytest.mark.parametrize(
    ("name", "nothing", "data"),
    [
        ("postgres", "base/5/1259", "base/16384/1259"),
        ("redis", "mlfleet.mark", "appendonlydir/appendonly.aof.manifest"),
        ("minio", ".minio.sys/tmp/x", ".minio.sys/format.json"),
    ],
)
def test_a_host_tells_data_from_nothing(tmp_path, name, nothing, data):
    def found(path):
        return [(entry["path"], entry["has_data"]) for entry in stores.places(name, [str(path)], [f"{tmp_path}/*"])]

    assert found(tmp_path / "here") == []
    for directory, file in (("here", nothing), ("other", data)):
        (tmp_path / directory / file).parent.mkdir(parents=True)
        (tmp_path / directory / file).touch()
    assert found(tmp_path / "here") == [(f"{tmp_path}/here", False), (f"{tmp_path}/other", True)]
    declared = [entry["path"] for entry in stores.places(name, [f"{tmp_path}/here"]) if entry["is_declared"]]
    assert declared == [f"{tmp_path}/here"]
    json.dumps(stores.places(name, [f"{tmp_path}/here"]))


def test_marks_lie_with_the_data_and_with_the_host():
    marks = {"minio": "x s1"}
    assert mark_files(marks, ["postgres", "minio"], [], "mlflow") == [
        {"path": "/etc/mlfleet/stores/minio", "content": "x s1\n"}
    ]
    assert mark_files(marks, ["minio"], ["/srv/d"], "minio")[1] == {
        "path": "/srv/d/.minio.sys/mlfleet.mark",
        "content": "x s1\n",
        "owner": "minio",
        "group": "minio",
    }
