"""The files that ssl_toggle writes for each service; nothing else stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import trust_as_template
from ansible_collections.mlfleet.stack.plugins.filter.nginx import listener_files
from ansible_collections.mlfleet.stack.plugins.filter.tls import scheme, tls_pair, uses_tls
from ansible_collections.mlfleet.stack.plugins.module_utils.files import Item
from ansible_collections.mlfleet.stack.plugins.module_utils.tls import certificates, toggle
from ansible_collections.mlfleet.stack.plugins.module_utils.tls.certificates import Pem
from ansible_collections.mlfleet.stack.plugins.module_utils.tls.take_up import Service, ToggleError, items
from ansible_collections.mlfleet.stack.plugins.plugin_utils.templating import RememberingEngine

from tests.certificates import make

ROLES = Path(__file__).parents[2] / "roles"
ROOT = make("root", is_authority=True)
LEAF = make("www", ROOT)
PAIR = {"certificate": "c", "key": "k"}
SERVICE = Service(unit="u", owner="me", directory="/etc/u/tls", address="127.0.0.1:1")


@pytest.fixture
def pair() -> certificates.Pair:
    return certificates.pair(Pem("c", LEAF.certificate), Pem("k", LEAF.private), None, [Pem("a", ROOT.certificate)])


def written(service: Service) -> dict[str, Item]:
    return {item.path: item for item in items(service)}


def options(**given: Any) -> dict[str, Any]:
    return {name: option.get("default") for name, option in toggle.ARGUMENT_SPEC.items()} | given


def rendered(role: str, template: str, **variables: Any) -> str:
    settings = yaml.safe_load((ROLES / role / "vars/main.yml").read_text())
    directories = {name: trust_as_template(value) for name, value in settings.items() if name.endswith("_dir")}
    known = {**directories, "__postgres_version": "15", "topology_tls_ciphers": ["A", "B"], **variables}
    text = (ROLES / role / "templates" / template).read_text()
    return RememberingEngine(DataLoader(), variables=known).render_file(trust_as_template(text), [])


def test_key_is_closed_and_never_shown(pair: certificates.Pair) -> None:
    keys = [item for item in written(replace(SERVICE, pair=pair)).values() if "PRIVATE KEY" in item.content]
    assert [(item.path, item.mode, item.sensitive, item.owner, item.group) for item in keys] == [
        ("/etc/u/tls/key.pem", "0400", True, "me", "me")
    ]


def test_without_tls_no_key_stays() -> None:
    found = written(replace(SERVICE, settings={"/etc/u/tls/u.conf": "off"}, clients=ROOT.certificate))
    assert found["/etc/u/tls"].purge
    assert {*found} == {"/etc/u/tls", "/etc/u/tls/u.conf"}


def test_files_have_the_names_that_the_service_looks_for(pair: certificates.Pair) -> None:
    found = written(replace(SERVICE, pair=pair, certificate_file="public.crt", key_file="private.key"))
    assert {*found} == {"/etc/u/tls", "/etc/u/tls/public.crt", "/etc/u/tls/private.key"}


def test_clients_authorities_are_beside_the_pair(pair: certificates.Pair) -> None:
    found = written(replace(SERVICE, pair=pair, clients=ROOT.certificate))
    assert found["/etc/u/tls/clients.pem"].content == ROOT.certificate


def test_request_for_tls_is_in_hexadecimal_digits() -> None:
    given = options(service="db", owner="me", directory="/d", address="a:1", plain_request="PING")
    service = toggle.service_of(given | {"tls_request": "0000000804d2162f"})
    assert (service.unit, service.tls_request, service.plain_request) == ("db", b"\0\0\0\x08\x04\xd2\x16/", b"PING\r\n")
    with pytest.raises(ToggleError, match="db: tls_request must be hexadecimal digits"):
        toggle.service_of(given | {"tls_request": "SSLRequest"})


def test_redis_has_one_port_of_one_kind() -> None:
    port = {"topology_redis_port": 1234, "__redis_client_authorities": []}
    assert rendered("redis", "tls.conf.j2", __redis_pair=PAIR, **port) == (
        "# Made by mlfleet's ssl_toggle; changes are undone by the next run.\n"
        "port 0\n"
        "tls-port 1234\n"
        "tls-cert-file /etc/redis/tls/certificate.pem\n"
        "tls-key-file /etc/redis/tls/key.pem\n"
        'tls-protocols "TLSv1.2 TLSv1.3"\n'
        "tls-ciphers A:B\n"
        "tls-auth-clients no\n"
    )
    plain = rendered("redis", "tls.conf.j2", __redis_pair={}, **port)
    assert plain == "# Made by mlfleet's ssl_toggle; changes are undone by the next run.\nport 1234\n"


def test_clients_have_to_show_a_certificate_where_told() -> None:
    redis = {"__redis_pair": PAIR, "topology_redis_port": 1}
    texts = [rendered("redis", "tls.conf.j2", __redis_client_authorities=[name], **redis) for name in ("a", "b")]
    assert all("\ntls-auth-clients yes\ntls-ca-cert-file /etc/redis/tls/clients.pem\n" in text for text in texts)
    assert texts[0] != texts[1]  # on which it restarts
    postgres = {"__postgres_pair": PAIR}
    text = rendered("postgres", "mlfleet-tls.conf.j2", __postgres_client_authorities=["a"], **postgres)
    assert text.endswith("ssl_ciphers = 'A:B'\nssl_ca_file = '/etc/postgresql/15/main/tls/clients.pem'\n")
    assert "ssl_ca_file" not in rendered(
        "postgres", "mlfleet-tls.conf.j2", __postgres_client_authorities=[], **postgres
    )


def test_each_site_of_nginx_has_its_listener() -> None:
    files = listener_files({"a": "0.0.0.0:1", "b": "127.0.0.1:2"}, {}, "", "/etc/nginx/mlfleet-tls")
    assert [file["path"] for file in files] == ["/etc/nginx/mlfleet-tls/a.conf", "/etc/nginx/mlfleet-tls/b.conf"]

    def text(pair: dict[str, str], seconds: int) -> str:
        return rendered(
            "nginx", files[1]["template"], __nginx_pair=pair, nginx_hsts_max_age_seconds=seconds, **files[1]["vars"]
        )

    assert "\nlisten 127.0.0.1:2 ssl;\n" in text(PAIR, 60)
    assert text(PAIR, 60).endswith('\nadd_header Strict-Transport-Security "max-age=60" always;\n')
    assert "Strict-Transport-Security" not in text(PAIR, 0)
    assert text({}, 60).endswith(" next run.\nlisten 127.0.0.1:2;\n")


def test_unquoted_off_is_off() -> None:
    assert [scheme(mode) for mode in ("internal", "provided", "off", False)] == ["https", "https", "http", "http"]
    assert not uses_tls(False)


def test_service_takes_its_own_pair_before_the_hosts() -> None:
    pairs = {"host": {"certificate": "h", "key": "hk"}, "nginx": {"certificate": "n", "key": "nk"}}
    assert tls_pair("provided", "nginx", pairs, "/d") == {"certificate": "n", "key_text": "nk"}
    assert tls_pair("provided", "redis", pairs, "/d") == {"certificate": "h", "key_text": "hk"}
    assert tls_pair("internal", "redis", pairs, "/d") == {"certificate": "/d/host.crt", "key": "/d/host.key"}
    assert tls_pair(False, "redis", pairs, "/d") == {}
