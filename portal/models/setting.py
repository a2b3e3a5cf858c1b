"""What operators tune while the product runs. Typed and audited where it is changed; JSON here."""

import datetime as dt
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from portal.clock import utcnow
from portal.models.base import MYSQL, Base, UtcDateTime, exact


class Setting(Base):
    __tablename__ = "settings"
    __table_args__ = (MYSQL,)

    name: Mapped[str] = mapped_column(exact(80), primary_key=True)
    value: Mapped[Any] = mapped_column(sa.JSON)
    updated_at: Mapped[dt.datetime] = mapped_column(UtcDateTime, default=utcnow, onupdate=utcnow)
