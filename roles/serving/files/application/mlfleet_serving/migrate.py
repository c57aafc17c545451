# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Brings the tables up to date: `python -m mlfleet_serving.migrate`, also on two hosts at once."""

from __future__ import annotations

import sys

from sqlalchemy import text

from mlfleet_serving.database import UNAVAILABLE, engine

# What has run somewhere is never changed; a change of the tables is a further step.
STEPS = (
    """
    CREATE TABLE predictions (
        id uuid PRIMARY KEY,
        model text NOT NULL,
        version text NOT NULL,
        role text NOT NULL CHECK (role IN ('primary', 'canary', 'shadow')),
        shadow_of uuid,
        inputs jsonb,
        outputs jsonb,
        reason text,
        seconds double precision NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE INDEX ON predictions (model, created_at);
    CREATE INDEX ON predictions (shadow_of) WHERE shadow_of IS NOT NULL;
    CREATE TABLE feedback (
        prediction_id uuid PRIMARY KEY REFERENCES predictions ON DELETE CASCADE,
        correct boolean NOT NULL,
        actual jsonb,
        created_at timestamptz NOT NULL DEFAULT now()
    );
    """,
    "CREATE INDEX ON predictions (created_at)",
)
LOCK = 0x6D6C666C  # of these migrations, among all locks of the database


def migrate() -> int:
    """Run the steps that are missing, all or none, and return their number.

    :raises SystemExit: the database is of a newer version
    """
    with engine().begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        connection.execute(text("CREATE TABLE IF NOT EXISTS schema_steps (step integer PRIMARY KEY)"))
        done = connection.execute(text("SELECT count(*) FROM schema_steps")).scalar_one()
        if done > len(STEPS):
            raise SystemExit(
                f"mlfleet_serving: the database has {done} steps, this version knows {len(STEPS)}; install a newer one"
            )
        for number, step in enumerate(STEPS[done:], done + 1):
            connection.execute(text(step))
            connection.execute(text("INSERT INTO schema_steps VALUES (:number)"), {"number": number})
    return len(STEPS) - int(done)


if __name__ == "__main__":
    try:
        print(f"mlfleet_serving: {migrate()} steps of {len(STEPS)} were missing")
    except UNAVAILABLE as error:
        sys.exit(f"mlfleet_serving: the database does not answer: {error.orig}")
