# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a service should hold, as one document: asked for, compared, and changed where it differs.

A service's own part is a Document: how it is asked, what of it differs, and how that is changed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from ansible.module_utils.basic import AnsibleModule

Item = dict[str, Any]  # an object as it is declared
State = dict[str, Any]  # an object as far as its declaration speaks of it, to be compared and shown: no secret is in it
Result = dict[str, Any]
Answer = TypeVar("Answer")
AS_DECLARED, ANOTHER = "as declared", "another one"  # what is shown of a password


class ServiceError(Exception):
    """One line for the user."""


class NotRunningError(ServiceError):
    """A service cannot be asked, perhaps because it, or the account that asks, is not there yet."""


class Found(NamedTuple):
    """What a service holds."""

    states: dict[str, State]  # of the declared objects that exist, by names such as "user worker"
    undeclared: list[dict[str, str]]  # what there is besides, each as access.strays.stray tells it


@dataclass
class Change:
    """A declared object as it is and as it is to be."""

    name: str
    have: State | None  # None where it does not exist
    want: State | None  # None where it is to be removed
    item: Item


Changes = TypeVar("Changes", bound=Change)


class Document(ABC, Generic[Changes]):
    """The declared objects of a service."""

    warnings: Iterable[str] = ()

    @abstractmethod
    def find(self) -> Found:
        """What the service holds, asked whole before anything is changed.

        Raises:
            NotRunningError: it cannot be asked.
        """

    @abstractmethod
    def compare(self, found: Mapping[str, State]) -> Iterable[Changes]:
        """All declared objects in the order in which one needs another; those that are as they are to be drop out."""

    @abstractmethod
    def apply(self, changes: list[Changes]) -> None:
        """Makes the changes one after the other, so that a run that comes after one that was killed goes on."""


def ask(question: Callable[[], Answer], check_mode: bool) -> Answer | None:
    """The answer of a service; None where it cannot be asked, which is not an empty one, and which a check allows."""
    try:
        return question()
    except NotRunningError:
        if not check_mode:
            raise
        return None


def plan(document: Document[Changes], found: Found | None) -> list[Changes]:
    """What differs: objects before what needs them, then removals the other way.

    Of a service that cannot be asked a check predicts all that is to be, and no removal: what it holds is not known.
    """
    differing = [change for change in document.compare(found.states if found else {}) if change.have != change.want]
    removals = [change for change in differing if change.want is None]
    return [change for change in differing if change.want is not None] + removals[::-1]


def converge(document: Document[Any], check_mode: bool) -> Result:
    """Compares, and changes what differs unless in check mode: the result of the module."""
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
    """Ends the module with the result of C(work(params, check_mode)), or with what is wrong in one line."""
    try:
        result = work(module.params, module.check_mode)
    except ServiceError as error:
        module.fail_json(msg=str(error))
    for warning in result.pop("warnings", ()):
        module.warn(warning)
    module.exit_json(**result)
