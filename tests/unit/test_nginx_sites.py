"""Services declare their parts of sites, and nginx serves each site once."""

from __future__ import annotations

from ansible_collections.mlfleet.stack.plugins.filter.nginx import (
    listener_files,
    merged_sites,
    origins,
    pages,
    served,
    site_names,
)

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


def of_services(**declared):
    return merged_sites(declared.values(), [f"topology_{name}_sites" for name in declared])


def test_what_several_declare_of_one_site_is_put_together():
    store, front = of_services(pages=[PAGES], none=[], store=[API, STORE])
    assert store["name"] == "store"
    assert front["backends"] == ["b", "a"]
    assert front["routes"] == [{"path": "/"}, {"path": "/api/"}]
    assert front["scheme"] == "https"


def test_service_without_hosts_has_no_part():
    assert of_services(pages=[PAGES | {"backends": []}], api=[API]) == [{**API, "pages": []}]


def test_pages_name_the_hosts_of_their_service_and_come_before_interfaces():
    found = pages(of_services(pages=[PAGES], store=[API, STORE]))
    assert [(page["name"], page["site"], page["port"], page["hosts"], page["service"]) for page in found] == [
        ("Front", "front", 443, ["b"], "pages"),
        ("Store", "store", 80, ["c"], "store"),
    ]


def test_site_that_hosts_use_listens_where_they_reach_it():
    sizes = {"front": 100, "store": 4000}
    store, front = served(of_services(api=[API | {"body_size_mb": 7}], store=[STORE]), "127.0.0.1", "192.0.2.1", sizes)
    assert (store["listen_address"], front["listen_address"]) == ("127.0.0.1", "0.0.0.0")
    assert (store["body_size_mb"], front["body_size_mb"]) == (4000, 7)  # a site's own value takes precedence
    assert not {"pages", "for_hosts"} & (set(store) | set(front))


def test_site_has_a_name_in_the_domain():
    sites = of_services(pages=[PAGES], api=[API | {"subdomain": "www"}, STORE])
    names = site_names(sites, "example.org", {"store": "shop", "mine": "notebook"})
    assert names == {"store": "shop.example.org", "front": "www.example.org", "mine": "notebook.example.org"}
    assert origins(sites, "https://", "h", names) == {name: f"https://{names[name]}" for name in ("store", "front")}
    assert origins(sites, "http://", "h", {}) == {"store": "http://h:80", "front": "http://h:443"}


def test_site_listens_at_its_port_and_by_its_name():
    def listeners(*arguments):
        files = listener_files({"front": "0.0.0.0:30443", "mine": "127.0.0.1:8080"}, *arguments, "/tls")
        return {file["path"]: file["vars"]["listener"] for file in files}

    own = {"listen": ["127.0.0.1:8080"], "server_name": ""}
    names = {"front": "front.example.org"}
    assert listeners(names, "127.0.0.1:443") == {
        "/tls/front.conf": {"listen": ["0.0.0.0:30443", "127.0.0.1:443"], "server_name": "front.example.org"},
        "/tls/mine.conf": own,
        "/tls/443.conf": {"listen": ["127.0.0.1:443 default_server"], "server_name": ""},
    }
    assert listeners(names, "")["/tls/front.conf"] == {"listen": ["0.0.0.0:30443"], "server_name": ""}
    assert set(listeners({}, "")) == {"/tls/front.conf", "/tls/mine.conf"}
