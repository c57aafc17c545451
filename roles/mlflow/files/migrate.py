"""Brings MLflow's database to the schema of the installed version; a database without tables is left to the server.

Run before each start of the server. Several servers take turns, held apart by a lock in the database.
"""

import os

from mlflow.store.db import utils
from sqlalchemy import create_engine, inspect, text

LOCK = 5001


def main() -> None:
    engine = create_engine(os.environ["MLFLOW_BACKEND_STORE_URI"])
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
        if not inspect(connection).has_table("alembic_version"):
            return
        current, head = utils._get_schema_version(engine), utils._get_latest_schema_revision()
        if current != head:
            print(f"Migrating MLflow's database from {current} to {head}", flush=True)
            utils._upgrade_db(engine)


if __name__ == "__main__":
    main()
