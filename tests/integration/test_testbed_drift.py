"""Each kind of drift is found correctly, without others, and fixed; a host that is as declared has none."""

from __future__ import annotations

import json
import shlex
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from .conftest import Lab

HERE = Path(__file__).parent / "drift"
BY_HAND = (HERE / "by_hand.sh").read_text()
DECLARED, DRIFTED = 0, 2
UNDECLARED = "undeclared"
CLEAN_RUNS = 20
WAIT_SECONDS = 400
REPORTS = "/var/lib/mlfleet/mlfleet-drift/reports"
# One group in each run of all tests, to save time.
QUICK = "files"
PACKAGE = Path(__file__).parents[2] / "molecule/restapi/resources"


@dataclass(frozen=True)
class Kind:
    """A kind of drift from kinds.yml."""

    kind: str
    object: str
    by_hand: str
    role: str | None = None
    undeclared: bool = False
    removed: str | None = None

    def is_told_by(self, item: dict) -> bool:
        is_of_kind = (item["kind"] == UNDECLARED) == self.undeclared
        return is_of_kind and item["role"] == self.role and fnmatchcase(item["object"], self.object)


def kinds_of(file: Path) -> dict[str, list[Kind]]:
    groups = yaml.safe_load(file.read_text())
    return {group: [Kind(**entry) for entry in entries] for group, entries in groups.items()}


GROUPS = kinds_of(HERE / "kinds.yml")
MARKED = [pytest.param(name, marks=() if name == QUICK else pytest.mark.fleet) for name in GROUPS]


@dataclass
class Checked:
    """A finished run of `mlfleet drift`."""

    code: int
    report: dict
    output: str

    @property
    def drift(self) -> list[dict]:
        return self.report["drift"]


class Drifting:
    """A converged testbed with manual changes."""

    def __init__(self, lab: Lab, directory: Path, host: str = "testbed") -> None:
        self.lab, self.directory, self.host = lab, directory, host
        names = {"REDIS_ADMIN": "redis_admin", "MLFLOW_ADMIN": "mlflow_admin", "DIOPTRA_ADMIN": "dioptra_admin"}
        self.secrets = lab.secrets()
        passwords = {variable: self.secrets[f"topology_secret_{name}"] for variable, name in names.items()}
        self.prelude = BY_HAND + "".join(f"export {name}={shlex.quote(value)}\n" for name, value in passwords.items())

    def by_hand(self, commands: list[str]) -> None:
        # Erlang takes away what follows on the standard input.
        script = "\n".join(f"(\n{command}\n) </dev/null" for command in commands)
        self.lab.ssh("sudo bash -eus", self.host, input=f"{self.prelude}\n{script}\n")

    def check(self, *options: str) -> Checked:
        reports = {"json": "report.json", "html": "report.html", "junit": "report.xml", "prometheus": "report.prom"}
        paths = {f"--{kind}": str(self.directory / name) for kind, name in {**reports, "history": "history"}.items()}
        words = [word for pair in paths.items() for word in pair]
        done = self.lab.command("mlfleet", "drift", "-i", self.lab.name, *words, *options, check=False)
        output = done.stdout + done.stderr
        texts = [output, *(path.read_text() for path in self.directory.rglob("*") if path.is_file())]
        assert len(texts) > len(reports) + 1
        assert [name for name, value in self.secrets.items() if any(value in text for text in texts)] == []
        return Checked(done.returncode, json.loads(Path(paths["--json"]).read_text()), output)

    def find_and_mend(self, group: str, kinds: list[Kind]) -> None:
        self.by_hand([kind.by_hand for kind in kinds])
        checked = self.check()
        found = {kind.kind: item for kind in kinds for item in checked.drift if kind.is_told_by(item)}
        missed = [kind.kind for kind in kinds if kind.kind not in found]
        false = [item["object"] for item in checked.drift if not any(kind.is_told_by(item) for kind in kinds)]
        print(f"{group}: {len(found)} found, {len(missed)} missed, {len(false)} false")
        assert (missed, false, checked.code) == ([], [], DRIFTED), checked.output

        mended = self.check("--fix", "--yes")
        undeclared = {kind.kind: kind for kind in kinds if kind.undeclared}
        assert [item for item in mended.drift if item["kind"] != UNDECLARED] == [], mended.output
        assert len(mended.drift) == len(undeclared), mended.output
        if undeclared:
            self.by_hand([kind.removed or found[name]["remove"] for name, kind in undeclared.items()])
            checked = self.check()
            assert (checked.code, checked.drift) == (DECLARED, []), checked.output


@pytest.fixture(scope="module")
def drifting(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Drifting:
    lab.converge_if_empty()
    return Drifting(lab, tmp_path_factory.mktemp("drift"))


@pytest.mark.parametrize("group", MARKED)
def test_each_kind_is_found_rightly_and_alone_and_mended(drifting: Drifting, group: str) -> None:
    drifting.find_and_mend(group, GROUPS[group])


@pytest.mark.fleet
@pytest.mark.parametrize("number", range(CLEAN_RUNS))
def test_host_that_is_as_declared_has_none(drifting: Drifting, number: int) -> None:
    checked = drifting.check()
    assert (checked.code, checked.drift, checked.report["not_checkable"]) == (DECLARED, [], [])


@pytest.fixture
def webhook(lab: Lab) -> Iterator[tuple[str, list[dict]]]:
    """An address of this machine that the lab can reach, and what was posted there."""
    gateway = lab.ssh("ip -4 route show default").split()[2]
    posted: list[dict] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

    with ThreadingHTTPServer((gateway, 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://{gateway}:{server.server_port}/", posted
        server.shutdown()


def number_of_reports(lab: Lab) -> int:
    return int(lab.ssh(f"sudo sh -c 'ls {REPORTS}/*T*Z.json 2>/dev/null | wc -l'"))  # none before the first run


def wait_for_reports(lab: Lab, number: int) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while number_of_reports(lab) < number:
        assert time.monotonic() < deadline, lab.ssh("sudo journalctl --no-pager -u mlfleet-drift | tail -40")
        time.sleep(5)


@pytest.fixture
def package(drifting: Drifting, tmp_path: Path) -> Iterator[Path]:
    """An archive for Dioptra that the inventory declares and that is outside of it."""
    archive = shutil.make_archive(str(tmp_path / "greeting"), "gztar", PACKAGE)
    settings = drifting.lab.inventory / "group_vars/restapi.yml"
    settings.write_text(json.dumps({"restapi_resources": [{"src": archive}]}))
    yield Path(archive)
    settings.unlink()


@pytest.mark.fleet
@pytest.mark.usefixtures("package")
def test_timer_finds_drift_by_itself_and_tells_once(drifting: Drifting, webhook: tuple[str, list[dict]]) -> None:
    lab, (url, posted) = drifting.lab, webhook
    group, settings = lab.inventory / "drift.yml", lab.inventory / "group_vars/drift.yml"
    group.write_text(json.dumps({"all": {"children": {"drift": {"hosts": {"testbed": None}}}}}))
    settings.write_text(
        json.dumps({"drift_schedule": "*-*-* *:*:00", "drift_jitter_seconds": 0, "drift_notify_url": url})
    )
    try:
        predicted = lab.converge("--check", "--diff")
        done = lab.converge("--diff")
        assert done.count("changed") == predicted.count("changed") > 2
        assert [name for name, value in lab.secrets().items() if value in predicted.output + done.output] == []
        assert lab.converge().count("changed") == 0
        wait_for_reports(lab, 1)
        assert posted == []

        drifting.by_hand(["echo '# mine' >>/etc/redis/redis.conf"])
        wait_for_reports(lab, number_of_reports(lab) + 4)
        (told,) = posted
        assert [item["object"] for item in told["report"]["drift"]] == ["/etc/redis/redis.conf"]
        journal = lab.ssh("sudo journalctl --no-pager -u mlfleet-drift")
        assert [name for name, value in lab.secrets().items() if value in journal] == []
    finally:
        group.unlink()
        settings.unlink()
    lab.converge()
    strays = drifting.check().drift
    directories = ["/etc/mlfleet/drift", "/opt/mlfleet/drift-project", "/var/lib/mlfleet/mlfleet-drift"]
    units = ["unit mlfleet-drift.service", "unit mlfleet-drift.timer"]
    assert sorted(item["object"] for item in strays) == [
        *(f"directory with secrets {path}" for path in directories),
        *units,
    ]
    drifting.by_hand([item["remove"] for item in strays])
    assert drifting.check().code == DECLARED
