# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Common base of the two actions that read resource packages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleFileNotFound
from ansible_collections.mlfleet.stack.plugins.plugin_utils.dioptra_package import PackageError, packed
from ansible_collections.mlfleet.stack.plugins.plugin_utils.library import LibraryActionBase


class PackagesActionBase(LibraryActionBase):
    """An action that finds packages like ansible.builtin.copy finds its source."""

    def packed(self, resources: list[dict[str, Any]]) -> str:
        """Return all packages as one word."""
        try:
            return packed(resources, [self._file(resource["src"]) for resource in resources])
        except PackageError as error:
            raise AnsibleActionFail(str(error)) from None

    def _file(self, source: str | None) -> Path | None:
        if source is None:
            return None
        try:
            return Path(self._find_needle("files", source))
        except AnsibleFileNotFound:
            raise PackageError(f"{source}: there is no such file or directory on the controller") from None
