"""Papers as their readers open them: one's own, staff any, in both languages, as pages and as files."""

import csv
import io
import re

import pytest
import sqlalchemy as sa
from flask import Flask
from flask.testing import FlaskClient

from portal import clock
from portal.extensions import db
from portal.models import Account, LedgerEntry, Paper, Usage
from portal.services import ledger, tunables
from portal.services.papers import statement_sheet, statements
from portal.services.papers.months import Month
from portal.services.papers.statements import Statement
from tests.pages.test_queries import counted
from tests.papers.past import SELLER, Story, buy, give_papers, name_the_seller, paid, write
from tests.services.cast import Cast, Person


def ways(receipt: Paper, note: Paper) -> list[str]:
    """Every address of these papers, and of this month's statement."""
    of = f"/billing/payments/{receipt.payment_id}"
    month = f"/billing/statement/{Month.of(clock.utcnow())}"
    papers = [
        f"{of}/receipt",
        f"{of}/receipt.pdf",
        f"{of}/credit-notes/{note.number}",
        f"{of}/credit-notes/{note.number}.pdf",
    ]
    return [*papers, month, f"{month}.pdf", f"{month}.csv"]


def words(client: FlaskClient, path: str) -> str:
    page = client.get(path).get_data(as_text=True)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.partition("<main")[2]))


def test_ones_own_papers_open_as_page_and_as_file(app: Flask, cast: Cast) -> None:
    """PAY-05, SUB-20, SUB-21: each under the name that finance files it by."""
    receipt, note = give_papers(app, cast.layla.account_id)
    client = cast.sign_in(cast.layla)
    names = []
    for way in ways(receipt, note):
        answer = client.get(way)
        assert answer.status_code == 200, way
        assert answer.headers["Cache-Control"] == "no-store"
        names.append(answer.headers.get("Content-Disposition", answer.mimetype))
        answer.close()
    month = Month.of(clock.utcnow())
    assert names == [
        "text/html", f"inline; filename=receipt-{receipt.number}.pdf", "text/html",
        f"inline; filename=credit-note-{note.number}.pdf", "text/html", f"inline; filename=statement-{month}.pdf",
        f"attachment; filename=statement-{month}.csv",
    ]  # fmt: skip
    assert client.get("/billing/statement").location.endswith(f"/billing/statement/{month}")


def test_a_strangers_papers_do_not_exist(app: Flask, cast: Cast) -> None:
    """PAY-05: Zaid, and Omar of Layla's own team, are told of Layla's papers what they are told of none; nobody is sent
    to sign in; staff open them."""
    receipt, note = give_papers(app, cast.layla.account_id)
    mine = f"?account={cast.layla.account_id}"
    papers = ways(receipt, note)[:4]
    of_month = [way + mine for way in ways(receipt, note)[4:]]
    for person in (cast.zaid, cast.omar):
        client = cast.sign_in(person)
        for way in (*papers, *of_month):
            assert client.get(way).status_code == 404, way
        unknown = f"/billing/payments/{'0' * 32}/receipt"
        told = {words(client, way + "?lang=en").partition("Reference")[0] for way in (unknown, *papers[:1], papers[2])}
        assert len(told) == 1, "another's is answered as one that does not exist"
    staff = cast.sign_in(cast.noor)
    for way in (*papers, *of_month):
        assert staff.get(way).status_code == 200, way
    assert "layla@example.com" in staff.get(papers[0]).get_data(as_text=True)
    for way in papers:
        assert "/login" in app.test_client().get(way).location


@pytest.mark.parametrize("month", ["2026-13", "2026-1", "26-11", "2026-11-01", "1999-12", "2999-01", "x", "2026-00"])
def test_a_month_that_is_none_is_not_found(cast: Cast, month: str) -> None:
    """SUB-21: an address is typed by hand; nothing breaks."""
    client = cast.sign_in(cast.layla)
    for kind in ("", ".pdf", ".csv"):
        assert client.get(f"/billing/statement/{month}{kind}").status_code == 404, kind


def test_before_it_is_paid_there_is_no_receipt_and_it_says_so(app: Flask, cast: Cast) -> None:
    """PAY-05: in words, and for nobody else."""
    with app.app_context():
        payment = paid(cast.layla.account_id, state="pending", paid_at=None, closed_at=None)
        db.session.commit()
    way = f"/billing/payments/{payment.id}/receipt"
    client = cast.sign_in(cast.layla)
    assert client.get(way).status_code == client.get(way + ".pdf").status_code == 404
    assert "not paid yet" in words(client, way + "?lang=en")
    assert "لم تُدفع" in words(client, way + "?lang=ar")
    assert "not paid yet" not in words(cast.sign_in(cast.zaid), way + "?lang=en")


@pytest.mark.parametrize("language", ["ar", "en"])
def test_a_receipt_is_in_both_languages_whoever_reads_it(app: Flask, cast: Cast, language: str) -> None:
    """SUB-20: seller, buyer, plan, tax, payment; as they were."""
    name_the_seller(app, vat_number="300000000000003", vat_percent="5")
    receipt = buy(app, cast.layla.account_id)
    with app.app_context():
        tunables.put("seller_name_en", "Somebody Else")
    text = words(cast.sign_in(cast.layla), f"/billing/payments/{receipt.payment_id}/receipt?lang={language}")
    for told in (
        *SELLER.values(), "300000000000003", receipt.number, receipt.payment_id, "layla@example.com", "KNET",
        "07076543210123456789", "888888xxxxxx8888", "Plan: Pro", "باقة احترافي", "60,000", "15.000 KWD", "15.000 د.ك",
        "14.286 KWD", "0.714 د.ك", "ضريبة القيمة المضافة 5%", "Tax invoice and receipt", "فاتورة ضريبية وإيصال",
    ):  # fmt: skip
        assert told in text, told
    assert "Somebody Else" not in text


def test_what_does_not_apply_is_left_out(app: Flask, cast: Cast) -> None:
    """SUB-20: no VAT, no registration: no line of either."""
    receipt = buy(app, cast.layla.account_id, kind="pack", period_days=0, card_number="", gateway="")
    text = words(cast.sign_in(cast.layla), f"/billing/payments/{receipt.payment_id}/receipt?lang=en")
    assert "LLM Portal" in text
    assert "Credit pack: Pro" in text
    for absent in ("VAT", "ضريب", "registration", "Card ", "Telephone", "None"):
        assert absent not in text, absent


def test_a_statement_tells_each_posting_with_its_id(app: Flask, cast: Cast) -> None:
    """SUB-21: opening, sums by kind, postings, closing; papers a click away; requests of a day taken together."""
    layla = cast.layla
    receipt, note = give_papers(app, layla.account_id)
    now = clock.utcnow()
    write(app, layla.account_id, [(now, "usage", -57), (now, "usage", -1_943)])
    client = cast.sign_in(layla)
    month = Month.of(now)
    text = words(client, f"/billing/statement/{month}?lang=en")
    assert "Opening balance 0 credits" in text
    assert "Usage -2 credits 2 postings" in text
    assert "2 requests -2.000 41,098.000" in text
    assert "Closing balance 41,098 credits" in text
    assert "Adjustment Layla has credit" in text
    assert f"Pro · {receipt.number} {receipt.payment_id} 60,000.000" in text
    page = client.get(f"/billing/statement/{month}").get_data(as_text=True)
    assert f"/billing/payments/{receipt.payment_id}/receipt" in page
    assert f"/billing/payments/{receipt.payment_id}/credit-notes/{note.number}" in page


def test_an_account_without_a_posting_is_told_so(app: Flask, cast: Cast) -> None:
    """SUB-21: empty states teach."""
    zaid = cast.zaid
    with app.app_context():
        db.session.execute(sa.text("DELETE FROM ledger_entries WHERE account_id = :id"), {"id": zaid.account_id})
        db.session.commit()
    text = words(cast.sign_in(zaid), f"/billing/statement/{Month.of(clock.utcnow())}?lang=en")
    assert "Nothing was booked in this month" in text


def read(client: FlaskClient, language: str = "en") -> list[list[str]]:
    answer = client.get(f"/billing/statement/{Month.of(clock.utcnow())}.csv?lang={language}")
    assert answer.mimetype == "text/csv"
    raw = answer.get_data()
    assert raw.startswith(b"\xef\xbb\xbf")
    assert raw.count(b"\r\n") == raw.count(b"\n")
    return list(csv.reader(io.StringIO(raw[3:].decode(), newline="")))


def test_a_spreadsheet_gets_numbers_and_no_formula(app: Flask, cast: Cast) -> None:
    """SUB-21: what somebody wrote is text whatever it begins with; an amount below zero stays a number."""
    layla, evil = (
        cast.layla,
        ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "＝1", '=HYPERLINK("http://x")', "plain, with comma"],
    )
    with app.app_context():
        for number, reason in enumerate(evil):
            ledger.adjust(layla.account_id, -1_500, reference=f"manual:{number}", actor="test", reason=f"x{reason}")
            mine = sa.update(LedgerEntry).where(LedgerEntry.reference == f"manual:{number}")
            db.session.execute(mine.values(meta={"reason": reason}))  # as if the ledger had not stripped it
        db.session.commit()
    rows = read(cast.sign_in(layla))
    assert rows[0] == [
        "No.", "Time", "Kind", "About", "Request or payment", "Paper", "Amount (credits)", "Balance (credits)",
    ]  # fmt: skip
    assert [row[3] for row in rows if row[4].startswith("manual:")] == [f"'{r}" if r != evil[-1] else r for r in evil]
    assert {row[6] for row in rows if row[4].startswith("manual:")} == {"-1.500"}
    for row in rows[1:]:
        assert not any(cell.startswith(("=", "+", "@", "\t", "＝")) for cell in row)
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+03:00", row[1])
        assert re.fullmatch(r"-?\d+\.\d{3}", row[7])
    assert (rows[1][2], rows[-1][2]) == ("Opening balance", "Closing balance")
    assert float(rows[1][7]) + sum(float(row[6]) for row in rows[2:-1]) == float(rows[-1][7])
    assert read(cast.sign_in(layla), "ar")[1][2] == "الرصيد الافتتاحي"


MANY = 2_500


def test_a_month_of_many_requests_is_whole_in_the_csv(app: Flask, cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """SUB-21: read in pieces, every request with its model and id; the page stays small, the PDF says what it did."""
    layla, now = cast.layla, clock.utcnow()
    story: Story = [(now, "topup", 5_000_000), *((now, "usage", -100) for _ in range(MANY))]
    write(app, layla.account_id, story)
    client = cast.sign_in(layla)
    rows = read(client)
    with app.app_context():
        ids = set(db.session.scalars(sa.select(Usage.id).where(Usage.account_id == layla.account_id)))
    requests = [row for row in rows if row[2] == "Usage"]
    assert {row[4].removeprefix("req_") for row in requests} == ids
    assert {row[3] for row in requests} == {"qwen2.5-coder:14b"}
    assert f"{MANY:,} requests" in words(client, f"/billing/statement/{Month.of(now)}?lang=en")
    with app.app_context(), app.test_request_context("/?lang=en"):
        sheet = statement_sheet.of(_statement(layla))
    assert "Requests are taken together by day" in sheet.remark
    assert len(sheet.rows) < 10


def _statement(person: Person) -> Statement:
    return statements.month(person.account_id, *Month.of(clock.utcnow()))


def test_papers_ask_little_however_much_there_is(app: Flask, cast: Cast) -> None:
    """SUB-21: a page of a thousand requests costs the queries of an empty one."""
    layla, now = cast.layla, clock.utcnow()
    client = cast.sign_in(layla)
    way = f"/billing/statement/{Month.of(now)}"
    with counted(app) as little:
        client.get(way)
    write(app, layla.account_id, [(now, "topup", 5_000_000), *((now, "usage", -100) for _ in range(1_000))])
    with counted(app) as much:
        client.get(way)
    assert len(much) == len(little) <= 11, much
    receipt, _ = give_papers(app, layla.account_id)
    with counted(app) as asked:
        client.get(f"/billing/payments/{receipt.payment_id}/receipt")
    assert len(asked) <= 4, asked


def test_a_page_of_another_month_leads_to_those_with_postings(app: Flask, cast: Cast) -> None:
    """SUB-21: the months to choose among are those in which something was booked; staff stay with the account."""
    layla = cast.layla
    with app.app_context():
        account = db.session.get_one(Account, layla.account_id)
        account.created_at = Month.of(clock.utcnow()).begins.replace(year=clock.utcnow().year - 1)
        db.session.commit()
    old = str(Month.of(clock.utcnow()).begins.year - 1)
    client = cast.sign_in(cast.noor)
    page = client.get(f"/billing/statement/{old}-12?lang=en&account={layla.account_id}").get_data(as_text=True)
    of = f"account={layla.account_id}"
    months = re.findall(r'class="paper-months".*?</nav>', page, re.DOTALL)
    assert re.findall(r'href="([^"]+)"', months[0]) == [f"/billing/statement/{Month.of(clock.utcnow())}?{of}"]
    for file in ("pdf", "csv"):
        assert f'href="/billing/statement/{old}-12.{file}?{of}"' in page
