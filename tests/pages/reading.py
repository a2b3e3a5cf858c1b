"""Reads a page as its visitor does: words, forms, attributes. Nothing of the product's own is used for it."""

import re
from html.parser import HTMLParser

VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "use"}
UNREAD = {"code", "script", "style", "bdi", "option"}
ISOLATED = re.compile("\u2068[^\u2069]*\u2069|\u2066[^\u2069]*\u2069")


class Page(HTMLParser):
    """`words`: text and read-out attributes, without code, isolated runs and what is marked as another language."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.title = ""
        self.forms: list[list[tuple[str, dict[str, str]]]] = []
        self.unclosed: list[str] = []
        self._stack: list[tuple[str, bool]] = []
        self._form_methods: list[str] = []
        self._in_form = False
        self.feed(html)
        self.unclosed = [tag for tag, _ in self._stack]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.elements.append((tag, attributes))
        foreign = "lang" in attributes and tag != "html"
        unread = (
            foreign
            or tag in UNREAD
            or attributes.get("translate") == "no"
            or (bool(self._stack) and self._stack[-1][1])
        )
        if tag not in VOID:
            self._stack.append((tag, unread))
        if not unread:
            names = ("title", "alt", "placeholder", "aria-label", "data-column", "data-done", "data-failed")
            self.words += [attributes[name] for name in names if attributes.get(name)]
            if tag == "meta" and attributes.get("name") == "description":
                self.words.append(attributes["content"])
        if tag == "form":
            self.forms.append([(tag, attributes)])
            self._in_form = True
        elif self._in_form:
            self.forms[-1].append((tag, attributes))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._in_form = False
        if tag in VOID:
            return
        if not self._stack or self._stack[-1][0] != tag:
            raise AssertionError(
                f"</{tag}> closes {self._stack[-1][0] if self._stack else 'nothing'}, at {self.getpos()}"
            )
        self._stack.pop()

    def handle_data(self, data: str) -> None:
        if self._stack and self._stack[-1][0] == "title":
            self.title = data
        if data.strip() and self._stack and not self._stack[-1][1]:
            self.words.append(data.strip())

    @property
    def text(self) -> str:
        return ISOLATED.sub("", "\n".join(self.words))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]
