"""A message's text as a phone draws it: WhatsApp's marks, links, paragraphs of either direction, a code in large.

Everything is escaped here and nowhere else; the rest of the page takes what this file gives as HTML.
"""

from __future__ import annotations

import re
from html import escape

_LINK = re.compile(r"https?://[^\s<>\"]+", re.IGNORECASE)
_TRAILING = ".,;:!?]}'،؛؟»"
# As on the phone: the marks stand at the edges of words, what is between them neither begins nor ends with a space.
_MARKS = tuple(
    (re.compile(rf"(?<![^\W_]){re.escape(mark)}(?=\S)([^\n{re.escape(mark[0])}]*?\S){re.escape(mark)}(?![^\W_])"), tag)
    for mark, tag in (("```", "code"), ("*", "strong"), ("_", "em"), ("~", "s"))
)
_CODE = re.compile(r"(?<![^\W_])(?<![0-9][.,/:-])(?<![+#])[0-9]{6}(?![^\W_])(?![.,/:-][0-9])")
# Where a link was while the marks are looked for: an address full of underscores is not in italics.
_HELD = re.compile("\ue000([0-9]+)\ue001")


def paragraphs(text: str) -> str:
    """The text as `<p dir="auto">`, one a paragraph: an Arabic one runs right to left, an English one does not."""
    parts = re.split(r"\n\s*\n", text.replace("\r\n", "\n").strip("\n"))
    return "".join(f'<p dir="auto">{_drawn(part)}</p>' for part in parts)


def _drawn(text: str) -> str:
    links: list[str] = []
    text = text.replace("\ue000", "").replace("\ue001", "")

    def hold(match: re.Match[str]) -> str:
        before, url = text[: match.start()][-1:], match.group().rstrip(_TRAILING)
        if before in ("*", "_", "~", "("):  # what was opened before the address is closed after it
            url = url.rstrip(before if before != "(" else ")")
        links.append(_link(url))
        return f"\ue000{len(links) - 1}\ue001{match.group()[len(url) :]}"

    html = escape(_LINK.sub(hold, text))
    for pattern, tag in _MARKS:
        html = pattern.sub(rf"<{tag}>\1</{tag}>", html)
    return _HELD.sub(lambda held: links[int(held.group(1))], html).replace("\n", "<br>")


def _link(url: str) -> str:
    safe = escape(url)
    return f'<a href="{safe}" target="_blank" rel="noopener noreferrer">{safe}</a>'


def preview(text: str) -> str:
    """The first line that says something, without marks, for the list of phones."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return escape(re.sub(r"(?<![^\W_])[*_~]|[*_~](?![^\W_])", "", line)[:90])


def lone_code(text: str) -> str | None:
    """The six digits of a one-time code, when the text holds one and no second; addresses and amounts do not count."""
    found = set(_CODE.findall(_LINK.sub(" ", text)))
    return found.pop() if len(found) == 1 else None
