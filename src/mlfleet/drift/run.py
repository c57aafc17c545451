"""Runs a playbook through ansible-runner, passes on its events, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from ansible_runner import Runner  # type: ignore[import-untyped]
from ansible_runner.config.runner import RunnerConfig  # type: ignore[import-untyped]

from mlfleet.drift.accepted import Accepted
from mlfleet.drift.events import Collector, Event, Roles, one_line
from mlfleet.drift.report import Report
from mlfleet.project import MlfleetError

CHECK = "playbooks/drift.yml"
CONVERGE = "site.yml"
HOST_KEY_CHECKING = "ANSIBLE_HOST_KEY_CHECKING"
# Otherwise a file that does not parse counts as empty, and its missing hosts go unnoticed.
ENVIRONMENT = {"ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "true"}
GRACE_SECONDS = 20
POLL_SECONDS = 1
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
Watch = Callable[[Event], None]


class InterruptedRunError(MlfleetError):
    """The user, or the system, ended the run."""

    def __init__(self) -> None:
        super().__init__("interrupted before the answer was known.")


@dataclass(frozen=True)
class Target:
    """The hosts and tasks of a run, and the passwords for their variables."""

    root: Path
    inventory: Path
    limit: str | None = None
    tags: str | None = None
    extra_vars: tuple[str, ...] = ()
    vault_password_file: Path | None = None

    def hosts(self) -> dict[str, dict[str, Any]]:
        """Return the variables of each host, decrypted and not yet rendered.

        Raises:
            MlfleetError: the inventory cannot be read, or has no such host.
        """
        if not self.inventory.exists():
            raise MlfleetError(f"{self.inventory} does not exist: name an inventory such as inventories/prod.")
        done = subprocess.run(
            [_program("ansible-inventory"), "--list", *self.arguments()],
            cwd=self.root,
            env={**os.environ, **ENVIRONMENT},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise MlfleetError(f"{self.inventory} cannot be read: {_first_error(done.stderr)}")
        groups = json.loads(done.stdout)
        variables = groups.pop("_meta")["hostvars"]
        names = [name for group in groups.values() for name in group.get("hosts", [])]
        if not names:
            chosen = f"no host that is {self.limit!r}" if self.limit else "no hosts"
            raise MlfleetError(f"{self.inventory} has {chosen}.")
        return {name: variables.get(name, {}) for name in dict.fromkeys(names)}

    def arguments(self) -> list[str]:
        """Return the options that ansible-inventory and ansible-playbook have in common."""
        options = {
            "--inventory": str(self.inventory.resolve()),
            "--limit": self.limit,
            "--vault-password-file": self.vault_password_file and str(self.vault_password_file.resolve()),
        }
        return [f"{name}={value}" for name, value in options.items() if value]

    def playbook_arguments(self) -> list[str]:
        variables = [f"@{Path(text[1:]).resolve()}" if text.startswith("@") else text for text in self.extra_vars]
        tags = [f"--tags={self.tags}"] if self.tags else []
        return [*self.arguments(), *tags, *(f"--extra-vars={text}" for text in variables)]


def check(target: Target, variables: Mapping[str, Any], accepted: Accepted, watch: Watch) -> Report:
    """Compare the hosts with the inventory, and change nothing.

    Raises:
        MlfleetError: the run ended before it had begun, or was interrupted.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    collector = play(target, CHECK, ["--check", "--diff"], watch)
    drift = tuple(accepted.mark(item) for item in collector.found())
    return Report(
        inventory=target.inventory.resolve().name,
        started=started.isoformat(timespec="seconds"),
        duration_seconds=round(time.monotonic() - clock, 1),
        hosts=collector.hosts(variables, (item.host for item in drift if not item.accepted)),
        drift=drift,
        unreachable=tuple(collector.unreachable),
        failed=tuple(collector.lasting),
        not_checkable=tuple(collector.not_checkable),
        expired=accepted.expired,
        limit=target.limit,
        tags=target.tags,
    )


def play(target: Target, playbook: str, options: list[str], watch: Watch) -> Collector:
    """Run *playbook*, and return its collected events even if it fails.

    Raises:
        MlfleetError: it ended before it had begun, or was interrupted.
    """
    collector = Collector(Roles.read(target.root / playbook), frozenset((target.tags or "").split(",")) - {"", "all"})

    def handle(event: Event) -> bool:
        interruption.sees(event)
        collector(event)
        watch(event)
        return False  # ansible-runner does not store the event

    with _interruptible() as interruption, tempfile.TemporaryDirectory(prefix="mlfleet-") as private:
        config = RunnerConfig(
            private,
            project_dir=str(target.root),
            playbook=str(target.root / playbook),
            # The result of a skipped task is printed only with -v.
            cmdline=shlex.join([*options, "-v", *target.playbook_arguments()]),
            envvars={**ENVIRONMENT, "PATH": _path()},
            settings={"suppress_output_file": True, "pexpect_timeout": POLL_SECONDS},
            fact_cache_type="memory",
            quiet=True,
        )
        config.prepare()
        if HOST_KEY_CHECKING not in os.environ:
            config.env.pop(HOST_KEY_CHECKING)  # ansible-runner would trust any host
        runner = Runner(config, event_handler=handle, cancel_callback=interruption)
        try:
            runner.run()
        except BaseException:
            interruption.signal(0, None)  # Ansible would continue by itself
            raise
    if interruption.happened:
        raise InterruptedRunError
    if collector.failures is None:
        raise MlfleetError(f"ansible-playbook ended with status {runner.rc}: {collector.error or 'no message'}")
    return collector


class Interruption:
    """Ends Ansible like Ctrl-C, so that it ends its workers, which a kill would leave behind; then kills it."""

    def __init__(self) -> None:
        self.happened = 0
        self._pid: int | None = None
        self._deadline = 0.0

    def signal(self, _number: int, _frame: object) -> None:
        self.happened += 1
        self._deadline = self._deadline or time.monotonic() + GRACE_SECONDS
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGINT)

    def sees(self, event: Event) -> None:
        self._pid = self._pid or event.get("pid")

    def __call__(self) -> bool:
        """Return whether Ansible must be killed."""
        if not self.happened:
            return False
        return self._pid is None or self.happened > 1 or time.monotonic() > self._deadline


@contextmanager
def _interruptible() -> Iterator[Interruption]:
    interruption = Interruption()
    former = {number: signal.signal(number, interruption.signal) for number in SIGNALS}
    try:
        yield interruption
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def accepted_drift(variables: Mapping[str, Mapping[str, Any]]) -> Accepted:
    return Accepted.parse(variables, date.today())


def _first_error(stderr: str) -> str:
    """Return the message of the project's own password script, or otherwise Ansible's first error."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    chosen = (line for words in ("cannot be opened", "[ERROR]", "") for line in lines if words in line)
    return one_line(next(chosen, "no message").removeprefix("[ERROR]:"))


def _program(name: str) -> str:
    """Return the path of an Ansible program of this Python, whether or not its directory is in the PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else name


def _path() -> str:
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
