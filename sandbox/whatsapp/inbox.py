"""The page at `/whatsapp/`: the customers' phones, as far as messages go. Plain HTML that fetches itself anew.

For people who try the product with `make run`: the code to type in and the link to pay by are read here. No script.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from sandbox.wire import Exchange

from . import phones
from .book import DELIVERED, FAILED, QUEUED, READ, SENT, Message
from .bubbles import lone_code, paragraphs, preview

if TYPE_CHECKING:
    from .server import WhatsApp

KUWAIT = timezone(timedelta(hours=3), "Asia/Kuwait")  # no summer time since there is a Kuwait
THREADS, BUBBLES = 200, 200
STYLE = (Path(__file__).parent / "inbox.css").read_text(encoding="utf-8")

_ONE_TICK = '<path d="M1.5 5.5 5 9l7.5-8"/>'
_ICONS = {
    QUEUED: '<circle cx="9" cy="5.5" r="4.4"/><path d="M9 3v2.7l1.8 1"/>',
    SENT: _ONE_TICK,
    DELIVERED: _ONE_TICK + '<path d="M8.5 8.6 9 9l7.5-8"/>',
    READ: _ONE_TICK + '<path d="M8.5 8.6 9 9l7.5-8"/>',
    FAILED: '<path d="m5 1.5 8 8m0-8-8 8"/>',
}


def handle(server: WhatsApp, exchange: Exchange) -> None:
    """The list of phones, or with `?phone=` one of them."""
    request = exchange.request
    if request.method not in ("GET", "HEAD"):
        exchange.answer(405, b"405 method not allowed", "text/plain", [("Allow", "GET, HEAD")])
        return
    if request.path == server.prefix:
        exchange.answer(302, b"", "text/plain", [("Location", server.prefix + "/")])
        return
    asked = request.query.get("phone")
    phone = phones.from_query(asked) if asked else None
    body = page(server, phone).encode()
    exchange.answer(200, body, "text/html; charset=utf-8", [("Cache-Control", "no-store")])


def page(server: WhatsApp, phone: str | None) -> str:
    """The whole page; `phone` is the one that is open."""
    title = f"{phone} – WhatsApp" if phone else "WhatsApp – sandbox"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="3">
<meta name="color-scheme" content="dark">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body class="{"one" if phone else "all"}">
{_list(server, phone)}
{_chat(server, phone) if phone else _nothing_open(server)}
</body>
</html>
"""


def _list(server: WhatsApp, open_phone: str | None) -> str:
    threads = server.book.by_phone
    rows: list[str] = []
    for phone, thread in reversed(threads.items()):
        if len(rows) == THREADS:
            rows.append(f'<li class="more">and {len(threads) - THREADS} more phones</li>')
            break
        last = thread[-1]
        here = ' aria-current="page"' if phone == open_phone else ""
        rows.append(
            f'<li><a href="{server.prefix}/?phone={quote(phone)}"{here}>'
            f'<span class="row"><bdi class="who">{phone}</bdi>{_time(last.at, day=True)}</span>'
            f'<span class="row"><span class="said" dir="auto">{preview(last.message)}</span>'
            f'<span class="many">{len(thread)}<span class="unseen"> sent</span></span></span></a></li>'
        )
    count = f"{_counted(len(threads), 'phone')}, {_counted(len(server.book.all), 'message')}"
    return (
        f'<nav aria-label="Phones"><header><h1>WhatsApp</h1><p>{count}{_number(server)}</p></header>'
        f"<ul>{''.join(rows)}</ul></nav>"
    )


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}" + ("" if count == 1 else "s")


def _number(server: WhatsApp) -> str:
    """A word about the sending number when it is not connected."""
    session, waiting = server.board.now.session, server.delivery.waiting()
    if session == "online":
        return ""
    return f' <strong class="warn">sending number {escape(session)}, {waiting} waiting</strong>'


def _nothing_open(server: WhatsApp) -> str:
    if server.book.all:
        said = "<h2>Choose a phone</h2><p>The newest is on top. Nothing here leaves this machine.</p>"
    else:
        said = (
            "<h2>No message yet</h2><p>What the portal sends by WhatsApp arrives here and nowhere else: "
            "welcome, codes, receipts, warnings. Register an account to see the first.</p>"
        )
    return f'<main class="empty">{said}</main>'


def _chat(server: WhatsApp, phone: str) -> str:
    thread = server.book.by_phone.get(phone, [])
    code = lone_code(thread[-1].message) if thread else None
    shown = thread[-BUBBLES:]
    earlier = f'<p class="day">{len(thread) - len(shown)} earlier messages</p>' if len(thread) > len(shown) else ""
    bubbles, day = [earlier], ""
    for message in shown:
        if (its_day := f"{datetime.fromtimestamp(message.at, KUWAIT):%A, %d %B %Y}") != day:
            day = its_day
            bubbles.append(f'<p class="day">{day}</p>')
        bubbles.append(_bubble(message))
    large = f'<p class="code"><span>Code</span> <output>{code}</output></p>' if code else ""
    said = "".join(bubbles) if thread else '<p class="day">Nothing has been sent to this phone.</p>'
    return (
        f'<main><header><a class="back" href="{server.prefix}/">All phones</a><h2><bdi>{phone}</bdi></h2></header>'
        f'{large}<div class="scroll" tabindex="0" role="log" aria-label="Messages">'
        f'<div class="thread">{said}</div></div></main>'
    )


def _bubble(message: Message) -> str:
    state = message.delivery
    word = f"failed: {message.failure_reason}" if state == FAILED else {QUEUED: "waiting to be sent"}.get(state, state)
    note = f'<span class="note">{escape(word)}</span>' if state in (FAILED, QUEUED) else ""
    icon = (
        f'<svg class="tick" viewBox="0 0 18 11" role="img" aria-label="{escape(word)}"><title>{escape(word)}</title>'
        f"{_ICONS[state]}</svg>"
    )
    return (
        f'<article class="bubble {state}">{paragraphs(message.message)}'
        f"<footer>{note}{_time(message.at)}{icon}</footer></article>"
    )


def _time(instant: float, *, day: bool = False) -> str:
    """The hour in Kuwait; with `day` the date in its place when it was not today."""
    there = datetime.fromtimestamp(instant, KUWAIT)
    short = f"{there:%d %b}" if day and there.date() != datetime.now(KUWAIT).date() else f"{there:%H:%M}"
    exact = f"{there:%d %b %Y %H:%M:%S} Kuwait"
    return f'<time datetime="{there.isoformat(timespec="seconds")}" title="{exact}">{short}</time>'
