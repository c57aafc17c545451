"""Brings the REST API's database to the schema of the installed version.

Run before each start of the server. Compares the database's revision with the newest one, so that an up-to-date
database costs one query. Several servers take turns, held apart by a lock in the database.
"""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

LOCK = 5000


def main() -> None:
    package = find_spec("dioptra.restapi.db")
    migrations = Path(package.origin).parent / "alembic"
    head = ScriptDirectory(str(migrations)).get_current_head()
    engine = create_engine(os.environ["DIOPTRA_RESTAPI_DATABASE_URI"])
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
        current = MigrationContext.configure(connection).get_current_revision()
        if current == head:
            return
        print(f"Migrating the REST API's database from {current} to {head}", flush=True)
        flask = Path(sys.executable).parent / "flask"
        subprocess.run([flask, "--app", "wsgi", "db", "upgrade", "-d", migrations], check=True)
        connection.rollback()
        current = MigrationContext.configure(connection).get_current_revision()
        if current != head:
            sys.exit(f"The database is at {current} after the migration, not at {head}")


if __name__ == "__main__":
    main()
