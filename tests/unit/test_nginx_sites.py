"""Services declare their parts of sites, and nginx serves each site once."""

from __future__ import annotations

from ansible_collections.mlfleet.stack.plugins.filter.nginx import merged_sites, pages, served

API = {
    "name": "front",
    "port": 443,
    "backends": ["a"],
    "for_hosts": True,
    "scheme": "https",
    "routes": [{"path": "/api/"}],
}
PAGES = {"name": "front", "port": 443, "backends": ["b"], "routes": [{"path": "/"}], "pages": [{"name": "Front"}]}
STORE = {"name": "store", "port": 80, "backends": ["c"], "routes": [], "pages": [{"name": "Store", "is_page": False}]}


def test_what_several_declare_of_one_site_is_put_together():
    store, front = merged_sites([[PAGES], [], [API, STORE]])
    assert store["name"] == "store"
    assert front["backends"] == ["b", "a"]
    assert front["routes"] == [{"path": "/"}, {"path": "/api/"}]
    assert front["scheme"] == "https"


def test_service_without_hosts_has_no_part():
    assert merged_sites([[PAGES | {"backends": []}], [API]]) == [{**API, "pages": []}]


def test_pages_name_the_hosts_of_their_service_and_come_before_interfaces():
    found = pages(merged_sites([[PAGES], [API, STORE]]))
    assert [(page["name"], page["site"], page["port"], page["hosts"]) for page in found] == [
        ("Front", "front", 443, ["b"]),
        ("Store", "store", 80, ["c"]),
    ]


def test_site_that_hosts_use_listens_where_they_reach_it():
    sizes = {"front": 100, "store": 4000}
    store, front = served(merged_sites([[API | {"body_size_mb": 7}], [STORE]]), "127.0.0.1", "0.0.0.0", sizes)
    assert (store["listen_address"], front["listen_address"]) == ("127.0.0.1", "0.0.0.0")
    assert (store["body_size_mb"], front["body_size_mb"]) == (4000, 7)  # a site's own value takes precedence
    assert not {"pages", "for_hosts"} & (set(store) | set(front))
