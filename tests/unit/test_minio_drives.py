"""Layouts of MinIO's drives that do not match their data."""

from __future__ import annotations

import json

import pytest
from ansible_collections.mlfleet.stack.plugins.filter.minio import pool_endpoints
from ansible_collections.mlfleet.stack.plugins.modules import minio_drives

HOSTS = {"h1": {"ansible_host": "10.0.0.1"}, "h2": {"topology_address": "store2"}}


def pool(hosts=("h1", "h2"), volumes=("/a", "/b")):
    return {"hosts": list(hosts), "volumes": list(volumes)}


def written(place, count=4, per_set=4):
    """Return MinIO's format.json of a drive."""
    drives = [f"drive-{index}" for index in range(count)]
    sets = [drives[start : start + per_set] for start in range(0, count, per_set)]
    return json.dumps({"version": "1", "format": "xl", "xl": {"version": "3", "this": drives[place], "sets": sets}})


def problems(formats, **changes):
    return list(minio_drives.layout_problems(pool(**changes), "h2", formats))


def test_endpoints_are_the_drives_at_their_hosts_addresses():
    pools = [pool(), pool(["h1"], ["/c"])]
    assert pool_endpoints(pools, HOSTS, "http", 9000) == [
        {
            "args": [
                "http://10.0.0.1:9000/a",
                "http://10.0.0.1:9000/b",
                "http://store2:9000/a",
                "http://store2:9000/b",
            ]
        },
        {"args": ["http://10.0.0.1:9000/c"]},
    ]


def test_endpoints_of_one_host_are_its_directories():
    assert pool_endpoints([pool(["h1"]), pool(["h1"], ["/c"])], HOSTS, "http", 1) == [
        {"args": ["/a", "/b"]},
        {"args": ["/c"]},
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
    ],
)
def test_other_layout_is_refused(formats, changes, problem):
    assert problems(formats, **changes)[0].startswith(problem)


@pytest.mark.parametrize(
    "declared",
    [
        [pool(["h1"], ["/other"])],
        [pool(["h1"], ["/a", "/b"])],
        [pool(["h1"], ["/c"]), pool(["h1"], ["/a"])],
    ],
)
def test_pool_may_not_vanish_or_move(declared):
    [problem, *_] = minio_drives.lost_pools([(1, ["/a"])], declared)
    assert problem.startswith("pool 1 had /a on 1 host, and is declared otherwise")


def test_further_pool_may_follow_and_addresses_may_change(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text(
        '# Made by mlfleet\n{"pools": [{"args": ["http://x:1/a", "http://x:1/b", "http://y:1/a", "http://y:1/b"]}]}'
    )
    former = minio_drives.former_shapes(config)
    assert former == [(2, ["/a", "/b"])]
    assert not list(minio_drives.lost_pools(former, [pool(), pool(volumes=["/c"])]))
    assert minio_drives.former_shapes(tmp_path / "nothing") == []


def test_distributed_drives_are_not_on_the_root_file_system():
    options = {
        "host": "h1",
        "pools": [pool(volumes=["/nonexistent/a"])],
        "config": None,
        "layout_change_allowed": False,
    }
    [problem] = minio_drives.problems(options | {"root_drives_allowed": False})
    assert problem.startswith("/nonexistent/a: it is on the root file system")
    assert not list(minio_drives.problems(options | {"root_drives_allowed": True}))
