# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """The resource packages of a Dioptra REST API."""

    DOCUMENTATION = r"""
options:
  resources:
    description: The packages. No two may declare the same plugin or entrypoint.
    type: list
    elements: dict
    suboptions:
      src:
        description:
          - A directory or an archive (tar in any compression, or zip) on the controller, searched like the source of
            M(ansible.builtin.copy).
          - Either this or O(resources[].repo) is required.
        type: str
      repo:
        description:
          - A Git repository that the controller can reach, by any URL or path that C(git fetch) accepts.
          - The API's own Git import accepts only public repositories of two hosts, and does not show their content
            before the import.
        type: str
      version:
        description: A branch, a tag or a commit of O(resources[].repo).
        type: str
        default: HEAD
      config_path:
        description: Path of the package's configuration. Paths in it are relative to it.
        type: str
        default: dioptra.toml
      on_conflict:
        description:
          - How to handle existing objects that differ.
          - V(update) gives them a new version. Other files of a plugin and other plugins of an entrypoint stay.
          - V(overwrite) deletes and recreates them, without these. Entrypoints lose their queues and experiments.
          - V(fail) changes nothing, and fails.
        type: str
        choices: [fail, update, overwrite]
        default: update
"""
