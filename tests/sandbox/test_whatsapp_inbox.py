"""The page of the customers' phones: what a person sees who tries the product."""

import re
import time
from urllib.parse import quote

import pytest

from sandbox.process import SandboxProcess
from sandbox.whatsapp.bubbles import lone_code, paragraphs, preview
from tests.sandbox.whatsapp import PHONE, SERVER, api, delivered, send

OTHER = "+96550000002"


def page(sandbox: SandboxProcess, query: str = "") -> str:
    reply = api(sandbox, f"/{query}", token=None, base=sandbox.server_url(SERVER))
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    return reply.raw.decode()


def test_the_page_lists_phones_and_opens_a_chat_without_a_script(sandbox: SandboxProcess) -> None:
    """NOTIF-11: newest phone on top, newest message at the bottom, fetched anew by itself."""
    assert "No message yet" in page(sandbox)
    send(sandbox, "first to one")
    send(sandbox, "to the other", OTHER)
    send(sandbox, "second to one")
    listed = page(sandbox)
    assert re.findall(r'class="who">(\S+?)</bdi>', listed) == [PHONE, OTHER]
    assert listed.index("second to one") < listed.index("to the other")
    assert "first to one" not in listed
    for phone in (quote(PHONE), PHONE, PHONE[1:]):
        chat = page(sandbox, f"?phone={phone}")
        assert chat.index('dir="auto">first to one</p>') < chat.index('dir="auto">second to one</p>')
        assert 'dir="auto">to the other</p>' not in chat
        assert '<meta http-equiv="refresh" content="3">' in chat
        assert "<script" not in chat
    assert "Nothing has been sent" in page(sandbox, "?phone=+96599999999")
    assert len(sandbox.requests(server=SERVER)) == 3, "an open page does not fill the journal"


def test_what_a_message_says_is_never_markup(sandbox: SandboxProcess) -> None:
    """NOTIF-11: names come from strangers."""
    send(sandbox, '<script>alert(1)</script> *<img src=x onerror="x">* https://x.y/"onmouseover="x')
    for shown in (page(sandbox), page(sandbox, f"?phone={quote(PHONE)}"), page(sandbox, "?phone=%3Cscript%3E1")):
        assert "<script" not in shown
        assert "<img" not in shown
        assert 'onmouseover="x' not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page(sandbox, f"?phone={quote(PHONE)}")


def test_the_ticks_tell_how_far_a_message_came(sandbox: SandboxProcess) -> None:
    """NOTIF-11: each icon has a word."""
    sandbox.next({"deliver_ms": None}, {"deliver_ms": 0}, {"deliver_ms": 0, "read_ms": 0}, server=SERVER)
    for text in ("one", "two", "three"):
        send(sandbox, text)
    delivered(sandbox, "read")
    sandbox.next({"fail_with": "expired"}, server=SERVER)
    send(sandbox, "four")
    delivered(sandbox, "failed")
    sandbox.control(server=SERVER, session="offline")
    send(sandbox, "five")
    chat = page(sandbox, f"?phone={quote(PHONE)}")
    words = re.findall(r'class="tick"[^>]* aria-label="([^"]*)"', chat)
    assert words == ["sent", "delivered", "read", "failed: expired", "waiting to be sent"]
    assert "sending number offline" in chat
    sent_at = sandbox.messages()[0]["at"]
    there = time.strftime("%Y-%m-%dT%H:%M:%S+03:00", time.gmtime(sent_at + 3 * 3600))
    assert f'datetime="{there}"' in chat, "the hour in Kuwait, whatever the machine's zone"


def test_the_code_of_the_newest_message_is_shown_large(sandbox: SandboxProcess) -> None:
    """AUTH-04: who tries to register finds it at a glance; an old one is not shown."""
    send(sandbox, "رمز التحقق: *482913*\n\nYour code: *482913*")
    assert "<output>482913</output>" in page(sandbox, f"?phone={quote(PHONE)}")
    send(sandbox, "Welcome")
    assert "<output>" not in page(sandbox, f"?phone={quote(PHONE)}")


@pytest.mark.parametrize(("text", "code"), [
    ("رمزك:123456.", "123456"), ("*123456*", "123456"), ("_123456_", "123456"), ("123456\n123456", "123456"),
    ("+123456", None), ("1234567", None), ("123456 654321", None), ("https://x/123456", None), ("100,000", None),
    ("100000.500 KWD", None), ("inv-2026-123456", None),
])  # fmt: skip
def test_a_code_is_six_digits_that_stand_alone(text: str, code: str | None) -> None:
    """AUTH-04."""
    assert lone_code(text) == code


@pytest.mark.parametrize(("text", "html"), [
    ("*a* b* c *d e* f*g*h 2*3", "<strong>a</strong> b* c <strong>d e</strong> f*g*h 2*3"),
    ("_*both*_ ~no~ ```x_y_z``` a_b_c", "<em><strong>both</strong></em> <s>no</s> <code>x_y_z</code> a_b_c"),
    ("one\ntwo\n\nثلاثة", 'one<br>two</p><p dir="auto">ثلاثة'),
    ("*not\nacross*", "*not<br>across*"),
    ("5 < 6 & \"x\" 'y'", "5 &lt; 6 &amp; &quot;x&quot; &#x27;y&#x27;"),
])  # fmt: skip
def test_marks_and_lines_are_drawn_as_on_the_phone(text: str, html: str) -> None:
    """NOTIF-11."""
    assert paragraphs(text) == f'<p dir="auto">{html}</p>'


@pytest.mark.parametrize(("text", "url"), [
    ("Pay: https://x.y/a_b_?c=1&d=_2_.", "https://x.y/a_b_?c=1&amp;d=_2_"),
    ("افتح https://x.y/a، ثم", "https://x.y/a"), ("(http://x.y/a)", "http://x.y/a"), ("*https://x.y/a*", "https://x.y/a"),
    ("http://127.0.0.1:8000/t/-_", "http://127.0.0.1:8000/t/-_"),
])  # fmt: skip
def test_links_can_be_followed_as_they_were_sent(text: str, url: str) -> None:
    """NOTIF-04: the top-up link, underscores and all; javascript: is none."""
    assert re.findall(r'<a href="([^"]*)"', paragraphs(text)) == [url]
    assert "<a" not in paragraphs("javascript:alert(1) data:text/html,x")
    assert preview("\n*Layla*, _hello_ a_b\nmore") == "Layla, hello a_b"
