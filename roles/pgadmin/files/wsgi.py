"""pgAdmin as a WSGI application, which makes its database when it first starts."""

import builtins
import os
import secrets
import sys
from importlib.util import find_spec
from pathlib import Path

builtins.SERVER_MODE = True
sys.path.insert(0, next(iter(find_spec("pgadmin4").submodule_search_locations)))

import config  # noqa: E402

database = Path(config.SQLITE_PATH)
begun = database.with_name(f"{database.name}.begun")
if begun.exists() or not database.exists():  # an interrupted one begins anew
    begun.touch()
    database.unlink(missing_ok=True)
# The first account has one that nobody knows until the deployment's is set.
os.environ["PGADMIN_SETUP_PASSWORD"] = secrets.token_urlsafe()

import pgAdmin4  # noqa: E402

application = pgAdmin4.app
begun.unlink(missing_ok=True)
