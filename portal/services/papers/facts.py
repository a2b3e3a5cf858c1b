"""A paper's content as people read it: every word in both languages, side by side, for the page and for the PDF.

Papers are bilingual whoever reads them, so their words are not the catalogue's. Digits are Latin, instants Kuwait's.
"""

import datetime as dt
from typing import Any, Final, NamedTuple

from portal import clock, money
from portal.models import Paper


class Both(NamedTuple):
    """The same in Arabic and in English."""

    ar: str
    en: str

    @property
    def is_one(self) -> bool:
        """Whether it is written alike in both."""
        return self.ar == self.en


class Fact(NamedTuple):
    label: Both
    value: Both


class Section(NamedTuple):
    title: Both
    facts: tuple[Fact, ...]


class Line(NamedTuple):
    """What was bought."""

    name: Both
    credits: str
    days: str
    amount: str


class Sheet(NamedTuple):
    """A whole paper. seller: name, address; seller_facts: what else is told of it. totals: the last one is the sum."""

    title: Both
    number: str
    seller: tuple[Both, Both]
    seller_facts: tuple[Fact, ...]
    sections: tuple[Section, ...]
    lines_title: Both
    columns: tuple[Both, Both, Both, Both]
    lines: tuple[Line, ...]
    totals: tuple[Fact, ...]
    ends: tuple[Section, ...]


TITLES: Final = {
    ("receipt", False): Both("إيصال", "Receipt"),
    ("receipt", True): Both("فاتورة ضريبية وإيصال", "Tax invoice and receipt"),
    ("credit_note", False): Both("إشعار دائن", "Credit note"),
    ("credit_note", True): Both("إشعار دائن ضريبي", "Tax credit note"),
}
ITEMS: Final = {"plan": Both("باقة {}", "Plan: {}"), "pack": Both("رصيد: {}", "Credit pack: {}")}
COLUMNS: Final = (
    Both("البند", "Item"),
    Both("الوحدات", "Credits"),
    Both("الأيام", "Days"),
    Both("السعر (د.ك)", "Price (KWD)"),
)


def of(paper: Paper) -> Sheet:
    """The paper to be shown. Everything is from its content: nothing is looked up."""
    told: dict[str, Any] = paper.content
    seller = told["seller"]
    return Sheet(
        TITLES[paper.kind, told["tax"] is not None],
        paper.number,
        (Both(**seller["name"]), Both(**seller["address"])),
        _facts(
            (Both("السجل التجاري", "Commercial registration"), seller["registration"]),
            (Both("الرقم الضريبي", "VAT number"), seller["vat_number"]),
            (Both("الهاتف", "Telephone"), seller["phone"]),
            (Both("البريد الإلكتروني", "E-mail"), seller["email"]),
        ),
        (_about(paper, told), _buyer(told)),
        Both("المشتريات", "Purchase"),
        COLUMNS,
        tuple(_line(line) for line in told["lines"]),
        _totals(paper, told),
        (*([_refund(told)] if "refund" in told else []), _payment(told)),
    )


def written(instant: str) -> str:
    """`2026-11-21 14:05`, in Kuwait. instant: ISO 8601; empty stays empty."""
    return f"{dt.datetime.fromisoformat(instant).astimezone(clock.KUWAIT):%Y-%m-%d %H:%M}" if instant else ""


def amount(fils: int) -> Both:
    """With the currency's name in either language."""
    return Both(f"{money.dinars(fils)} د.ك", f"{money.dinars(fils)} KWD")


def credits(milli: int) -> str:
    """`60,000` or `0.057`."""
    return money.credits(milli).rstrip("0").rstrip(".")


def _facts(*pairs: tuple[Both, str | Both]) -> tuple[Fact, ...]:
    """What is empty is left out."""
    every = ((label, value if isinstance(value, Both) else Both(value, value)) for label, value in pairs)
    return tuple(Fact(label, value) for label, value in every if value.en)


def _about(paper: Paper, told: dict[str, Any]) -> Section:
    corrects = told.get("corrects", {"number": "", "issued_at": ""})
    return Section(
        Both("المستند", "Document"),
        _facts(
            (Both("الرقم", "Number"), paper.number),
            (Both("صدر في (بتوقيت الكويت)", "Issued (Kuwait time)"), written(told["issued_at"])),
            (Both("يصحّح الإيصال", "Corrects receipt"), corrects["number"]),
            (Both("إيصال صادر في", "Receipt issued"), written(corrects["issued_at"])),
        ),
    )


def _buyer(told: dict[str, Any]) -> Section:
    buyer = told["buyer"]
    return Section(
        Both("العميل", "Customer"),
        _facts(
            (Both("الاسم", "Name"), buyer["name"]),
            (Both("البريد الإلكتروني", "E-mail"), buyer["email"]),
            (Both("رقم الحساب", "Account"), buyer["account"]),
        ),
    )


def _line(line: dict[str, Any]) -> Line:
    item, name = ITEMS[line["kind"]], line["name"]
    days = str(line["days"]) if line["days"] else "–"
    return Line(
        Both(item.ar.format(name["ar"]), item.en.format(name["en"])),
        credits(line["credits"]),
        days,
        money.dinars(line["amount_fils"]),
    )


def _totals(paper: Paper, told: dict[str, Any]) -> tuple[Fact, ...]:
    tax, sale = told["tax"], paper.kind == "receipt"
    before = []
    if tax is not None:
        before = [
            (Both("قبل الضريبة", "Before VAT"), amount(tax["net_fils"])),
            (Both(f"ضريبة القيمة المضافة {tax['percent']}%", f"VAT {tax['percent']}%"), amount(tax["fils"])),
        ]
    last = Both("المدفوع", "Total paid") if sale else Both("المبلغ المسترد", "Amount given back")
    return _facts(*before, (last, amount(told["amount_fils"])))


def _payment(told: dict[str, Any]) -> Section:
    paid = told["payment"]
    ours = (Both("رقم الدفعة لدينا", "Our payment id"), paid["id"])
    facts = (
        (Both("دُفع في (بتوقيت الكويت)", "Paid (Kuwait time)"), written(paid["paid_at"])),
        (Both("وسيلة الدفع", "Means of payment"), paid["gateway"] or paid["method"]),
        (Both("البطاقة", "Card"), paid["card_number"]),
        (Both("رقم عملية الدفع لدى المزوّد", "Provider's payment id"), paid["provider_payment"]),
        (Both("رقم الفاتورة لدى المزوّد", "Provider's invoice id"), paid["invoice"]),
        ours,
    )
    # A credit note has its receipt's number: what else is known of the payment stands there.
    return Section(Both("الدفع", "Payment"), _facts(*((facts[0], ours) if "refund" in told else facts)))


def _refund(told: dict[str, Any]) -> Section:
    refund = told["refund"]
    return Section(
        Both("الاسترداد", "Refund"),
        _facts(
            (Both("الوحدات المسحوبة", "Credits taken back"), credits(refund["credits_taken"])),
            (Both("السبب", "Reason"), refund["reason"]),
            (Both("رقم الاسترداد لدى المزوّد", "Provider's refund id"), refund["provider_refund"]),
            (Both("رقم الاسترداد لدينا", "Our refund id"), refund["id"]),
        ),
    )
