"""What goes wrong between the portal and MyFatoorah: at which endpoint, how often, before or after the deed."""

import http.client
from typing import Any

import pytest

from sandbox.process import SandboxError, SandboxProcess
from tests.sandbox.myfatoorah import SERVER, api, data, opened, order
from tests.sandbox.whatsapp import until

ASKED = {"InvoiceAmount": 0, "CurrencyIso": ""}


@pytest.mark.parametrize(("fault", "status", "kind", "holds"), [
    ("400", 400, "json", "Invoice value must be more than 0"),
    ("400_fields", 400, "json", "FieldsErrors"),
    ("200_false", 200, "json", '"IsSuccess":false'),
    ("401_permission", 401, "json", "The token does not have the required permissions!"),
    ("401_token", 401, "json", "The token is not valid or it is expired!"),
    ("401_country", 401, "json", "Exception: You are not Authorized to use API."),
    ("401_empty", 401, "json", ""),
    ("403_html", 403, "html", "Microsoft-Azure-Application-Gateway/v2"),
    ("404_route", 404, "json", "MessageDetail"),
    ("429", 429, "json", "Too many requests"),
    ("500", 500, "json", "An error has occurred."),
    ("502_html", 502, "html", "502 Bad Gateway"),
    ("empty", 200, "json", ""),
    ("html", 200, "html", "<html>"),
    ("json_string", 200, "json", '"The service is not available now'),
    ("no_success", 200, "json", "MessageDetail"),
])  # fmt: skip
def test_every_answer_that_is_none(sandbox: SandboxProcess, fault: str, status: int, kind: str, holds: str) -> None:
    """PAY-01: the table of the fact sheet, section 2."""
    sandbox.control(server=SERVER, fault=fault, times=1)
    reply = api(sandbox, "InitiatePayment", ASKED)
    assert (reply.status, kind in reply.headers["content-type"]) == (status, True)
    text = reply.raw.decode()
    assert holds in text if holds else text == ""
    assert ('"IsSuccess"' in text) == (
        fault in ("400", "400_fields", "200_false", "429") or ("401_" in fault and text != "")
    )
    assert "retry-after" not in reply.headers
    assert data(api(sandbox, "InitiatePayment", ASKED))
    entry = sandbox.requests(server=SERVER)[0]
    assert (entry["fault"], entry["outcome"]) == (fault, "fault")


def test_a_fault_can_be_of_one_endpoint_for_a_number_of_times(sandbox: SandboxProcess) -> None:
    """PAY-04: the status call is limited, the others are not."""
    invoice = opened(sandbox)["InvoiceId"]
    asked = {"Key": str(invoice), "KeyType": "InvoiceId"}
    sandbox.control(server=SERVER, endpoint="GetPaymentStatus", fault="429_retry_after", retry_after_s=7, times=2)
    sandbox.control(server=SERVER, endpoint="InitiatePayment", fault="500")
    replies = [api(sandbox, "GetPaymentStatus", asked) for _ in range(3)]
    assert [(reply.status, reply.headers.get("retry-after")) for reply in replies] == [
        (429, "7"),
        (429, "7"),
        (200, None),
    ]
    assert [api(sandbox, "InitiatePayment", ASKED).status for _ in range(3)] == [500] * 3
    assert opened(sandbox)
    sandbox.next({"fault": "empty"}, {}, {"fault": "403_html"}, server=SERVER)
    assert [api(sandbox, "GetPaymentStatus", asked).status for _ in range(4)] == [200, 200, 403, 200]
    assert len(sandbox.requests(path="/v2/GetPaymentStatus", server=SERVER)) == 7


@pytest.mark.parametrize(("fault", "done"), [
    ("reset_before", 0), ("stall_before", 0), ("reset_after", 1), ("stall_after", 1), ("cut_after", 1),
])  # fmt: skip
def test_silence_and_broken_lines_come_before_the_deed_or_after_it(
    sandbox: SandboxProcess, fault: str, done: int
) -> None:
    """PAY-05: who hears nothing does not know whether it happened."""
    sandbox.control(server=SERVER, endpoint="ExecutePayment", fault=fault, times=1)
    with pytest.raises((OSError, http.client.HTTPException)):
        api(sandbox, "ExecutePayment", order(), timeout=0.15)
    assert len(sandbox.invoices()) == done
    assert opened(sandbox)
    assert sandbox.complaints() == ""


@pytest.mark.parametrize(("fault", "status"), [("500_after", 500), ("502_after", 502), ("empty_after", 200)])
def test_an_error_may_hide_a_deed(sandbox: SandboxProcess, fault: str, status: int) -> None:
    """PAY-05: asking again would do it twice."""
    sandbox.control(server=SERVER, endpoint="ExecutePayment", fault=fault)
    assert api(sandbox, "ExecutePayment", order()).status == status
    assert len(sandbox.invoices()) == 1


def test_a_delay_is_before_the_deed_or_behind_it(sandbox: SandboxProcess) -> None:
    """PAY-01: thirty seconds of silence; who leaves early meanwhile, finds it done or not."""
    for knob, done in (("delay_ms", 0), ("answer_delay_ms", 1)):
        sandbox.reset()
        sandbox.control(server=SERVER, endpoint="ExecutePayment", times=1, **dict[str, Any]({knob: 30_000}))
        with pytest.raises(TimeoutError):
            api(sandbox, "ExecutePayment", order(), timeout=0.1)
        until(lambda: sandbox.requests(server=SERVER)[-1]["outcome"] == "client_left")
        assert len(sandbox.invoices()) == done
        assert opened(sandbox)


@pytest.mark.parametrize(("wish", "word"), [
    ({"fault": "nonsense"}, "fault must be"),
    ({"endpoint": "Nowhere", "fault": "500"}, "endpoint must be one of"),
    ({"endpoint": "MakeRefund", "webhook_version": "v1"}, "cannot be said of one endpoint"),
    ({"webhook_version": "v3"}, "one of v1, v2"),
    ({"method_ids": {"kn": 2, "vm": 2}}, "different ids"),
    ({"charges": {"kn": 0.1}}, "amounts as text"),
    ({"webhook": "https://x.example/"}, "begins with http://"),
    ({"next": [{"fault": "500"}, {"fault": "?"}]}, "fault must be"),
    ({"now": "tomorrow"}, "Invalid isoformat"),
])  # fmt: skip
def test_a_wish_that_means_nothing_is_refused_with_a_sentence(
    sandbox: SandboxProcess, wish: dict[str, Any], word: str
) -> None:
    """OPS-01: a knob without effect proves nothing."""
    before = {**sandbox.state(server=SERVER), "now": 0}
    with pytest.raises(SandboxError, match=word):
        sandbox.control(server=SERVER, **wish)
    assert {**sandbox.state(server=SERVER), "now": 0} == before


def test_a_person_named_by_a_typing_error_is_told(sandbox: SandboxProcess) -> None:
    """OPS-01."""
    for call in (lambda: sandbox.pay(1), lambda: sandbox.settle_refund("x"), lambda: sandbox.send_webhook(invoice=1)):
        with pytest.raises(SandboxError, match="there is no"):
            call()
    invoice = opened(sandbox)["InvoiceId"]
    with pytest.raises(SandboxError, match="outcome is paid or failed"):
        sandbox.pay(invoice, "captured")
    with pytest.raises(SandboxError, match="no webhook address"):
        sandbox.send_webhook(invoice=invoice)
