"""A lab with the whole testbed on one host, and functions to act on it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import pytest
import yaml

from mlfleet.lab.inventory import LabInventory

ROOT = Path(__file__).parents[2]
RECAP = re.compile(
    r"^(\S+)\s+: ok=(\d+)\s+changed=(\d+)\s+unreachable=(\d+)\s+failed=(\d+)\s+skipped=(\d+)", re.MULTILINE
)

Groups = Mapping[str, Iterable[str]]  # the hosts of each group
# Ten moments of a fresh converge, in order: seconds after it reaches a task.
MOMENTS = [
    ("Gather the facts of this host", 1),
    ("Install the base packages", 2),
    ("Install the packages of postgres", 8),
    ("Provide the declared databases", 0.7),
    ("Install /opt/mlfleet/minio", 1),
    ("Install mlflow", 3),
    ("Run mlflow", 4),
    ("Run dioptra-restapi", 6),
    ("Provide the declared accounts", 0.7),
    ("Install worker-tensorflow-cpu", 4),
]


def write_inventory(directory: str, groups: Groups) -> str:
    children: dict[str, dict] = {group: {"hosts": dict.fromkeys(hosts)} for group, hosts in groups.items()}
    if workers := [group for group in groups if group.startswith("worker_")]:
        children["workers"] = {"children": dict.fromkeys(workers)}
    Path(directory, "hosts.yml").write_text(yaml.safe_dump({"all": {"children": children}}, sort_keys=False))
    return directory


def roles_on(labs: str) -> list[str]:
    """The roles whose tests run on these labs, by the Makefile."""
    [roles] = re.findall(rf"^ROLES_ON_{labs} := (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return roles.split()


# A worker's packages without TensorFlow: where it has nothing to compute, a lab need not install another gigabyte.
PLAIN_WORKER = {"worker_tensorflow_cpu_requirements_file": "{{ topology_constraints_dir }}/worker.txt"}


@dataclass
class Run:
    """A finished run of ansible-playbook."""

    code: int
    output: str

    @property
    def text(self) -> str:
        """The output without Ansible's line breaks."""
        return " ".join(self.output.split())

    def count(self, column: str) -> int:
        """Return a number of the recap, summed over the hosts: ok, changed, unreachable, failed or skipped."""
        names = ("ok", "changed", "unreachable", "failed", "skipped")
        return sum(int(row[1 + names.index(column)]) for row in RECAP.findall(self.output))


@dataclass
class Lab:
    inventory: Path

    @classmethod
    @contextmanager
    def anew(
        cls, name: str, like: str | Groups = "inventories/single", *words: str, **settings: object
    ) -> Iterator[Self]:
        """Yield a lab of empty hosts, like an inventory or of these groups, with secrets; it is removed at the end."""
        lab = cls(ROOT / ".cache/integration" / name)
        lab.down() if lab.inventory.exists() else None
        with TemporaryDirectory() as directory:
            lab.up(like if isinstance(like, str) else write_inventory(directory, like), *words)
        try:
            (lab.inventory / "group_vars/all/test.yml").write_text(json.dumps(settings))
            lab.init()
            yield lab
        finally:
            lab.down()

    @property
    def name(self) -> str:
        """The inventory's path as a user in the repository would write it."""
        return os.path.relpath(self.inventory, ROOT)

    def command(self, *words: str, check: bool = True, **options: object) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=1800, **options)  # type: ignore[call-overload]
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def up(self, like: str = "inventories/single", *words: str) -> None:
        self.command("mlfleet", "lab", "up", self.name, "--like", like, *words)

    def down(self) -> None:
        self.command("mlfleet", "lab", "down", self.name)

    def init(self) -> None:
        self.command("mlfleet", "init", self.name)

    def secrets(self) -> dict[str, str]:
        vault = self.command("ansible-vault", "view", f"{self.name}/group_vars/all/vault.yml")
        return yaml.safe_load(vault.stdout)

    def address(self, host: str) -> str:
        return yaml.safe_load((self.inventory / "lab.yml").read_text())["all"]["hosts"][host]["ansible_host"]

    def ssh(self, command: str, host: str = "testbed", **options: object) -> str:
        # What `mlfleet lab ssh` runs, in a sixth of its time.
        words = LabInventory(self.inventory).ssh_command(self.address(host))
        return self.command(*words, command, **options).stdout

    def playbook(self, *words: str, playbook: str = "site.yml", environment: dict[str, str] | None = None) -> Run:
        command = ["ansible-playbook", playbook, "-i", self.name, *words]
        done = self.command(*command, check=False, env={**os.environ, **(environment or {})})
        return Run(done.returncode, done.stdout + done.stderr)

    def converge(self, *words: str) -> Run:
        run = self.playbook(*words)
        assert run.code == 0, run.output[-6000:]
        return run

    def declare_role(self, role: str) -> None:
        """Add what the scenario of a role declares to the inventory."""
        scenario = ROOT / "molecule" / role / "inventory"
        shutil.copy(scenario / "hosts.yml", self.inventory / f"{role}.yml")
        for settings in scenario.glob("group_vars/all/*.yml"):
            if not settings.is_symlink():  # those are of all scenarios
                shutil.copy(settings, self.inventory / "group_vars/all")

    def converge_if_empty(self) -> None:
        """Converge an empty lab, for tests that come first because earlier ones were deselected."""
        if self.ssh("test -e /etc/mlfleet/dioptra-restapi.env || echo empty"):
            self.converge()

    def verify(self, *words: str) -> Run:
        run = self.playbook(*words, playbook="playbooks/verify.yml")
        assert run.code == 0, run.output[-6000:]
        assert "finished" in run.output
        return run

    def run_role_tests(self, *roles: str, without: str = "", marked: str = "not fleet", host: str = "testbed") -> None:
        """Run the roles' own tests, except those that switch TLS, which is slow, and of what only scenarios declare."""
        left_out = ["switched", "drives", "extra", *without.split()]
        files = [str(ROOT / "molecule" / role / "tests") for role in roles]
        words = [
            "pytest",
            "-p",
            "no:cacheprovider",
            "--durations=10",
            "--hosts",
            f"ansible://{host}",
            "--ansible-inventory",
            self.name,
        ]
        words += ["--sudo", "-m", marked, "-k", " and ".join(f"not {word}" for word in left_out), *files]
        done = self.command(
            *words, check=False, env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
        )
        print(done.stdout[-4000:])
        assert done.returncode == 0

    def start_until(self, task: str, delay_seconds: float) -> subprocess.Popen[str]:
        """Start a converge, and return some time after it has reached the task, while it continues."""
        command = ["ansible-playbook", "site.yml", "-i", self.name]
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("TASK [") and task in line:
                time.sleep(delay_seconds)
                return process
        pytest.fail(f"the converge never came to {task!r}")

    def kill_at(self, task: str, delay_seconds: float) -> None:
        """Start a converge and kill it with all its processes, some time after it has reached the task."""
        process = self.start_until(task, delay_seconds)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL

    def kill_host_at(self, task: str, delay_seconds: float, host: str = "testbed") -> None:
        """Start a converge and kill the host under it, which then boots again."""
        process = self.start_until(task, delay_seconds)
        self.command("docker", "kill", f"mlfleet-{self.inventory.name}-{host}")
        process.communicate(timeout=600)
        assert process.returncode != 0
        self.up()

    def of_another_controller(self, directory: Path) -> tuple[Lab, dict[str, str]]:
        """Return the same hosts for another controller, with the environment that gives it separate connections."""
        other = Lab(directory / "inventory")
        shutil.copytree(self.inventory, other.inventory)
        return other, {"ANSIBLE_SSH_CONTROL_PATH_DIR": str(directory / "cp")}


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """A host with secrets, empty at first, which the test modules share in their order."""
    with Lab.anew("testbed") as lab:
        yield lab


@pytest.fixture(scope="module", params=["bare", pytest.param("docker", marks=pytest.mark.fleet)])
def deployed(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """The lab of all single-host tests, or a separate one with everything in containers."""
    if request.param == "bare":
        lab = request.getfixturevalue("lab")
        lab.converge_if_empty()
        yield lab
        return
    settings = {"topology_runtime": "docker", "restapi_gunicorn_workers": 2, "mlflow_workers": 2}
    with Lab.anew("refusals", "inventories/single", "--docker-inside", **settings) as lab:
        lab.converge()
        yield lab
