"""The desired contents of a service are compared with its present ones, changed if they differ, and reported."""

from __future__ import annotations

import pytest
from ansible_collections.mlfleet.stack.plugins.module_utils.access.document import (
    ANOTHER,
    AS_DECLARED,
    Change,
    Document,
    Found,
    NotRunningError,
    ServiceError,
    ask,
    converge,
    exit_with,
    plan,
)
from ansible_collections.mlfleet.stack.plugins.module_utils.access.strays import stray

USERS = {"ada": "horse-battery", "bob": "staple-correct", "former": None, "gone": None}  # None: absent


class Broker(Document):
    """A service with users, None if it is not running."""

    def __init__(self, users: dict | None, declared: dict = USERS) -> None:
        self.users, self.declared, self.applied = users, declared, []

    def find(self) -> Found:
        if self.users is None:
            raise NotRunningError("the broker does not answer")
        known = {name: password for name, password in self.users.items() if name in self.declared}
        states = {
            f"user {name}": {"password": AS_DECLARED if self.declared[name] == password else ANOTHER}
            for name, password in known.items()
        }
        return Found(states, [stray("broker user", name) for name in self.users if name not in self.declared])

    def compare(self, found):
        for name, password in self.declared.items():
            want = {"password": AS_DECLARED} if password else None
            yield Change(f"user {name}", found.get(f"user {name}"), want, {"name": name, "password": password})

    def apply(self, changes: list[Change]) -> None:
        self.applied.append([change.name for change in changes])
        for change in changes:
            if change.want is None:
                del self.users[change.item["name"]]
            else:
                self.users[change.item["name"]] = change.item["password"]


def test_what_a_check_predicts_is_done_once() -> None:
    broker = Broker({"ada": "stolen", "former": "x", "gone": "y"})
    check = converge(broker, check_mode=True)
    assert broker.applied == []
    assert check == {
        "changed": True,
        "changes": ["user ada", "user bob", "user gone", "user former"],
        "undeclared": [],
        "diff": {
            "before": {f"user {name}": {"password": "another one"} for name in ("ada", "gone", "former")},
            "after": {f"user {name}": {"password": "as declared"} for name in ("ada", "bob")},
        },
        "warnings": [],
    }
    assert converge(broker, check_mode=False) == check
    assert broker.users == {"ada": "horse-battery", "bob": "staple-correct"}
    assert not any(password in str(check) for password in USERS.values() if password)


def test_nothing_to_do_changes_nothing() -> None:
    broker = Broker({"ada": "horse-battery", "bob": "staple-correct"})
    result = converge(broker, check_mode=False)
    assert not result["changed"] and result["changes"] == [] and result["diff"] == {"before": {}, "after": {}}
    assert broker.applied == []


def test_removals_come_last_and_the_other_way() -> None:
    broker = Broker({"one": "a", "two": "b"}, {"one": None, "ada": "horse-battery", "two": None})
    assert [change.name for change in plan(broker, broker.find())] == ["user ada", "user two", "user one"]


@pytest.mark.parametrize("check_mode", [True, False])
def test_what_nobody_declared_is_told_and_stays(check_mode: bool) -> None:
    broker = Broker({"ada": "horse-battery", "mallory": "z"}, {"ada": "horse-battery"})
    result = converge(broker, check_mode)
    assert result["undeclared"] == [{"kind": "broker user", "name": "mallory", "remove": ""}]
    assert not result["changed"] and "mallory" in broker.users


def test_service_that_cannot_be_asked_is_not_an_empty_one() -> None:
    """A check predicts all desired objects, but no removal and nothing undeclared, which are unknown."""
    stopped = Broker(None)
    result = converge(stopped, check_mode=True)
    assert result["changes"] == ["user ada", "user bob"]
    assert result["diff"]["before"] == {} and result["undeclared"] == []
    with pytest.raises(NotRunningError, match="does not answer"):
        converge(stopped, check_mode=False)
    assert stopped.applied == []
    assert ask(stopped.find, check_mode=True) is None
    assert ask(Broker({}).find, check_mode=True) == Found({}, [])


def test_other_error_ends_a_check_too() -> None:
    def refuse() -> Found:
        raise ServiceError("wrong password")

    with pytest.raises(ServiceError, match="wrong password"):
        ask(refuse, check_mode=True)


class Module:
    """The part of AnsibleModule that exit_with uses."""

    params, check_mode = {"users": 3}, True

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, warning: str) -> None:
        self.warnings.append(warning)

    def exit_json(self, **result: object) -> None:
        self.result = result

    def fail_json(self, msg: str) -> None:
        self.result = {"msg": msg}
        raise SystemExit


def test_module_ends_with_a_result_or_one_line() -> None:
    module = Module()
    exit_with(module, lambda params, check_mode: {**params, "changed": check_mode, "warnings": ["it ends soon"]})
    assert module.result == {"users": 3, "changed": True} and module.warnings == ["it ends soon"]
    with pytest.raises(SystemExit):
        exit_with(module, lambda params, check_mode: converge(Broker(None), check_mode=False))
    assert module.result == {"msg": "the broker does not answer"}
