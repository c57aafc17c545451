# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action of all modules that need nothing from the controller; each of them has a link to this file."""

from __future__ import annotations

from ansible.plugins.action import normal
from ansible_collections.mlfleet.stack.plugins.plugin_utils.library import LibraryActionBase


class ActionModule(LibraryActionBase, normal.ActionModule):
    """Run the module with the arguments of the task."""
