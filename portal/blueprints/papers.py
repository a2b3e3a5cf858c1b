"""Receipts, credit notes and statements, as pages and as files: one's own account's, and anybody's for staff.

Another's paper is answered as one that does not exist. What stands on them is `services/papers`.
"""

from flask import Blueprint, Response, redirect, render_template, request, url_for
from flask_login import current_user
from werkzeug.wrappers import Response as AnyResponse

from portal import clock
from portal.blueprints.guards import current_caller
from portal.errors import NotFound
from portal.extensions import db
from portal.models import Paper
from portal.services import papers
from portal.services.papers import facts, pdf, sheet, statement_sheet, statements
from portal.services.papers.entry_words import words
from portal.services.papers.months import Month
from portal.services.papers.statements import Statement

bp = Blueprint("papers", __name__)
PDF, CSV = "application/pdf", "text/csv; charset=utf-8"


@bp.get("/billing/payments/<payment_id>/receipt")
def receipt(payment_id: str) -> str:
    return _page(papers.find_receipt(payment_id, _whose()))


@bp.get("/billing/payments/<payment_id>/receipt.pdf")
def receipt_pdf(payment_id: str) -> Response:
    paper = papers.find_receipt(payment_id, _whose())
    return _file(pdf.of_paper(paper), f"receipt-{paper.number}.pdf")


@bp.get("/billing/payments/<payment_id>/credit-notes/<number>")
def credit_note(payment_id: str, number: str) -> str:
    return _page(papers.find_credit_note(payment_id, number, _whose()))


@bp.get("/billing/payments/<payment_id>/credit-notes/<number>.pdf")
def credit_note_pdf(payment_id: str, number: str) -> Response:
    paper = papers.find_credit_note(payment_id, number, _whose())
    return _file(pdf.of_paper(paper), f"credit-note-{paper.number}.pdf")


@bp.get("/billing/statement")
def latest_statement() -> AnyResponse:
    """This month's, as far as it has come."""
    return redirect(url_for("papers.statement", month=Month.of(clock.utcnow()), account=request.args.get("account")))


@bp.get("/billing/statement/<month>")
def statement(month: str) -> str:
    found = _statement(month)
    lines = statements.lines(found)
    return render_template(
        "papers/statement.html",
        statement=found,
        months=statements.months(found.account_id),
        lines=lines,
        totals=statements.totals(lines),
        words=words(),
        month_name=statement_sheet.month_name,
        day_name=statement_sheet.day_name,
        requests=statement_sheet.requests,
        account=request.args.get("account"),
    )


@bp.get("/billing/statement/<month>.pdf")
def statement_pdf(month: str) -> Response:
    found = _statement(month)
    return _file(pdf.of_statement(found), f"statement-{found.month}.pdf")


@bp.get("/billing/statement/<month>.csv")
def statement_csv(month: str) -> Response:
    found = _statement(month)
    answer = Response(sheet.pieces(db.engine, found), content_type=CSV)
    answer.headers.set("Content-Disposition", "attachment", filename=f"statement-{found.month}.csv")
    return answer


def _whose() -> str | None:
    """Whose papers this person may open; None: everybody's."""
    return None if current_user.is_staff else current_caller().account.id


def _statement(month: str) -> Statement:
    """Of the account that staff ask for, or of one's own. Raises NotFound."""
    own = current_caller().account.id
    wanted = request.args.get("account", own)
    if wanted != own and not current_user.is_staff:
        raise NotFound
    try:
        year, number = Month.parse(month)
    except ValueError:
        raise NotFound from None
    return statements.month(wanted, year, number)


def _page(paper: Paper) -> str:
    return render_template("papers/paper.html", paper=paper, sheet=facts.of(paper))


def _file(made: bytes, name: str) -> Response:
    """To be looked at in the browser; kept under this name."""
    answer = Response(made, content_type=PDF)
    answer.headers.set("Content-Disposition", "inline", filename=name)
    return answer
