"""The forms around one-time codes, and the digits as the telephone would show them."""

import re

import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from portal.extensions import db
from portal.models import Allowance, OneTimeCode, User
from portal.services import codes
from tests.services.portal_app import csrf_token

ARABIC_DIGITS = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
NEW_PASSWORD = "three-lamps-by-the-sea"


def send(client: FlaskClient, path: str, page: str = "", **form: str) -> TestResponse:
    """Post a form with the token of the page that it stands on."""
    return client.post(path, data={"csrf_token": csrf_token(client, page or path), **form})


def code_of(app: Flask, user_id: str) -> str:
    """The newest code's digits."""
    with app.app_context():
        query = sa.select(OneTimeCode.id).where(OneTimeCode.user_id == user_id).order_by(OneTimeCode.id.desc())
        return codes.digits(db.session.scalars(query.limit(1)).one())


def wrong(code: str) -> str:
    """Another six digits."""
    return f"{(int(code) + 1) % 1_000_000:06d}"


def a_minute_later(app: Flask) -> None:
    """What was sent is so long ago that another code may be asked for."""
    with app.app_context():
        db.session.execute(sa.update(Allowance).values(last_at=None))
        db.session.commit()


def user_of(app: Flask, user_id: str) -> User:
    with app.app_context():
        return db.session.get_one(User, user_id)


def words(answer: TestResponse) -> str:
    """What the page says, without tags."""
    html = answer.get_data(as_text=True).partition("<main")[2]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))
