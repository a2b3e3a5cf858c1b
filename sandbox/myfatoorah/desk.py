"""The list of invoices at `/myfatoorah/`, and the vendor's staff in one: who pays later, refunds, cancels, tells again.

For people who try the product with `make run`. Plain HTML, no script, nothing that reloads under one's fingers.
"""

from __future__ import annotations

from html import escape
from urllib.parse import parse_qsl

from sandbox.wire import Exchange

from . import times
from .book import PENDING, REFUND_PENDING, Invoice, Refund
from .checkout import FRESH, HTML
from .knobs import ERRORS, KnobError
from .money import commas
from .server import MyFatoorah
from .shapes import GATEWAY
from .words import frame

SHOWN = 100


def handle(server: MyFatoorah, exchange: Exchange) -> None:
    """The list; a POST does what its button says and leads back to the list."""
    request = exchange.request
    if request.path == server.prefix:
        exchange.answer(302, b"", "text/plain", [("Location", server.prefix + "/")])
    elif request.method == "POST":
        asked = dict(parse_qsl(request.body.decode("utf-8", "replace")))
        try:
            at = _do(server, asked)
        except (KnobError, LookupError, ValueError) as error:
            why = (
                f'<main><p class="card" role="alert">{escape(str(error))}</p><a href="{server.prefix}/">Back</a></main>'
            )
            exchange.answer(409, frame("Not possible", why), HTML, FRESH)
            return
        exchange.answer(303, b"", "text/plain", [("Location", f"{server.prefix}/#i{at}")])
    elif request.method in ("GET", "HEAD"):
        exchange.answer(200, frame("Invoices – MyFatoorah sandbox", page(server)), HTML, FRESH)
    else:
        exchange.answer(405, b"405 method not allowed", "text/plain", [("Allow", "GET, HEAD, POST")])


def _do(server: MyFatoorah, asked: dict[str, str]) -> int:
    """The invoice it was about. Raises KnobError or LookupError."""
    deed = asked.get("do")
    if deed in ("refunded", "canceled"):
        refund = server.book.refunds[int(asked.get("refund", 0))]
        server.settle_refund(refund, deed)
        return refund.original.id
    invoice = server.book.invoices[int(asked.get("invoice", 0))]
    if deed == "tell":
        server.tell_again(invoice)
    elif deed == "cancel":
        server.cancel(invoice)
    else:
        raise LookupError(f"no such deed: {deed}")
    return invoice.id


def page(server: MyFatoorah) -> str:
    book = server.book
    rows = [_invoice(server, invoice) for _, invoice in zip(range(SHOWN), book.newest(), strict=False)]
    more = f'<p class="note">and {len(book.invoices) - SHOWN} older ones</p>' if len(book.invoices) > SHOWN else ""
    none = (
        '<p class="card">No invoice yet. Buy a plan or a pack in the portal: you are then led to the payment page '
        "here. Nothing leaves this machine and no money moves.</p>"
    )
    waiting = sum(refund.status == REFUND_PENDING for refund in book.refunds.values())
    count = f"{len(book.invoices)} in all, refunds to decide: {waiting}"
    heard = "" if server.webhook else '<p class="note">No webhook address is set: the portal hears of nothing.</p>'
    return (
        f'<main class="wide"><div class="top"><h1>MyFatoorah: invoices</h1>'
        f'<p class="note">{count} · <a href="{server.prefix}/">look again</a></p></div>{heard}'
        f"{''.join(rows) or none}{more}</main>"
    )


def _invoice(server: MyFatoorah, invoice: Invoice) -> str:
    state = "Expired" if invoice.status == PENDING and server.expired(invoice) else invoice.status
    attempts = "".join(
        f'<li class="note"><span class="state {one.status}">{one.status}</span> {GATEWAY[one.method]} '
        f"{escape(ERRORS.get(one.error_code, ''))} <bdi class=mono>{one.payment_id}</bdi></li>"
        for one in invoice.attempts
    )
    refunds = "".join(_refund(server, refund) for refund in server.book.refunds_of(invoice))
    pay = f'<a class="button" href="{escape(invoice.url)}">Payment page</a>' if _payable(state, invoice) else ""
    cancel = '<button name="do" value="cancel">Cancel the invoice</button>' if invoice.status == PENDING else ""
    told = [one for one in server.webhooks.log if one.invoice is invoice]
    name = escape(invoice.text("CustomerName") or "Anonymous")
    posted = f"{len(told)} events, last: {told[-1].status}" if told else "nothing told yet"
    return f"""<article class="card" id="i{invoice.id}">
<div class="top"><h2><bdi>{commas(invoice.value)} KWD</bdi> · {GATEWAY[invoice.method]}</h2>
<span class="state {state}">{state}</span></div>
<p dir="auto">{escape(invoice.item())}</p>
<p class="note">Invoice <bdi class="mono">{invoice.id}</bdi>
· order <bdi class="mono">{escape(_reference(invoice))}</bdi> · <bdi>{name}</bdi>
· made {_time(invoice.at)}, until
{_time(invoice.expires_at)} Kuwait · webhooks: {posted}</p>
<ul>{attempts}</ul>
{f"<ul>{refunds}</ul>" if refunds else ""}
<form method="post" class="row"><input type="hidden" name="invoice" value="{invoice.id}">
{pay}<button name="do" value="tell">Send the webhook again</button>{cancel}</form>
</article>"""


def _payable(state: str, invoice: Invoice) -> bool:
    return state == PENDING and invoice.method != "direct"


def _reference(invoice: Invoice) -> str:
    return invoice.text("CustomerReference") or "–"


def _refund(server: MyFatoorah, refund: Refund) -> str:
    buttons = ""
    if refund.status == REFUND_PENDING:
        buttons = (
            '<button class="first" name="do" value="refunded">Refund</button>'
            '<button class="bad" name="do" value="canceled">Cancel the refund</button>'
        )
    return (
        f'<li><form method="post" class="row" action="{server.prefix}/"><input type="hidden" name="refund" '
        f'value="{refund.id}"><span>Refund of <bdi>{commas(refund.amount)} KWD</bdi> '
        f'<span class="state {refund.status}">{refund.status}</span></span>{buttons}</form></li>'
    )


def _time(instant: float) -> str:
    return f"<bdi>{times.local(instant)[:16].replace('T', ' ')}</bdi>"
