"""The page a customer pays on and the list where staff decide, as a browser without a script meets them."""

import re
from html import unescape

import pytest

from sandbox.process import SandboxProcess
from tests.sandbox.client import Reply
from tests.sandbox.myfatoorah import CALLBACK, FAILURE, SERVER, api, data, opened, press, request, status
from tests.sandbox.whatsapp import listening

EVIL = "<script>alert(1)</script>\"'&"


def text(reply: Reply, code: int = 200) -> str:
    assert reply.status == code
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    page = reply.raw.decode()
    assert "<script" not in page
    return page


def test_the_page_shows_what_is_paid_in_the_orders_language(sandbox: SandboxProcess) -> None:
    """PAY-01: KNET has no cards to keep."""
    arabic = text(request("GET", opened(sandbox)["PaymentURL"]))
    assert '<html lang="ar" dir="rtl">' in arabic
    assert "باقة 2,500 وحدة" in arabic
    assert "2.500 د.ك" in arabic
    assert "كي نت" in arabic
    assert 'name="keep"' not in arabic
    item = [{"ItemName": EVIL, "Quantity": 1, "UnitPrice": 2.5}]
    english = text(request("GET", opened(sandbox, Language="EN", PaymentMethodId=2, InvoiceItems=item)["PaymentURL"]))
    assert '<html lang="en" dir="ltr">' in english
    assert EVIL in unescape(english)
    assert "2.650 KWD" in english, "with the service charge"
    assert 'name="keep"' in english
    assert re.findall(r'<button[^>]* value="(\w+)"', english) == ["pay", "fail", "later", "close"]
    assert "MF004" in english


def test_pay_and_fail_lead_the_browser_back_with_the_payments_id_twice(sandbox: SandboxProcess) -> None:
    """PAY-02: by GET, our own query kept."""
    invoice = opened(sandbox, PaymentMethodId=2)
    page = invoice["PaymentURL"]
    request("GET", page)
    assert status(sandbox, invoice["InvoiceId"])["InvoiceTransactions"][0]["TransactionStatus"] == "InProgress"
    failed = press(page, do="fail", error="MF007")
    assert failed.status == 303
    assert re.fullmatch(rf"{re.escape(FAILURE)}\?paymentId=(\d+)&Id=\1", failed.headers["location"])
    assert "MF007" in text(request("GET", page)), "and can be tried again"
    paid = press(page, do="pay", keep="1")
    assert paid.status == 303
    assert re.fullmatch(rf"{re.escape(CALLBACK)}&paymentId=(\d+)&Id=\1", paid.headers["location"])
    told = status(sandbox, invoice["InvoiceId"])
    assert [one["TransactionStatus"] for one in told["InvoiceTransactions"]] == ["Failed", "Succss"]
    token = told["InvoiceTransactions"][1]["Card"]["Token"]
    assert "مدفوعة" in text(request("GET", page))
    assert press(page, do="pay").status == 409, "a second tab pays nothing"
    again = opened(sandbox, PaymentMethodId=2)
    assert f'value="{token}"' in text(request("GET", again["PaymentURL"]))
    press(again["PaymentURL"], do="pay", card=token)
    assert status(sandbox, again["InvoiceId"])["InvoiceTransactions"][0]["Card"]["Token"] == token
    assert token not in text(request("GET", opened(sandbox, PaymentMethodId=2, UserDefinedField="CK-8")["PaymentURL"]))


@pytest.mark.parametrize("button", ["later", "close"])
def test_later_and_close_do_nothing_and_lead_nowhere(sandbox: SandboxProcess, button: str) -> None:
    """PAY-02: the payer who never comes back; the invoice can still be paid."""
    invoice = opened(sandbox)
    assert "location" not in press(invoice["PaymentURL"], do=button).headers
    assert status(sandbox, invoice["InvoiceId"])["InvoiceStatus"] == "Pending"
    assert press(invoice["PaymentURL"], do="pay").status == 303


def test_a_page_may_keep_the_browser_and_an_invoice_may_be_over(sandbox: SandboxProcess) -> None:
    """PAY-02: paid, and nobody returns; expired, canceled, unknown."""
    sandbox.control(server=SERVER, redirect=False)
    invoice = opened(sandbox, Language="en")
    assert "did not send you back" in text(press(invoice["PaymentURL"], do="pay"))
    assert status(sandbox, invoice["InvoiceId"])["InvoiceStatus"] == "Paid"
    expired, canceled = opened(sandbox, Language="en"), opened(sandbox, Language="en")
    sandbox.expire_invoice(expired["InvoiceId"])
    sandbox.cancel_invoice(canceled["InvoiceId"])
    assert "has expired" in text(request("GET", expired["PaymentURL"]))
    assert "is canceled" in text(press(canceled["PaymentURL"], do="pay"), 409)
    assert "no such invoice" in text(request("GET", re.sub("Key=.", "Key=x", expired["PaymentURL"])), 404)


def test_the_list_pays_late_refunds_cancels_and_tells_again(sandbox: SandboxProcess) -> None:
    """PAY-05: MakeRefund only files a request; here sit those who carry it out."""
    desk = sandbox.myfatoorah_url + "/"
    assert "No invoice yet" in text(request("GET", desk))
    with listening() as portal:
        sandbox.control(server=SERVER, webhook=portal.url, webhook_timing="before")
        first, second = opened(sandbox, CustomerName=EVIL), opened(sandbox)
        shown = text(request("GET", desk))
        assert shown.index(str(second["InvoiceId"])) < shown.index(str(first["InvoiceId"]))
        assert EVIL in unescape(shown)
        assert first["PaymentURL"] in unescape(shown)
        sandbox.pay(first["InvoiceId"])
        for amount in (1, 1.5):
            asked = {"KeyType": "InvoiceId", "Key": str(first["InvoiceId"]), "Amount": amount}
            data(api(sandbox, "MakeRefund", asked))
        one, two = (refund["id"] for refund in sandbox.refunds())
        assert press(desk, do="refunded", refund=str(one)).status == 303
        assert press(desk, do="canceled", refund=str(two)).status == 303
        assert "is Refunded" in text(press(desk, do="canceled", refund=str(one)), 409)
        assert [refund["status"] for refund in sandbox.refunds()] == ["Refunded", "Canceled"]
        assert press(desk, do="cancel", invoice=str(second["InvoiceId"])).status == 303
        assert press(desk, do="tell", invoice=str(first["InvoiceId"])).status == 303
        heard = portal.wait(4)
    codes = [post.json["Event"]["Code"] for post in heard]
    assert codes == [1, 2, 2, 2], "the last event once more"
    assert heard[2].raw == heard[3].raw
    assert [invoice["status"] for invoice in sandbox.invoices()] == ["Paid", "Canceled"]
    assert "nothing at all" not in text(press(desk, do="nothing at all"), 409)
    assert request("GET", sandbox.myfatoorah_url).headers["location"] == "/myfatoorah/"
