"""The REST API as a WSGI application; Dioptra's wheel ships none."""

import os

from dioptra.restapi import create_app

app = create_app(env=os.environ["DIOPTRA_RESTAPI_ENV"])
