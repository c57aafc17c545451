# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The desired contents of a service as one document: read, compared, and changed where they differ.

The part of each service is a Document: how to read it, what differs, and how to change it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from ansible.module_utils.basic import AnsibleModule

Item = dict[str, Any]  # an object as declared
State = dict[str, Any]  # the declared properties of an object, to compare and show, without secrets
Result = dict[str, Any]
Answer = TypeVar("Answer")
AS_DECLARED, ANOTHER = "as declared", "another one"  # shown in place of a password


class ServiceError(Exception):
    """One line for the user."""


class NotRunningError(ServiceError):
    """A service cannot be queried, perhaps because it, or the account to sign in with, does not exist yet."""


class Found(NamedTuple):
    """The contents of a service."""

    states: dict[str, State]  # of the declared objects that exist, by names such as "user worker"
    undeclared: list[dict[str, str]]  # other objects, each as access.strays.stray reports it


@dataclass
class Change:
    """A declared object in its present and its desired state."""

    name: str
    have: State | None  # None if it does not exist
    want: State | None  # None to remove it
    item: Item


Changes = TypeVar("Changes", bound=Change)


class Document(ABC, Generic[Changes]):
    """The declared objects of a service."""

    warnings: Iterable[str] = ()

    @abstractmethod
    def find(self) -> Found:
        """Return the service's contents, all read before anything is changed.

        Raises:
            NotRunningError: it cannot be queried.
        """

    @abstractmethod
    def compare(self, found: Mapping[str, State]) -> Iterable[Changes]:
        """Return all declared objects in the order of their dependencies; unchanged ones are filtered out later."""

    @abstractmethod
    def apply(self, changes: list[Changes]) -> None:
        """Make the changes one by one, so that the run after a killed one can continue."""


def ask(question: Callable[[], Answer], check_mode: bool) -> Answer | None:
    """Return a service's answer, or in check mode None if it cannot be queried, which is not an empty answer."""
    try:
        return question()
    except NotRunningError:
        if not check_mode:
            raise
        return None


def plan(document: Document[Changes], found: Found | None) -> list[Changes]:
    """Return what differs: objects before those that need them, then removals in reverse order.

    If the service cannot be queried, check mode predicts all objects and no removal, because its contents are unknown.
    """
    differing = [change for change in document.compare(found.states if found else {}) if change.have != change.want]
    removals = [change for change in differing if change.want is None]
    return [change for change in differing if change.want is not None] + removals[::-1]


def converge(document: Document[Any], check_mode: bool) -> Result:
    """Compare, change what differs unless in check mode, and return the module's result."""
    found = ask(document.find, check_mode)
    changes = plan(document, found)
    if changes and not check_mode:
        document.apply(changes)
    return {
        "changed": bool(changes),
        "changes": [change.name for change in changes],
        "undeclared": found.undeclared if found else [],
        "diff": {
            "before": {change.name: change.have for change in changes if change.have is not None},
            "after": {change.name: change.want for change in changes if change.want is not None},
        },
        "warnings": list(document.warnings),
    }


def exit_with(module: AnsibleModule, work: Callable[[dict[str, Any], bool], Result]) -> None:
    """End the module with the result of C(work(params, check_mode)), or with an error in one line."""
    try:
        result = work(module.params, module.check_mode)
    except ServiceError as error:
        module.fail_json(msg=str(error))
    for warning in result.pop("warnings", ()):
        module.warn(warning)
    module.exit_json(**result)
