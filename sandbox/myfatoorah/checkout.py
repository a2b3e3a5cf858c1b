"""The page where a customer pays, in the order's language: pay, fail for a reason, later, close. No script.

What the buttons do is `server.settle`; this file only shows and asks.
"""

from __future__ import annotations

from html import escape
from urllib.parse import parse_qsl, urlencode

from sandbox.wire import Exchange

from . import times
from .book import CANCELED, CAPTURED, FAILED, Invoice
from .knobs import ERRORS, KnobError
from .money import charged, commas
from .server import PAGE, MyFatoorah
from .shapes import PAGE_NAMES
from .words import ERRORS_AR, WORDS, frame

HTML = "text/html; charset=utf-8"
FRESH = [("Cache-Control", "no-store")]


def handle(server: MyFatoorah, exchange: Exchange) -> None:
    """Show an invoice, or do what a button says and lead the browser back."""
    request = exchange.request
    language = "ar" if request.path.removeprefix(server.prefix).startswith("/Ar/") else "en"
    invoice = server.book.by_page(request.query.get("invoiceKey", ""))
    if invoice is None:
        _show(exchange, 404, _note(server, language, WORDS[language]["unknown"], None), language)
        return
    asked = dict(parse_qsl(request.body.decode("utf-8", "replace"))) if request.method == "POST" else {}
    if asked.get("do") in ("later", "close"):
        _show(exchange, 200, _note(server, language, WORDS[language][f"{asked['do']}_note"], invoice), language)
    elif asked.get("do") in ("pay", "fail"):
        _end(server, exchange, invoice, asked, language)
    elif (over := _over(server, invoice)) is not None:
        _show(exchange, 200, _note(server, language, WORDS[language][over], None), language)
    else:
        server.begin(invoice)
        _show(exchange, 200, _form(server, invoice, language), language)


def _show(exchange: Exchange, status: int, body: str, language: str) -> None:
    exchange.answer(status, frame(WORDS[language]["title"], body, language), HTML, FRESH)


def _over(server: MyFatoorah, invoice: Invoice) -> str | None:
    """Why it cannot be paid any more; None: it can."""
    if invoice.paid:
        return "paid"
    if invoice.status == CANCELED:
        return "canceled"
    return "expired" if server.expired(invoice) else None


def _end(server: MyFatoorah, exchange: Exchange, invoice: Invoice, asked: dict[str, str], language: str) -> None:
    """An attempt ends; the browser goes where the order says, by GET."""
    card = server.book.cards.get(asked.get("card", ""))
    try:
        attempt = server.settle(
            invoice, "paid" if asked["do"] == "pay" else "failed", error_code=asked.get("error", "MF004"),
            keep_card="keep" in asked, card=card if card in server.book.cards_of(invoice.customer_key) else None,
        )  # fmt: skip
    except KnobError:  # another tab was first
        over = WORDS[language][_over(server, invoice) or "unknown"]
        _show(exchange, 409, _note(server, language, over, None), language)
        return
    back = server.way_back(invoice, attempt)
    if back:
        exchange.answer(303, b"", "text/plain", [("Location", back), *FRESH])
        return
    words = WORDS[language]
    said = words["done_paid" if attempt.status == CAPTURED else "done_failed"] + " " + words["stays"]
    _show(exchange, 200, _note(server, language, said, invoice), language)


def _note(server: MyFatoorah, language: str, said: str, again: Invoice | None) -> str:
    """One sentence, and where to go from there."""
    words = WORDS[language]
    back = f'<a class="button" href="{escape(_address(server, again))}">{words["again"]}</a>' if again else ""
    return (
        f'<main><h1>{words["title"]}</h1><section class="card"><p role="status">{said}</p>{back}'
        f'<a class="button" href="{server.prefix}/">{words["list"]}</a></section></main>'
    )


def _address(server: MyFatoorah, invoice: Invoice) -> str:
    """The page of an invoice, without a host."""
    query = urlencode({
        "invoiceKey": invoice.key, "paymentGatewayId": server.board.now.method_ids[invoice.method]
    })  # fmt: skip
    return f"{server.prefix}/{server.language(invoice).capitalize()}/KWT/{PAGE}?{query}"


def _form(server: MyFatoorah, invoice: Invoice, language: str) -> str:
    words = WORDS[language]
    total = charged(invoice.value + invoice.charge)
    failed = [attempt.error_code for attempt in invoice.attempts if attempt.status == FAILED]
    texts = ERRORS if language == "en" else ERRORS_AR
    options = "".join(
        f'<option value="{code}"{" selected" if code == "MF004" else ""}>{texts[code]} ({code})</option>'
        for code in ERRORS
    )
    until = times.local(invoice.expires_at)[:16].replace("T", " ")
    tried = f'<p class="note">{words["tried"]}: {escape(", ".join(failed))}</p>' if failed else ""
    return f"""<main>
<h1>{words["title"]}</h1>
<section class="card">
<p class="note">{words["merchant"]}</p>
<p dir="auto">{escape(invoice.item())}</p>
<dl>
{_row(words["amount"], f"{commas(invoice.value)} {words['currency']}")}
{_row(words["charge"], f"{commas(invoice.charge)} {words['currency']}") if invoice.charge else ""}
<dt>{words["total"]}</dt><dd class="total">{_isolated(f"{commas(total)} {words['currency']}")}</dd>
{_row(words["by"], PAGE_NAMES[invoice.method][language])}
{_row(words["order"], invoice.text("CustomerReference") or "–", "mono")}
{_row(words["invoice"], str(invoice.id), "mono")}
</dl>
<p class="note">{words["until"]} <bdi>{until}</bdi> ({words["zone"]})</p>
{tried}
</section>
<form method="post" class="card">
{_cards(server, invoice, words)}
<button class="first" name="do" value="pay">{words["pay"]} <bdi>{commas(total)} {words["currency"]}</bdi></button>
</form>
<form method="post" class="card">
<h2>{words["failing"]}</h2>
<label>{words["why"]}<select name="error">{options}</select></label>
<button class="bad" name="do" value="fail">{words["fail"]}</button>
</form>
<form method="post" class="pair">
<button name="do" value="later">{words["later"]}</button>
<button name="do" value="close">{words["close"]}</button>
</form>
<p><a href="{server.prefix}/">{words["list"]}</a></p>
</main>"""


def _row(name: str, value: str, kind: str = "") -> str:
    return f'<dt>{name}</dt><dd class="{kind}">{_isolated(value)}</dd>'


def _isolated(text: str) -> str:
    return f"<bdi>{escape(text)}</bdi>"


def _cards(server: MyFatoorah, invoice: Invoice, words: dict[str, str]) -> str:
    """What may be kept and what was: cards only, and only where the order names a customer."""
    if not invoice.customer_key or invoice.method == "kn":
        return ""
    kept = "".join(
        f'<option value="{escape(card.token)}">{escape(card.brand)} {escape(card.number)}</option>'
        for card in server.book.cards_of(invoice.customer_key)
    )
    choice = ""
    if kept:
        choice = (
            f'<label>{words["kept"]}<select name="card"><option value="">{words["new_card"]}</option>{kept}</select>'
            "</label>"
        )
    return f'{choice}<label class="tick"><input type="checkbox" name="keep" value="1">{words["keep"]}</label>'
