# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Celery as an application sets it up that knows nothing of the deployment but its variables."""

import os

from celery import Celery
from database import Inference, engine
from sqlalchemy.orm import Session

celery = Celery("worker", broker=os.environ["CELERY_BROKER_URL"], backend=os.environ["CELERY_BACKEND_URL"])


@celery.task(name="inference", bind=True)
def inference(self, number):
    with Session(engine) as session:
        session.merge(Inference(id=self.request.id, result=number * 2))
        session.commit()
    return number * 2
