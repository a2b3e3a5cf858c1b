"""The notification centre's page: what the account was told, and for staff what the operator's people were told.

The lines are `services/notifications/centre.py`'s. A link is shown only where the portal has a page for it.
"""

from flask import Blueprint, current_app, redirect, render_template, request, url_for
from flask_login import current_user
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response

from portal import i18n
from portal.blueprints.guards import current_caller
from portal.errors import AccessDenied
from portal.services.notifications import centre

bp = Blueprint("notifications", __name__)
STAFFS = "staff"


@bp.get("/notifications")
def index() -> str:
    staffs = request.args.get("of") == STAFFS
    if staffs and not current_user.is_staff:
        raise AccessDenied
    account_id, before = current_caller().account.id, request.args.get("before")
    language = i18n.language()
    page = centre.staff_page(language, before) if staffs else centre.page(account_id, language, before)
    return render_template("notifications/index.html", page=page, staffs=staffs, leads=_leads, first=before is None)


@bp.post("/notifications/read")
def mark_read() -> Response:
    centre.mark_read(current_caller().account.id, request.form.get("until") or None)
    return redirect(url_for("notifications.index"))


def _leads(link: str) -> bool:
    """Whether there is a page at this path of ours: messages are older and younger than pages."""
    try:
        current_app.url_map.bind("").match(link.partition("?")[0], method="GET")
    except HTTPException:
        return False
    return True
