"""What ssl_toggle writes for each service, and nothing else stays."""

from __future__ import annotations

import pytest
from ansible_collections.mlfleet.stack.plugins.filter.tls import scheme, tls_pair, uses_tls
from ansible_collections.mlfleet.stack.plugins.module_utils.tls import certificates, services
from ansible_collections.mlfleet.stack.plugins.module_utils.tls.certificates import Pem

from tests.certificates import make

ROOT = make("root", is_authority=True)
LEAF = make("www", ROOT)


@pytest.fixture
def pair() -> certificates.Pair:
    return certificates.pair(Pem("c", LEAF.certificate), Pem("k", LEAF.private), None, [Pem("a", ROOT.certificate)])


def written(service: str, pair: certificates.Pair | None, **options: object) -> dict[str, services.Item]:
    known = services.SERVICES[service]
    wanted = services.Wanted(directory=known.directory, address="127.0.0.1:1234", pair=pair, **options)
    return {item.path: item for item in services.items(known, wanted)}


@pytest.mark.parametrize("service", services.SERVICES)
def test_key_is_closed_and_never_shown(service: str, pair: certificates.Pair) -> None:
    keys = [item for item in written(service, pair).values() if "PRIVATE KEY" in item.content]
    assert [(item.mode, item.sensitive, item.owner) for item in keys] == [
        ("0400", True, services.SERVICES[service].user)
    ]


@pytest.mark.parametrize("service", services.SERVICES)
def test_without_tls_no_key_stays(service: str, pair: certificates.Pair) -> None:
    directory = services.SERVICES[service].directory
    items = written(service, None)
    assert items[directory].purge
    assert not any("PRIVATE KEY" in item.content or "CERTIFICATE" in item.content for item in items.values())


def test_redis_has_one_port_of_one_kind(pair: certificates.Pair) -> None:
    path = "/etc/redis/tls/tls.conf"
    assert "\nport 0\ntls-port 1234\n" in written("redis", pair)[path].content
    assert written("redis", None)[path].content.endswith("\nport 1234\n")


def test_clients_have_to_show_a_certificate_where_told(pair: certificates.Pair) -> None:
    items = written("redis", pair, client_authorities=ROOT.certificate)
    assert "tls-auth-clients yes" in items["/etc/redis/tls/tls.conf"].content
    assert items["/etc/redis/tls/clients.pem"].content == ROOT.certificate
    postgres = written("postgres", pair, client_authorities=ROOT.certificate)
    assert "ssl_ca_file" in postgres["/etc/postgresql/15/main/conf.d/mlfleet-tls.conf"].content


def test_each_site_of_nginx_has_its_listener(pair: certificates.Pair) -> None:
    listen = {"a": "0.0.0.0:1", "b": "127.0.0.1:2"}
    items = written("nginx", pair, listen=listen, hsts_max_age_seconds=60)
    assert "listen 127.0.0.1:2 ssl;" in items["/etc/nginx/mlfleet-tls/b.conf"].content
    assert 'Strict-Transport-Security "max-age=60"' in items["/etc/nginx/mlfleet-tls/a.conf"].content
    plain = written("nginx", None, listen=listen, hsts_max_age_seconds=60)
    assert plain["/etc/nginx/mlfleet-tls/a.conf"].content.endswith("\nlisten 0.0.0.0:1;\n")


def test_unquoted_off_is_off() -> None:
    assert [scheme(mode) for mode in ("internal", "provided", "off", False)] == ["https", "https", "http", "http"]
    assert not uses_tls(False)


def test_service_takes_its_own_pair_before_the_hosts() -> None:
    pairs = {"host": {"certificate": "h", "key": "hk"}, "nginx": {"certificate": "n", "key": "nk"}}
    assert tls_pair("provided", "nginx", pairs, "/d") == {"certificate": "n", "key_text": "nk"}
    assert tls_pair("provided", "redis", pairs, "/d") == {"certificate": "h", "key_text": "hk"}
    assert tls_pair("internal", "redis", pairs, "/d") == {"certificate": "/d/host.crt", "key": "/d/host.key"}
    assert tls_pair(False, "redis", pairs, "/d") == {}
