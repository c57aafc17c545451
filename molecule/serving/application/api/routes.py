# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The routes of the application."""

from database import Inference, engine
from fastapi import FastAPI
from sqlalchemy.orm import Session
from worker import celery, inference

api = FastAPI()


@api.get("/content/info")
def info():
    return {"application": "own"}


@api.post("/inference/start/{number}")
def start(number: int):
    return {"id": inference.delay(number).id}


@api.get("/inference/results/{identifier}")
def results(identifier: str):
    with Session(engine) as session:
        stored = session.get(Inference, identifier)
    result = celery.AsyncResult(identifier)
    return {"state": result.state, "result": result.result, "stored": stored and stored.result}
