# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is true of the default application that serves models; it cannot import this, and a unit test compares both."""

from __future__ import annotations

DEFAULT_ALIAS = "champion"
