"""The command line of mlfleet: what a playbook cannot be (secrets, drift checks, the lab)."""

from __future__ import annotations

__version__ = "0.1.0"
