"""Common values of hosts are rendered once, and each host still gets the same as if rendered alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.mlfleet.stack.plugins.plugin_utils import rendering

from tests import rendered_settings

ROOT = Path(__file__).parents[2]
# A host's own value, one in a template, one that a template names by its text, and one that fails.
OWN = {
    "node3": {
        "topology_address": "198.51.100.53",
        "topology_config_dir": "/etc/other",
        "topology_worker_queues": "{{ lookup('vars', 'mine') }}",
        "mine": {"worker_tensorflow_cpu": ["its_own"]},
    },
    "node4": {"topology_postgres_host": "{{ nowhere }}"},
    "node5": {"ansible_host": None},
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The example inventory over many hosts, with more workers."""
    directory = tmp_path_factory.mktemp("prod")
    inventory = yaml.safe_load((ROOT / "inventories/prod/hosts.yml").read_text())["all"]
    for number in (3, 4, 5, 6):
        name = f"node{number}"
        own = {"ansible_host": f"192.0.2.{50 + number}", **OWN.get(name, {})}
        inventory["hosts"][name] = {option: value for option, value in own.items() if value is not None}
        inventory["children"]["workers"]["children"]["worker_tensorflow_cpu"]["hosts"][name] = {}
    (directory / "hosts.yml").write_text(yaml.safe_dump({"all": inventory}))
    return rendered_settings.rendered(directory, "node1", "node3", "node4", "node5", "node6", "app1", "app2")


def test_each_host_gets_what_it_would_get_alone(rendered: dict[str, Any]) -> None:
    found = rendered["together"]
    assert found == rendered["alone"]
    assert found["node1"]["topology_address"] == "192.0.2.51" and found["node3"]["topology_address"] == "198.51.100.53"
    assert found["node3"]["topology_worker_queues"] == OWN["node3"]["mine"] != found["node1"]["topology_worker_queues"]
    assert str(found["node3"]).count("/etc/other") > 1 and "/etc/other" not in str(found["node5"])
    assert "nowhere" in found["node4"]["topology_postgres_address"]
    assert found["node5"]["topology_postgres_address"] == found["node1"]["topology_postgres_address"]
    assert found["node5"]["topology_address"] == "node5"


def test_what_hosts_have_in_common_is_rendered_once(rendered: dict[str, Any]) -> None:
    first, last = (rendered["count"][name] for name in ("node1", "node6"))
    assert {"topology_address", "topology_tls_names"} <= set(last)
    assert len(last) < len(first) / 12


@pytest.mark.parametrize(
    ("value", "names"),
    [
        ("plain", set()),
        ("{{ a.b | default(c) }} {% for x in d %}{{ x }}{% endfor %}", {"a", "c", "d", "x"}),
        ({"{{ k }}": ["{{ v[hostvars[w].z] }}", 1, None]}, {"k", "v", "hostvars", "w"}),
        ("{{ lookup('vars', 'a') }}", {"lookup"}),
        ("{{ no end", rendering.UNKNOWABLE),
    ],
)
def test_names_in_templates_are_found(value: object, names: set[str]) -> None:
    assert set(rendering.names_in(value)) == names
