"""PostgreSQL, Redis and MinIO on another host, another release and under another name: refused, then moved with the
literal commands of the how-to; takes an hour."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import yaml
from ansible_collections.mlfleet.stack.plugins.module_utils.dioptra import smoke_job

from .clients import job_options, wrong_with
from .conftest import ROOT, Lab

pytestmark = pytest.mark.fleet

GUIDE = (ROOT / "docs/howto/move.md").read_text()
STORES = ("postgres", "redis", "minio")


class Moves(Lab):
    """Three hosts, all services on the first; the third has Debian 13."""

    former: dict

    def put(self, **hosts: str) -> None:
        path = self.inventory / "hosts.yml"
        inventory = yaml.safe_load(path.read_text())
        inventory["all"]["children"] |= {group: {"hosts": {host: None}} for group, host in hosts.items()}
        path.write_text(yaml.safe_dump(inventory, sort_keys=False))

    def refuses(self, words: str, *arguments: str) -> None:
        for mode in ([], ["--check"]):
            run = self.playbook(*arguments, *mode)
            lines = [line for line in run.output.splitlines() if words in line and "topology_empty" in line]
            print("\n".join(lines[:1]))
            assert run.code != 0 and lines, run.output[-3000:]
            assert run.count("changed") == 0

    def follow(self, heading: str, hosts: dict[str, str]) -> None:
        """Run the block before the headings, which stops the users of the data, and the one of this heading."""
        # The commands' ssh is the lab's here; Ansible has its own.
        ssh = f'ssh() {{ mlfleet lab ssh -i {self.name} "$1" -- "${{@:2}}"; }}\n'
        for text in (GUIDE.split("\n## ")[0], next(part for part in GUIDE.split("\n## ") if part.startswith(heading))):
            (block,) = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
            script = re.sub("db[12]", lambda name: hosts[name[0]], block).replace("-i prod", f"-i {self.name}")
            self.command("bash", "-euo", "pipefail", "-c", ssh + script)

    def has_its_past(self) -> None:
        assert wrong_with(job_options(self, self.address("db1")), self.former) == ""


@pytest.fixture(scope="module")
def lab() -> Iterator[Moves]:
    services = {group: ["db1"] for group in [*STORES, "mlflow", "restapi", "nginx", "worker_custom"]}
    settings = {"topology_nginx_listen_address": "0.0.0.0", "restapi_gunicorn_workers": 1}
    settings["worker_custom_kinds"] = [{"name": "plain", "queues": ["tensorflow-cpu"]}]
    with Moves.anew("moves", {**services, "spare": ["db2", "db3"]}, "--debian", "db3=13", **settings) as lab:
        lab.converge()
        (lab.former,) = smoke_job.run_jobs(job_options(lab, lab.address("db1")))["jobs"]
        yield lab


def test_second_run_changes_nothing_and_marks_agree(lab: Moves) -> None:
    assert lab.converge().count("changed") == 0
    for store, path in (
        ("postgres", "/var/lib/postgresql/15/main/mlfleet.mark"),
        ("redis", "/var/lib/redis/mlfleet.mark"),
        ("minio", "/var/lib/mlfleet/minio/data/.minio.sys/mlfleet.mark"),
    ):
        assert lab.ssh(f"sudo cat {path} | diff - /etc/mlfleet/stores/{store}", host="db1") == ""


@pytest.mark.parametrize(
    ("store", "unit", "path"),
    [
        ("postgres", "postgresql@15-main", "/var/lib/postgresql/15/main"),
        ("redis", "redis-server", "/var/lib/redis"),
        ("minio", "minio", "/var/lib/mlfleet/minio/data"),
    ],
)
def test_renamed_directory_is_refused_and_found_again(lab: Moves, store: str, unit: str, path: str) -> None:
    lab.ssh(f"sudo systemctl stop {unit} && sudo mv {path} {path}.away", host="db1")
    lab.refuses(f"{store} on db1 has no data")
    lab.ssh(f"sudo mv {path}.away {path}", host="db1")
    lab.converge()
    lab.has_its_past()


@pytest.mark.parametrize(
    ("store", "heading"), [("postgres", "PostgreSQL, the same"), ("redis", "Redis"), ("minio", "MinIO")]
)
def test_moved_line_is_refused_until_the_data_are_moved(lab: Moves, store: str, heading: str) -> None:
    lab.put(**{store: "db2"})
    lab.refuses(f"{store} on db2 has no data")
    limited = lab.playbook("--limit", "db1")
    assert limited.code != 0 and f"{store} was on db1" in limited.output and limited.count("changed") == 0
    lab.follow(heading, {"db1": "db1", "db2": "db2"})
    lab.has_its_past()
    assert lab.converge("--check").count("changed") == 0


def test_another_major_version_is_refused_until_the_data_are_moved(lab: Moves) -> None:
    lab.put(postgres="db3")
    lab.refuses("postgres on db3 has no data")
    lab.follow("PostgreSQL, another", {"db1": "db2", "db2": "db3"})
    lab.has_its_past()
    lab.verify()
    assert lab.converge("--check").count("changed") == 0


def test_accepted_empty_store_is_used_from_then_on(lab: Moves) -> None:
    lab.put(redis="db3")
    lab.refuses("redis on db3 has no data")
    lab.converge("-e", "topology_empty_store_accepted=redis")
    assert lab.converge().count("changed") == 0
    lab.verify()
