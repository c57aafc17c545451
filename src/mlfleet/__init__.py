"""The command line of mlfleet, for what a playbook cannot do (secrets, drift checks, the lab)."""

from __future__ import annotations

__version__ = "0.1.0"
