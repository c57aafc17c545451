"""Has a program's databases at the schema of the installed version, then becomes the program.

migrate.py PROGRAM WAIT_SECONDS COMMAND...   several hosts take turns, held apart by a lock in PostgreSQL
migrate.py PROGRAM --check                   fails when a database is newer than this version, and changes nothing
"""

import ast
import fcntl
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from sqlalchemy import Connection, Engine, create_engine, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

REFUSED = 78  # with which systemd does not start the unit anew
CONNECT_SECONDS = 10
PAUSE_SECONDS = 1
# So that PostgreSQL lets a host's lock go within two minutes after the host is gone.
ALIVE = "-c tcp_keepalives_idle=60 -c tcp_keepalives_interval=10 -c tcp_keepalives_count=6"
LIMITS = {"connect_timeout": CONNECT_SECONDS, "keepalives_idle": 60, "options": ALIVE}
LOCK = 5001
HOLDER = """
    SELECT coalesce(host(client_addr), 'this host') FROM pg_locks JOIN pg_stat_activity USING (pid)
    WHERE locktype = 'advisory' AND objid = :lock AND granted
      AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


@dataclass(frozen=True)
class Database:
    name: str
    address: str  # variable of the environment with its URL
    package: str
    folder: str  # of its migrations, in the package
    table: str = "alembic_version"
    upgrade: Callable[[Engine], None] | None = None  # by default the program does it
    begins_itself: bool = False  # by other means than migrations, when it is empty

    def revisions(self) -> dict[str, set[str]]:
        """The revisions that this version knows, each with those that it follows; no module of theirs is run."""
        folder = Path(next(iter(find_spec(self.package).submodule_search_locations))) / self.folder
        found = [assigned(file) for file in sorted(folder.glob("versions/*.py"))]
        known = {names["revision"]: as_set(names.get("down_revision")) for names in found if "revision" in names}
        return known or refuse(f"{folder} has no migrations of {self.name}: this mlfleet does not know that version")

    def current(self, connection: Connection) -> set[str]:
        if not inspect(connection).has_table(self.table):
            return set()
        return set(connection.execute(text(f"SELECT version_num FROM {self.table}")).scalars())


@dataclass(frozen=True)
class Program:
    name: str
    distribution: str
    pins: str
    databases: tuple[Database, ...]


def upgrade_mlflow(engine: Engine) -> None:
    from mlflow.store.db.utils import _upgrade_db

    _upgrade_db(engine)


def upgrade_mlflow_accounts(engine: Engine) -> None:
    from mlflow.server.auth.db.utils import migrate_if_needed

    migrate_if_needed(engine, "head")


def upgrade_restapi(_engine: Engine) -> None:
    from flask_migrate import upgrade

    sys.path.insert(0, str(Path.cwd()))
    from wsgi import app

    with app.app_context():
        upgrade(str(Path(find_spec("dioptra.restapi.db").origin).parent / "alembic"))


PROGRAMS = {
    "mlflow": Program(
        "MLflow",
        "mlflow",
        "constraints/mlflow.txt",
        (
            Database(
                "MLflow's database",
                "MLFLOW_BACKEND_STORE_URI",
                "mlflow",
                "store/db_migrations",
                upgrade=upgrade_mlflow,
                begins_itself=True,
            ),
            Database(
                "MLflow's database of accounts",
                "MLFLEET_MLFLOW_AUTH_URI",
                "mlflow",
                "server/auth/db/migrations",
                "alembic_version_auth",
                upgrade_mlflow_accounts,
                begins_itself=True,
            ),
        ),
    ),
    "restapi": Program(
        "Dioptra's REST API",
        "dioptra-platform",
        "constraints/restapi.txt",
        (
            Database(
                "Dioptra's database",
                "DIOPTRA_RESTAPI_DATABASE_URI",
                "dioptra",
                "restapi/db/alembic",
                upgrade=upgrade_restapi,
            ),
        ),
    ),
    # It copies its database, to pgadmin4.db.prev.bak, before it migrates it.
    "pgadmin": Program(
        "pgAdmin",
        "pgadmin4",
        "constraints/pgadmin.txt",
        (Database("pgAdmin's database", "MLFLEET_PGADMIN_URI", "pgadmin4", "migrations"),),
    ),
}


def assigned(file: Path) -> dict[str, object]:
    """The identifiers that alembic reads from a file of a revision."""
    found = {}
    for node in ast.parse(file.read_text()).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id in ("revision", "down_revision"):
            found[target.id] = ast.literal_eval(node.value)
    return found


def as_set(value: object) -> set[str]:
    return {value} if isinstance(value, str) else set(value or ())


def heads(revisions: dict[str, set[str]]) -> set[str]:
    return set(revisions).difference(*revisions.values())


def said(revisions: set[str]) -> str:
    return " and ".join(sorted(revisions)) or "nothing"


def is_there(database: Database) -> bool:
    """A file is made by the program; to ask it before would make an empty one."""
    url = make_url(os.environ[database.address])
    return url.get_backend_name() != "sqlite" or Path(url.database).exists()


def engine_of(database: Database) -> Engine:
    url = os.environ[database.address]
    return create_engine(url, connect_args=LIMITS if url.startswith("postgresql") else {}, poolclass=NullPool)


def refuse_newer(program: Program, database: Database, current: set[str]) -> None:
    if unknown := current - set(database.revisions()):
        refuse(
            f"{database.name} is at revision {said(unknown)}, which {program.name} {version(program.distribution)} "
            f"does not know: a newer version has migrated it. Put that version back ({program.pins}, or your image), "
            "or restore what was in the database before"
        )


def refuse(words: str) -> NoReturn:
    print(words, file=sys.stderr, flush=True)
    raise SystemExit(REFUSED)


def check(program: Program) -> None:
    """A database that does not answer is no reason to keep a program away from it."""
    for database in filter(is_there, program.databases):
        try:
            with engine_of(database).connect() as connection:
                current = database.current(connection)
        except DatabaseError as error:
            print(f"{database.name} cannot be asked: {first_line(error)}")
        else:
            refuse_newer(program, database, current)


def first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


@contextmanager
def told(words: str) -> Iterator[None]:
    """Says, to the log and by a file that is locked as long as it holds, what the start waits for."""
    print(words, flush=True)
    with (Path(os.environ["HOME"]) / ".migrating").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(words)
        file.flush()
        yield


def take_turn(database: Database, connection: Connection, seconds: int) -> None:
    """Ends with the lock, which the connection holds."""
    if connection.dialect.name != "postgresql" or has_lock(connection):
        return
    holder = connection.execute(text(HOLDER), {"lock": LOCK}).scalar() or "another host"
    with told(f"{database.name} is being migrated by {holder}, which this host waits for"):
        deadline = time.monotonic() + seconds
        while not has_lock(connection):
            if time.monotonic() > deadline:
                refuse(f"{database.name} has been in the hands of {holder} for {seconds} s; see what it does there")
            time.sleep(PAUSE_SECONDS)


def has_lock(connection: Connection) -> bool:
    return connection.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}).scalar()


def migrate(program: Program, database: Database, seconds: int) -> None:
    engine = engine_of(database)
    # Without a transaction, which would hold what is read here against the migration.
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        take_turn(database, connection, seconds)
        current, wanted = database.current(connection), heads(database.revisions())
        refuse_newer(program, database, current)
        if current == wanted or not database.upgrade or (not current and database.begins_itself):
            return
        begun = time.monotonic()
        with told(f"Migrating {database.name} from {said(current)} to {said(wanted)}"):
            try:
                database.upgrade(engine)
            except (Exception, SystemExit) as error:  # as flask_migrate ends what alembic refuses
                traceback.print_exc()
                refuse(f"{database.name} could not be migrated, which the next run tries again: {first_line(error)}")
        if (current := database.current(connection)) != wanted:
            refuse(f"{database.name} is at {said(current)} after the migration, not at {said(wanted)}")
        print(f"{database.name} was migrated in {time.monotonic() - begun:.0f} s", flush=True)


def main(name: str, bound: str, *command: str) -> None:
    program = PROGRAMS[name]
    if bound == "--check":
        check(program)
        return
    for database in filter(is_there, program.databases):
        try:
            migrate(program, database, int(bound))
        except DatabaseError as error:
            words = f"{database.name} cannot be asked: {first_line(error)}"
            # Who migrates it makes a half-made one anew as well.
            print(words, flush=True) if not database.upgrade else sys.exit(words)
    os.execv(command[0], command)


if __name__ == "__main__":
    main(*sys.argv[1:])
