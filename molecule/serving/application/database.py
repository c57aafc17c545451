# Copyright: (c) 2026, the mlfleet authors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The application's own table."""

import os

from sqlalchemy import create_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

engine = create_engine(os.environ["DATABASE_URL"])


class Base(DeclarativeBase):
    pass


class Inference(Base):
    __tablename__ = "inferences"
    id: Mapped[str] = mapped_column(primary_key=True)
    result: Mapped[int | None]


if __name__ == "__main__":
    Base.metadata.create_all(engine)
