"""Layouts of MinIO's drives that the data on them does not have."""

from __future__ import annotations

import json

import pytest
from ansible_collections.mlfleet.stack.plugins.filter.minio import pool_endpoints
from ansible_collections.mlfleet.stack.plugins.modules import minio_drives

HOSTS = {"h1": {"ansible_host": "10.0.0.1"}, "h2": {"topology_address": "store2"}}


def pool(hosts=("h1", "h2"), volumes=("/a", "/b")):
    return {"hosts": list(hosts), "volumes": list(volumes)}


def written(place, count=4, per_set=4):
    """What MinIO writes on a drive, seen in its format.json."""
    drives = [f"drive-{index}" for index in range(count)]
    sets = [drives[start : start + per_set] for start in range(0, count, per_set)]
    return json.dumps({"version": "1", "format": "xl", "xl": {"version": "3", "this": drives[place], "sets": sets}})


def problems(formats, **changes):
    return list(minio_drives.layout_problems(pool(**changes), "h2", formats))


def test_endpoints_are_the_drives_at_their_hosts_addresses():
    assert pool_endpoints(pool(), HOSTS, "http", 9000)["args"] == [
        "http://10.0.0.1:9000/a",
        "http://10.0.0.1:9000/b",
        "http://store2:9000/a",
        "http://store2:9000/b",
    ]


def test_drives_as_declared_are_fine():
    # The first drives of all hosts come first.
    assert problems({"/a": written(1), "/b": written(3)}) == []
    assert problems({"/a": written(1, per_set=2), "/b": written(3, per_set=2)}) == []


def test_new_and_replaced_drives_are_fine():
    assert problems({}) == [] and problems({"/b": written(3)}) == []


@pytest.mark.parametrize(
    ("formats", "changes", "problem"),
    [
        ({"/a": written(1)}, {"hosts": ["h1", "h2", "h3"]}, "/a: it belongs to a pool of 4 drives with data, and is"),
        ({"/a": written(1)}, {"volumes": ["/a"]}, "/a: it belongs to a pool of 4 drives with data"),
        ({"/a": written(0, 1)}, {}, "/a: it belongs to a pool of 1 drives"),
        ({"/a": written(1)}, {"hosts": ["h2", "h1"]}, "/a: it is drive 2 of its pool, and is declared as drive 1"),
        ({"/a": written(3), "/b": written(1)}, {}, "/a: it is drive 4 of its pool, and is declared as drive 2"),
        ({"/a": "{}"}, {}, "/a: .minio.sys/format.json is not MinIO's"),
        ({}, {"hosts": [f"h{index}" for index in range(2, 19)], "volumes": ["/a"]}, "a pool of 17 drives cannot be"),
    ],
)
def test_other_layout_is_refused(formats, changes, problem):
    assert problems(formats, **changes)[0].startswith(problem)


def test_pool_may_not_vanish(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text('# Made by mlfleet\n{"version": "v2", "pools": [{"args": []}, {"args": []}]}\n')
    options = {
        "host": "h1",
        "pools": [pool(["h1"], [str(tmp_path)])],
        "config": str(config),
        "root_drives_allowed": False,
        "pool_removal_allowed": False,
    }
    [problem] = minio_drives.problems(options)
    assert problem.startswith("there were 2 pools and 1 are declared")
    assert not list(minio_drives.problems(options | {"pool_removal_allowed": True}))


def test_distributed_drives_are_not_on_the_root_file_system():
    options = {"host": "h1", "pools": [pool(volumes=["/nonexistent/a"])], "config": None, "pool_removal_allowed": False}
    [problem] = minio_drives.problems(options | {"root_drives_allowed": False})
    assert problem.startswith("/nonexistent/a: it is on the root file system")
    assert not list(minio_drives.problems(options | {"root_drives_allowed": True}))
