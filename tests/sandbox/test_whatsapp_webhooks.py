"""What the service posts to its customer's server: events, both vintages, signature, retries, twice."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox.process import SandboxError, SandboxProcess
from tests.sandbox.whatsapp import PHONE, SERVER, Listener, api, delivered, listening, send, until


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.fixture
def told(sandbox: SandboxProcess, listener: Listener) -> Listener:
    """The listener hears of everything."""
    sandbox.control(server=SERVER, webhook=listener.url, deliver_ms=20)
    return listener


def test_every_step_is_told_in_order_with_the_message_as_it_then_was(sandbox: SandboxProcess, told: Listener) -> None:
    """NOTIF-11: receipts by webhook."""
    sandbox.control(server=SERVER, read_ms=20)
    message = send(sandbox, reference="welcome:7").json
    heard = told.wait(4)
    assert told.events() == ["message:out:new", "message:out:sent", "message:out:ack", "message:out:ack"]
    assert [post.json["data"]["deliveryStatus"] for post in heard] == ["queued", "sent", "delivered", "read"]
    for post in heard:
        data = post.json["data"]
        assert (data["id"], data["phone"], data["reference"]) == (message["id"], PHONE, "welcome:7")
        assert post.json["device"]["id"] == message["device"]
        assert post.path == "/hook?token=secret"
        assert "x-wassenger-signature" not in post.headers
    assert len({post.json["id"] for post in heard}) == 4
    until(lambda: sandbox.messages()[0]["webhookStatus"] == "delivered")


def test_the_other_vintage_has_names_and_a_nest_of_its_own(sandbox: SandboxProcess, told: Listener) -> None:
    """NOTIF-11: the sources contradict each other; a client must take both."""
    sandbox.control(server=SERVER, vintage="skills", nested=True, read_ms=0)
    message = send(sandbox).json
    heard = told.wait(4)
    assert told.events()[1:] == ["message:out:sent", "message:out:delivered", "message:out:read"]
    assert heard[2].json["data"].keys() == {"message"}
    assert heard[2].json["data"]["message"]["id"] == message["id"]


@pytest.mark.parametrize("wish", [{"unreachable": [PHONE]}, {"fail_with": "expired"}])
def test_a_failure_tells_its_reason(sandbox: SandboxProcess, told: Listener, wish: dict[str, Any]) -> None:
    """NOTIF-11."""
    sandbox.control(server=SERVER, **wish)
    send(sandbox)
    failed = told.wait(2)[1].json
    assert failed["event"] == "message:out:failed"
    assert failed["data"]["failureReason"] == wish.get("fail_with", "the phone is not registered on WhatsApp")
    assert (failed["data"]["status"], failed["data"]["deliveryStatus"]) == ("failed", "failed")
    assert sandbox.counters(server=SERVER)["failed"] == 1


def test_a_secret_signs_the_raw_body(sandbox: SandboxProcess, told: Listener) -> None:
    """NOTIF-11: X-Wassenger-Signature."""
    sandbox.control(server=SERVER, webhook_secret="s3cret")
    send(sandbox, "مرحباً")
    heard = told.wait(3)
    assert all(post.signed_with("s3cret") and not post.signed_with("other") for post in heard)


def test_an_unanswered_post_is_repeated_with_growing_gaps_and_holds_up_no_other(
    sandbox: SandboxProcess, told: Listener
) -> None:
    """NOTIF-11: the same body each time, so it can be told apart from a new event."""
    sandbox.control(server=SERVER, webhook_gap_ms=20, deliver_ms=None)
    told.statuses[:] = [500, 302, 404, 200]
    send(sandbox)
    heard = told.wait(5)
    refused = [post for post in heard if post.raw == heard[0].raw]
    assert len(refused) == 3, "and the other event two"
    assert refused[1].at - refused[0].at >= 0.02
    assert refused[2].at - refused[1].at >= 0.04
    until(lambda: sandbox.counters(server=SERVER)["webhook_pending"] == 0)
    counters = sandbox.counters(server=SERVER)
    assert (counters["webhook_posts"], counters["webhook_refused"], counters["webhook_given_up"]) == (5, 3, 0)


def test_a_post_is_given_up_at_last(sandbox: SandboxProcess, told: Listener) -> None:
    """NOTIF-11: nobody listens there any more."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        sandbox.control(server=SERVER, webhook=nowhere, webhook_tries=2, webhook_gap_ms=5, deliver_ms=None)
        send(sandbox)
        until(lambda: sandbox.counters(server=SERVER)["webhook_given_up"] == 2)
    posts = api(sandbox, "/__webhooks", base=sandbox.server_url(SERVER)).json
    assert [post["attempt"] for post in posts].count(2) == 2
    assert all(post["status"] is None and "refused" in post["error"] for post in posts)
    assert sandbox.messages()[0]["webhookStatus"] == "failed"
    assert told.heard == []


def test_a_server_that_never_answers_is_left_alone_after_a_while(sandbox: SandboxProcess) -> None:
    """NOTIF-11: and the sandbox goes on answering meanwhile."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        sandbox.control(server=SERVER, webhook=url, webhook_timeout_ms=30, webhook_tries=1)
        send(sandbox)
        delivered(sandbox)
        until(lambda: sandbox.counters(server=SERVER)["webhook_given_up"] == 3)


def test_every_post_can_come_twice(sandbox: SandboxProcess, told: Listener) -> None:
    """NOTIF-11: the same event id and body; told twice is no second receipt."""
    sandbox.control(server=SERVER, webhook_twice=True)
    send(sandbox)
    heard = told.wait(6)
    assert [post.raw for post in heard[::2]] == [post.raw for post in heard[1::2]]
    assert len({post.json["id"] for post in heard}) == 3


def test_webhooks_are_registered_listed_and_forgotten(sandbox: SandboxProcess, listener: Listener) -> None:
    """NOTIF-11: only the events that were asked for."""
    wanted = {"name": "portal", "url": listener.url, "events": ["message:out:ack", "message:out:failed"]}
    for wrong, path in (
        ({"name": ""}, "name"), ({"url": "ftp://x"}, "url"), ({"events": []}, "events"), ({"events": ["x"]}, "events"),
    ):  # fmt: skip
        reply = api(sandbox, "/webhooks", {**wanted, **wrong})
        assert (reply.status, reply.json["errors"][0]["path"]) == (400, path)
    made = api(sandbox, "/webhooks", wanted)
    assert made.status == 201
    assert [row["url"] for row in api(sandbox, "/webhooks").json] == [listener.url]
    send(sandbox)
    listener.wait(1)
    assert listener.events() == ["message:out:ack"]
    assert api(sandbox, f"/webhooks/{made.json['id']}", method="DELETE").status == 200
    assert api(sandbox, f"/webhooks/{made.json['id']}", method="DELETE").status == 404
    assert api(sandbox, "/webhooks").json == []
    send(sandbox)
    delivered(sandbox, count=2)
    assert sandbox.counters(server=SERVER)["webhook_posts"] == 1


def test_a_webhook_of_the_command_line_is_there_from_the_start_and_after_a_reset(listener: Listener) -> None:
    """OPS-01: as `make run` starts it."""
    with SandboxProcess(whatsapp_webhook=listener.url) as sandbox:
        sandbox.control(server=SERVER, webhook=None)
        assert api(sandbox, "/webhooks").json == []
        sandbox.reset()
        send(sandbox)
        assert listener.wait(3)[0].event == "message:out:new"
    with pytest.raises(SandboxError, match="is no address that begins with http://"):
        SandboxProcess(whatsapp_webhook="portal").start()
