"""Sorts the events of ansible-runner into drift and problems that kept it from being seen."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from textwrap import shorten
from typing import Any

import yaml

from mlfleet.drift.report import Drift, Host, Kind, Problem, State, merged

Event = Mapping[str, Any]
MAX_DIFF_LINES = 400
MAX_MESSAGE = 400  # characters
# The steps of a rollout around a change are not drift themselves.
STEPS = {"rollout"}
CONSEQUENCES = ("restarted", "reloaded")
TAKEN_UP = ("because a file it reads has changed", "made and taken up in this run")
HOST_ROLE = "host"
CONTROLLER = "localhost"
COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
# ansible.builtin.lineinfile and similar modules distinguish two kinds of changes to a file in this way.
ASPECT = re.compile(r" \((content|file attributes)\)$")


@dataclass(frozen=True)
class Roles:
    """Maps tasks to the roles of services by the playbook's own tags, because events name only building blocks."""

    plays: Mapping[str, str]
    tasks: Mapping[tuple[str, str], str]
    names: tuple[str, ...]  # of all plays, in their order

    @classmethod
    def read(cls, playbook: Path) -> Roles:
        """Read *playbook* and those it imports."""
        plays: dict[str, str] = {}
        tasks: dict[tuple[str, str], str] = {}
        names: list[str] = []
        for play in _plays(playbook):
            names.append(play["name"])
            tagged = {
                (play["name"], task.get("name", "")): tag for task in play.get("tasks", []) if (tag := _tag(task))
            }
            every = set(tagged.values()) | {tag for role in play.get("roles", []) if (tag := _tag(role))}
            if len(every) == 1:
                plays[play["name"]] = every.pop()
            tasks.update(tagged)
        return cls(plays, tasks, tuple(names))

    def of(self, data: Event) -> str | None:
        """Return the role of the task in *data*, an event's; None if it is in no role."""
        play = data.get("play", "")
        role: str | None = self.tasks.get((play, data.get("task", ""))) or self.plays.get(play) or data.get("role")
        return role


def _plays(playbook: Path) -> Iterator[dict[str, Any]]:
    for entry in yaml.safe_load(playbook.read_text()):
        if imported := entry.get("ansible.builtin.import_playbook"):
            yield from _plays(playbook.parent / imported)
        else:
            yield entry


def _tag(entry: Mapping[str, Any]) -> str | None:
    tags = entry.get("tags", [])
    tag = tags if isinstance(tags, str) else next(iter(tags), None)
    return None if tag == "always" else tag


@dataclass
class Collector:
    """Collects the meaning of one run's events, without keeping the events."""

    roles: Roles
    tags: frozenset[str] = frozenset()  # of a run that checks only a part
    drift: list[Drift] = field(default_factory=list)
    unreachable: list[Problem] = field(default_factory=list)
    failed: list[Problem] = field(default_factory=list)
    not_checkable: dict[Problem, None] = field(default_factory=dict)
    checked: set[tuple[str, str]] = field(default_factory=set)
    played: set[str] = field(default_factory=set)
    failures: Mapping[str, int] | None = None  # of each host, at the end, without rescued ones
    error: str = ""

    def __call__(self, event: Event) -> None:
        data = event.get("event_data") or {}
        handler = {
            "playbook_on_play_start": self._play_start,
            "playbook_on_stats": self._stats,
            "runner_on_ok": self._ok,
            "runner_item_on_ok": self._item_ok,
            "runner_on_failed": self._failed,
            "runner_on_unreachable": self._unreachable,
            "runner_on_skipped": self._skipped,
            "runner_item_on_skipped": self._skipped,
            "error": self._error,
            "verbose": self._error,
        }.get(event["event"])
        if handler:
            handler(data, COLOUR.sub("", event.get("stdout", "")))

    def hosts(self, names: Iterable[str], drifted: Iterable[str]) -> tuple[Host, ...]:
        """Return each of the hosts to check, with its state."""
        ended_early = not self.played.issuperset(self.roles.names)
        states = dict.fromkeys(names, State.DECLARED) | dict.fromkeys(drifted, State.DRIFTED)
        states = dict.fromkeys(states, State.UNKNOWN) if ended_early else states
        states |= dict.fromkeys((problem.host for problem in self.lasting), State.FAILED)
        states |= dict.fromkeys((problem.host for problem in self.unreachable), State.UNREACHABLE)
        # With tags, other roles are checked only in part: tasks that always run, or that another role's tag includes.
        roles = sorted((host, role) for host, role in self.checked if not self.tags or role in self.tags)
        return tuple(Host(name, state, tuple(r for h, r in roles if h == name)) for name, state in states.items())

    @property
    def lasting(self) -> list[Problem]:
        """The failures that nothing rescued."""
        return [problem for problem in self.failed if self.failures is None or self.failures.get(problem.host)]

    def found(self) -> tuple[Drift, ...]:
        return merged(self.drift)

    def _play_start(self, data: Event, _stdout: str) -> None:
        self.played.add(data["name"])

    def _stats(self, data: Event, _stdout: str) -> None:
        self.failures = data["failures"]

    def _ok(self, data: Event, stdout: str) -> None:
        role = self.roles.of(data)
        if role:
            self.checked.add((data["host"], role))
        result = data.get("res") or {}
        if (result.get("_ansible_delegated_vars") or {}).get("ansible_host") == CONTROLLER:
            return  # a cache, which is not part of any host
        if "censored" in result:  # it is only known that it would change
            result = {"changed": stdout.startswith("changed:")}
        entries = list(_results(result))
        if result.get("changed") and not any(entry.get("changed") for entry in entries):
            entries.append({"changed": True})
        for entry in entries:
            self._result(data, role, entry)

    def _item_ok(self, data: Event, stdout: str) -> None:
        """Count items only of a censored loop; all others are reported again at the end of their loop."""
        if "censored" in (data.get("res") or {}):
            self._ok(data, stdout)

    def _result(self, data: Event, role: str | None, result: Mapping[str, Any]) -> None:
        about = {"host": data["host"], "role": role, "task": data["task"]}
        if result.get("changed") and data.get("role") not in STEPS:
            found = [Drift(**about, object=name, diff=text) for name, text in objects(data["task"], result).items()]
            # The file or certificate itself was reported by an earlier task of the role, or of the host's.
            earlier = {item.role for item in self.drift if item.host == data["host"] and item.kind is Kind.CHANGED}
            has_cause = not earlier.isdisjoint((role, HOST_ROLE))
            self.drift += [item for item in found if not (has_cause and item.diff.endswith(TAKEN_UP))]
        self.drift += [
            Drift(**about, object=f"{item['kind']} {item['name']}", kind=Kind.UNDECLARED, remove=item.get("remove"))
            for item in result.get("undeclared") or []
        ]

    def _failed(self, data: Event, _stdout: str) -> None:
        if not data.get("ignore_errors"):
            result = data.get("res") or {}
            # The results of the items that succeeded still count.
            for item in _results(result):
                if not item.get("failed"):
                    self._result(data, self.roles.of(data), item)
            messages = [message(item) for item in _results(result) if item.get("failed")] or [message(result)]
            self.failed.append(
                Problem(data["host"], "; ".join(dict.fromkeys(messages)), self.roles.of(data), data["task"])
            )

    def _unreachable(self, data: Event, _stdout: str) -> None:
        self.unreachable.append(
            Problem(data["host"], message(data.get("res") or {}), self.roles.of(data), data["task"])
        )

    def _skipped(self, data: Event, stdout: str) -> None:
        """Report a module without check mode; the event itself lacks the result, but -v prints it."""
        if "check mode" in stdout:
            problem = Problem(data["host"], "its module has no check mode", self.roles.of(data), data["task"])
            self.not_checkable[problem] = None

    def _error(self, _data: Event, stdout: str) -> None:
        """Keep the first error, which is the one that ends a run before it has started."""
        if not self.error and "ERROR" in stdout:
            self.error = one_line(re.sub(r"^.*?ERROR[]!:]*\s*", "", stdout, count=1, flags=re.S))


def _results(result: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Return the result, or the results of a loop's items."""
    items = result.get("results")
    if (
        isinstance(items, list)
        and items
        and all(isinstance(item, dict) and "ansible_loop_var" in item for item in items)
    ):
        yield from items
    else:
        yield result


def objects(task: str, result: Mapping[str, Any]) -> dict[str, str]:
    """Return the objects of a changed result, each with its diff.

    These are `changed_paths`, the headers or keys of `diff`, and the units of `actions`; otherwise the result's path,
    or the task. A unit that would only be restarted or reloaded for a changed file is not an object itself.
    """
    actions = result.get("actions") or {}
    default = result.get("path") or result.get("dest") or task
    texts: dict[str, list[str]] = {path: [] for path in result.get("changed_paths") or []}
    diffs = result.get("diff") or []
    for item in diffs if isinstance(diffs, list) else [diffs]:
        for name, text in _named(item, result.get("path") or result.get("dest")):
            if name or not actions:
                texts.setdefault(name or default, []).append(text)
    causes = texts.keys() - actions.keys()
    for unit, action in actions.items():
        texts[unit] = [action]
        if causes and action.startswith(CONSEQUENCES):
            del texts[unit]
    if not texts:
        texts[default] = [str(result.get("reason") or result.get("action") or "")]
    return {name: "\n".join(filter(None, parts)) for name, parts in texts.items()}


def _named(item: Mapping[str, Any], path: str | None) -> Iterator[tuple[str | None, str]]:
    """Split one item of a diff into its objects."""
    before, after = item.get("before", ""), item.get("after", "")
    header = item.get("before_header") or path or item.get("after_header")
    if isinstance(before, dict) and isinstance(after, dict) and not header:
        if named := after.get("path") or before.get("path"):  # as in ansible.builtin.file
            yield str(named), unified(before, after)
        else:
            for name in dict.fromkeys([*before, *after]):
                yield str(name), unified(before.get(name, ""), after.get(name, ""))
        return
    yield header and ASPECT.sub("", str(header)), str(item.get("prepared") or "") or unified(before, after)


def unified(before: object, after: object) -> str:
    """Return the differing lines, with some context."""
    lines = difflib.unified_diff(_text(before).splitlines(), _text(after).splitlines(), lineterm="")
    body = [line for number, line in enumerate(lines) if number > 1]  # the first two name files
    left_out = len(body) - MAX_DIFF_LINES
    return "\n".join([*islice(body, MAX_DIFF_LINES), *([f"… {left_out} more lines"] if left_out > 0 else [])])


def _text(value: object) -> str:
    return value if isinstance(value, str) else yaml.safe_dump(value, sort_keys=True, allow_unicode=True)


def message(result: Mapping[str, Any]) -> str:
    """Return in one line why a task failed; for a module that crashed, as on a full disk, its last line of output."""
    for broken in (*(result.get("failed_modules") or {}).values(), result):
        if lines := (broken.get("module_stderr") or "").strip().splitlines():
            return one_line(f"the module crashed: {lines[-1]}")
    said = next((module["msg"] for module in (result.get("failed_modules") or {}).values() if module.get("msg")), None)
    text = said or result.get("msg") or result.get("censored") or "no message"
    return one_line(str(text)).removeprefix("Task failed: ")


def one_line(text: str) -> str:
    lines = (line.strip() for line in COLOUR.sub("", text).splitlines())
    joined = "; ".join(line for line in lines if line).replace(":; ", ": ")
    return shorten(joined, MAX_MESSAGE, placeholder=" …")
