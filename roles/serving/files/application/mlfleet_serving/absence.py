# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a service has been away."""

from __future__ import annotations

import time
from collections.abc import Callable


class Absence:
    """The absence of a service, which all requests of a process share; durations are in seconds.

    :param patience: how long it is worth waiting for the service
    :param forgotten_after: an absence that was not noticed for so long may be over since, so the next one is a new one
    :param clock: what the time is read from
    """

    def __init__(self, patience: float, forgotten_after: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._patience, self._forgotten_after, self._clock = patience, forgotten_after, clock
        self._since: float | None = None
        self._noticed = 0.0

    def notice(self) -> bool:
        """Note that the service is away now, and return whether it is worth waiting for it."""
        now = self._clock()
        if self._since is None or now > self._noticed + self._forgotten_after:
            self._since = now
        self._noticed = now
        return now <= self._since + self._patience

    def end(self) -> None:
        """Note that the service has answered."""
        self._since = None
