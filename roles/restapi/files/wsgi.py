"""The REST API as a WSGI application; Dioptra's wheel ships none."""

import os

from dioptra.restapi import create_app
from dioptra.restapi.config import config_by_name

environment = os.environ["DIOPTRA_RESTAPI_ENV"]
# Without it, each pooled connection that ended with a restart of PostgreSQL costs somebody an answer of 500.
config_by_name[environment].SQLALCHEMY_ENGINE_OPTIONS = {"pool_pre_ping": True}

app = create_app(env=environment)
