"""What a person fills in, and how a test sends it."""

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.services.portal_app import csrf_token

PASSWORD = "saffron-tide-lamp"


def registration(**changed: str) -> dict[str, str]:
    """A form that is accepted, unless something is changed."""
    form = {"email": "sara@example.com", "country": "KW", "phone": "5500 1234", "password": PASSWORD, "name": "سارة"}
    return form | changed


def register(client: FlaskClient, **changed: str) -> TestResponse:
    return client.post("/register", data={"csrf_token": csrf_token(client, "/register"), **registration(**changed)})


def log_in(client: FlaskClient, identifier: str, password: str = PASSWORD, **more: str) -> TestResponse:
    form = {"csrf_token": csrf_token(client, "/login"), "email": identifier, "password": password, **more}
    return client.post("/login", data=form)


def log_out(client: FlaskClient) -> TestResponse:
    return client.post("/logout", data={"csrf_token": csrf_token(client, "/dashboard")})


def is_signed_in(client: FlaskClient) -> bool:
    return client.get("/dashboard").status_code == 200
