"""Two hosts that share images through a registry, which requires an account."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .conftest import Lab

pytestmark = pytest.mark.fleet

BUILDER, OTHER = "one", "two"
PORT = 5001
ACCOUNT = ("fleet", "not-to-be-seen-anywhere")
REGISTRY = f"""
version: 0.1
storage: {{filesystem: {{rootdirectory: /var/lib/docker-registry}}}}
http:
  addr: 0.0.0.0:{PORT}
  tls: {{certificate: /etc/mlfleet/tls/host.crt, key: /etc/mlfleet/tls/host.key}}
auth:
  htpasswd: {{realm: images, path: /etc/docker/registry/htpasswd}}
"""
INSTALL = f"""
set -e
export DEBIAN_FRONTEND=noninteractive
sudo apt-get -qq update </dev/null
sudo --preserve-env apt-get -qq install --yes --no-install-recommends docker-registry apache2-utils </dev/null
sudo tee /etc/docker/registry/config.yml >/dev/null
sudo htpasswd -Bbc /etc/docker/registry/htpasswd {" ".join(ACCOUNT)}
sudo usermod --append --groups ssl-cert docker-registry
sudo systemctl restart docker-registry
"""


@pytest.fixture(scope="module")
def sharing() -> Iterator[Lab]:
    """A lab with a registry on its first host, and nginx on both; nothing has run yet."""
    site = {
        "name": "example",
        "port": 8080,
        "backends": [BUILDER],
        "routes": [{"path": "/", "redirect": "/elsewhere/"}],
    }
    settings = {
        "topology_runtime": "docker",
        "nginx_sites_extra": [site],
        "image_registry": "{{ hostvars['" + BUILDER + "'].topology_address }}:" + str(PORT),
        "image_registry_username": ACCOUNT[0],
        "image_registry_password": ACCOUNT[1],
    }
    groups = {"nginx": [BUILDER, OTHER], "image_builder": [BUILDER]}
    with Lab.anew("sharing", groups, "--docker-inside", **settings) as lab:
        lab.converge("--tags", "host")
        lab.ssh(INSTALL, host=BUILDER, input=REGISTRY)
        yield lab


def reference(lab: Lab, host: str) -> str:
    return lab.ssh("cat /opt/mlfleet/images/nginx", host=host).strip()


def test_image_is_built_once_and_pulled_by_its_digest(sharing: Lab) -> None:
    assert sharing.converge("--check").count("failed") == 0
    run = sharing.converge("-vvv")
    assert ACCOUNT[1] not in run.output
    assert "@sha256:" in reference(sharing, BUILDER)
    assert reference(sharing, OTHER) == reference(sharing, BUILDER)
    # Only the host that builds has the base image.
    bases = {host: sharing.ssh("sudo docker images --quiet debian", host=host) for host in (BUILDER, OTHER)}
    assert bases[BUILDER] and not bases[OTHER]
    for host in (BUILDER, OTHER):
        running = sharing.ssh("sudo docker inspect --format '{{.Config.Image}}' mlfleet-nginx", host=host)
        assert running.strip() == reference(sharing, host)
        assert not sharing.ssh("sudo ls /root/.docker 2>/dev/null; true", host=host)


def test_second_run_does_without_the_registry(sharing: Lab) -> None:
    sharing.ssh("sudo systemctl stop docker-registry", host=BUILDER)
    assert sharing.converge().count("changed") == 0


def test_host_without_the_image_says_what_is_missing(sharing: Lab) -> None:
    sharing.ssh("sudo systemctl stop nginx; sudo docker image prune --all --force", host=OTHER)
    run = sharing.playbook("--limit", OTHER)
    assert run.code != 0
    assert "docker pull fails" in run.output and "connection refused" in run.output
    sharing.ssh("sudo systemctl start docker-registry", host=BUILDER)
    sharing.converge("--limit", OTHER)
    assert reference(sharing, OTHER) == reference(sharing, BUILDER)
    assert sharing.converge("--check").count("changed") == 0
