"""Papers as PDF files: what is printed can be read by people and by programs, in both languages."""

import datetime as dt
import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pypdf
import pytest
from flask import Flask
from fpdf.enums import TextDirection

from portal import clock
from portal.extensions import db
from portal.models import Paper
from portal.services.papers import facts, fonts, pdf, statements
from portal.services.papers.layout import Layout
from portal.services.papers.months import Month
from tests.ledger.books import Books
from tests.papers.past import Story, buy, give_back, give_papers, name_the_seller, write
from tests.services.environment import ROOT, portal_environment

BUILT = ROOT / "portal/static/dist/fonts"


@pytest.fixture
def app(sqlite_books: Books) -> Flask:
    return sqlite_books.app


@pytest.fixture
def account(sqlite_books: Books) -> str:
    return sqlite_books.open_account()


def of_paper(app: Flask, paper: Paper) -> bytes:
    with app.app_context():
        return pdf.of_paper(paper)


def of_statement(app: Flask, account: str, language: str) -> bytes:
    now = clock.kuwait_day()
    with app.test_request_context(f"/?lang={language}"):
        return pdf.of_statement(statements.month(account, now.year, now.month))


def pages(file: bytes) -> list[str]:
    return [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(file)).pages]


def test_a_receipt_is_one_page_with_all_that_it_must_tell(app: Flask, account: str) -> None:
    """SUB-20: seller, buyer, plan, tax, payment, and a program that reads it finds the words."""
    name_the_seller(app, vat_number="300000000000003", vat_percent="5")
    receipt = buy(app, account)
    (text,) = pages(of_paper(app, receipt))
    for told in (
        receipt.number, receipt.payment_id, "Al-Nakhla Technology W.L.L.", "412233", "300000000000003", "Plan: Pro",
        "60,000", "15.000 KWD", "14.286 KWD", "0.714 KWD", "VAT 5%", "07076543210123456789",
        "888888xxxxxx8888", "1 / 1",
    ):  # fmt: skip
        assert told in text, told
    for word in ("إيصال", "المدفوع", "العميل", "شركة النخلة للتقنية", "ضريبة القيمة المضافة"):
        assert word in text, word


def test_the_same_paper_is_the_same_file(app: Flask, account: str) -> None:
    """PAY-05: asked for twice, today and in ten years, the same bytes; its title and date are the paper's."""
    receipt = buy(app, account)
    file = of_paper(app, receipt)
    assert of_paper(app, receipt) == file
    about = pypdf.PdfReader(io.BytesIO(file)).metadata
    assert about is not None
    assert about.title == f"Receipt {receipt.number}"
    assert about.creation_date == receipt.issued_at.replace(microsecond=0)


def test_the_fonts_are_in_the_file(app: Flask, account: str) -> None:
    """SUB-20: whoever opens it has no Arabic font of ours; and only the letters it uses are in it."""
    file = of_paper(app, buy(app, account))
    assert len(file) < 80_000
    resources = pypdf.PdfReader(io.BytesIO(file)).pages[0]["/Resources"]
    used = [font.get_object() for font in resources["/Font"].values()]  # type: ignore[index]
    assert used
    for font in used:
        (inner,) = font["/DescendantFonts"]
        assert "/FontFile2" in inner.get_object()["/FontDescriptor"], font["/BaseFont"]


def test_a_long_reason_and_a_long_name_stay_on_the_sheet(app: Flask, account: str) -> None:
    """SUB-20: what people wrote is broken where the column ends; a word without a blank as well."""
    receipt = buy(app, account, name_en="W" * 118, name_ar="باقة الأعمال الكبرى " * 5)
    with app.app_context():
        paper = db.session.get_one(Paper, receipt.id)
        paper.content = paper.content | {"buyer": {"account": account, "name": "x" * 200, "email": "y" * 180}}
        file = pdf.of_paper(paper)
        db.session.rollback()
    text = "".join(pages(file)).replace("\n", "")
    assert "W" * 118 in text.replace("باقة", "")
    assert "x" * 200 in text


def test_a_credit_note_names_its_receipt(app: Flask, account: str) -> None:
    """SUB-20: what it corrects, what was given back, what was taken, why."""
    receipt = buy(app, account)
    note = give_back(app, receipt, 5_000, 20_000_000)
    (text,) = pages(of_paper(app, note))
    for told in (note.number, receipt.number, "Credit note", "5.000 KWD", "20,000", "Amount given back"):
        assert told in text, told


@pytest.fixture
def layout() -> Iterator[Layout]:
    at = dt.datetime(2026, 11, 21, tzinfo=dt.UTC)
    with closing(Layout(fonts.files(BUILT), title="x", language="ar", at=at, footer_text="x")) as page:
        yield page


@pytest.mark.parametrize(("marked", "plain"), [("جُمِعَت", "جمعت"), ("مُحمّد", "محمد"), ("بَيْتُنَا", "بيتنا")])
def test_letters_join_across_vowel_marks(layout: Layout, marked: str, plain: str) -> None:
    """SUB-20: a mark has no width; letters that it kept apart had another shape, and were wider."""
    assert layout.width_of(marked, rtl=True) == pytest.approx(layout.width_of(plain, rtl=True))


def test_letters_are_shaped_and_run_to_the_left(layout: Layout) -> None:
    """SUB-20: joined forms, the last letter first; a font's own letters side by side would be wider."""
    joined = layout.width_of("بتث", rtl=True)
    alone = sum(layout.width_of(letter, rtl=True) - 2 * layout.c_margin for letter in "بتث") + 2 * layout.c_margin
    assert joined < 0.8 * alone
    font = layout.fonts["arabic"]
    shaped = font.shape_text("لا", 9, {"features": {}, "fragment_direction": TextDirection.RTL})  # type: ignore[union-attr]
    assert len(shaped) == 1, "lam and alef are one"


def test_what_no_font_has_is_told_and_what_turns_lines_is_dropped(layout: Layout) -> None:
    """SUB-20: an empty box tells nobody anything; an override would turn the rest of the line around."""
    assert layout.lines("日本 ok", 100) == ["?? ok"]
    assert layout.lines("a\u202eb\u200fc", 100) == ["abc"]


def test_a_sentence_is_broken_in_its_own_order(layout: Layout) -> None:
    """SUB-20: two languages in one sentence, over two lines: its beginning stands in the first."""
    text = "تعويض عن انقطاع الخدمة مع Layla في يوم الثلاثاء الماضي حسب الاتفاق"
    lines = layout.lines(text, 50, rtl=True)
    assert len(lines) > 1
    assert " ".join(lines) == text


@pytest.mark.parametrize("language", ["ar", "en"])
def test_a_statement_repeats_its_heading_and_numbers_its_pages(app: Flask, account: str, language: str) -> None:
    """SUB-21: opening first, closing last, every request between them with its id."""
    give_papers(app, account)
    now = clock.utcnow()
    story: Story = [(now, "usage", -100) for _ in range(80)]
    write(app, account, story)
    texts = pages(of_statement(app, account, language))
    assert len(texts) > 2
    heading = "Amount (credits)" if language == "en" else "المبلغ"
    for number, text in enumerate(texts, 1):
        assert f"{number} / {len(texts)}" in text
        assert heading in text
    every = "".join(texts)
    assert every.count("req_") == 80
    assert every.count("-0.100") == 80
    if language == "en":
        assert "Opening balance" in texts[0]
        assert "Closing balance" in texts[-1]
        assert "39,992.000" in texts[-1]


def test_an_empty_statement_is_a_page(app: Flask, account: str) -> None:
    """SUB-21: opening and closing, and nothing between them."""
    (text,) = pages(of_statement(app, account, "en"))
    assert "Opening balance" in text
    assert "Closing balance" in text
    assert str(Month.of(clock.utcnow())) in text


def test_a_statement_of_very_many_says_that_it_groups(app: Flask, account: str) -> None:
    """SUB-21: not a hundred pages; where each one is found is told."""
    now = clock.utcnow()
    write(app, account, [(now, "topup", 10**9), *((now, "usage", -100) for _ in range(2_100))])
    (text,) = pages(of_statement(app, account, "en"))
    assert "2,101 postings" in text
    assert "2,100 requests" in text


def test_a_worker_that_makes_no_file_loads_no_library(tmp_path: Path) -> None:
    """SUB-20: fpdf2, its fonts and its pictures are thirty megabytes in each gateway worker."""
    code = "import sys, wsgi; print(sorted({'fpdf', 'PIL', 'fontTools', 'uharfbuzz'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=portal_environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_a_host_that_empties_its_temporary_folder_gets_its_papers(app: Flask, account: str) -> None:
    """SUB-20: the unpacked fonts are gone after ten quiet days on many hosts."""
    receipt = buy(app, account)
    before = of_paper(app, receipt)
    for path in fonts.files(BUILT).values():
        path.unlink()
    assert of_paper(app, receipt) == before


def test_the_words_of_papers_are_whole(app: Flask, account: str) -> None:
    """SUB-20: every fact in both languages, Arabic in Arabic."""
    name_the_seller(app, vat_number="3", vat_percent="5")
    for paper in give_papers(app, account):
        sheet = facts.of(paper)
        every = [fact for section in (*sheet.sections, *sheet.ends) for fact in section.facts]
        for label in (
            sheet.title,
            *sheet.columns,
            *(fact.label for fact in (*every, *sheet.totals, *sheet.seller_facts)),
        ):
            assert any("\u0621" <= c <= "\u064a" for c in label.ar), label
            assert not any("\u0600" <= c <= "\u06ff" for c in label.en), label
