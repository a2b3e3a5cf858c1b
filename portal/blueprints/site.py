"""The public pages: for now the front page, with plans and models as their rows have them."""

from flask import Blueprint, current_app, render_template

from portal.money import MILLI
from portal.services import plans

bp = Blueprint("site", __name__)


@bp.get("/")
def landing() -> str:
    gift = current_app.config["PORTAL"].signup_credits * MILLI
    return render_template("site/landing.html", plans=plans.on_sale(), models=plans.models(), gift=gift)
