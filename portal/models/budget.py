"""How many requests went to the cloud on a day in Kuwait. Taken by conditional UPDATE (`services/routing/budget`)."""

import datetime as dt

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.models.base import MYSQL, Base


class CloudDay(Base):
    __tablename__ = "cloud_days"
    __table_args__ = (sa.CheckConstraint("used >= 0", name="used"), MYSQL)

    day: Mapped[dt.date] = mapped_column(sa.Date, primary_key=True)
    used: Mapped[int] = mapped_column(default=0)
    warned: Mapped[bool] = mapped_column(default=False)
    """The event of 80 % was recorded."""
    exhausted: Mapped[bool] = mapped_column(default=False)
    """The event of 100 % was recorded."""
