"""E-mail: Arabic arrives as it was written, nothing can be injected, and each fault is read as what it is."""

import datetime as dt
import email.utils
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from portal.providers.messaging import MessagingError, Sent, smtp
from portal.providers.messaging.smtp import SmtpMail
from tests.messaging.certificate import self_signed
from tests.messaging.mail_server import CUT, STALL, MailServer
from tests.services.environment import NOWHERE

TO = "customer@example.com"
SENDER = "no-reply@portal.example"
REFERENCE = "0197f0c2b7d37e95a08c4a1b2c3d4e5f"
SUBJECT = "تم تأكيد شحن الرصيد وإضافة الوحدات إلى حسابك لدى LLM Portal، ويمكنك الآن متابعة استخدام الخدمة دون انقطاع"
TEXT = "مرحباً،\n.سطر يبدأ بنقطة\n.\nرصيدك الآن ⁦15,000⁩ وحدة.\n\n— — —\n\nFrom now on: 15,000 credits.\n" + "كلمة " * 300
PASSWORD = ("portal@example.com", "p@ss:w/rd %")


def post(server: MailServer, *, host: str = "127.0.0.1", user: tuple[str, str] | None = None, scheme: str = "smtp",
         to: str = TO, subject: str = SUBJECT, text: str = TEXT, reference: str = REFERENCE) -> Sent:  # fmt: skip
    sign_in = f"{quote(user[0], '')}:{quote(user[1], '')}@" if user else ""
    return SmtpMail(f"{scheme}://{sign_in}{host}:{server.port}", SENDER).send(to, subject, text, reference)


def fault_of(server: MailServer, **how: object) -> MessagingError:
    with pytest.raises(MessagingError) as caught:
        post(server, **how)  # type: ignore[arg-type]
    return caught.value


def test_arabic_arrives_as_it_was_written() -> None:
    """NOTIF-20: subject and text, through a relay that carries seven bits alone."""
    with MailServer(extensions=()).running() as server:
        assert post(server) == Sent("")
    mail = server.mail()
    assert mail["Subject"] == SUBJECT
    assert mail.get_content().replace("\r\n", "\n") == TEXT + "\n"
    assert mail.get_content_type() == "text/plain"
    assert (mail["From"], mail["To"]) == (f"LLM Portal <{SENDER}>", TO)
    assert mail["Message-ID"] == f"<{REFERENCE}@portal.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert abs(email.utils.parsedate_to_datetime(mail["Date"]) - dt.datetime.now(dt.UTC)) < dt.timedelta(minutes=1)
    assert max(len(line) for line in server.mails[0].split(b"\r\n")) <= 78
    assert b"\n" not in server.mails[0].replace(b"\r\n", b"")
    assert server.commands[0] == "ehlo portal.example"
    assert server.commands[1:3] == [f"mail FROM:<{SENDER}>", f"rcpt TO:<{TO}>"]


@pytest.mark.parametrize("subject", [
    "Hello\r\nBcc: all@example.com", "Hello\nBcc: all@example.com", "a\u2028b\x00\x85c", "", "\ud800 half a letter",
])  # fmt: skip
def test_a_subject_stays_one_line(subject: str) -> None:
    """OPS-03: staff write subjects, and facts in them come from customers."""
    with MailServer().running() as server:
        post(server, subject=subject, text=subject or "x")
    mail = server.mail()
    assert mail["Bcc"] is None
    assert len(mail.keys()) == len(set(mail.keys())) == 9
    assert server.commands.count(f"rcpt TO:<{TO}>") == 1


@pytest.mark.parametrize("to", [
    "", "nobody", "a@b@c.example", "a@example.com, b@example.com", "a@example.com\r\nRCPT TO:<b@example.com>",
    "<a@example.com>", "a b@example.com", "a@example.com\nBcc: b@example.com", "a@example.com SIZE=1", "@example.com",
])  # fmt: skip
def test_what_is_no_single_address_is_refused_before_any_call(to: str) -> None:
    """OPS-03: a comma would be a second reader."""
    with MailServer().running() as server:
        fault = fault_of(server, to=to)
    assert (fault.permanent, fault.in_doubt) == (True, False)
    assert server.commands == []


def test_addresses_in_other_letters() -> None:
    """NOTIF-20: a domain travels in ASCII; the rest of an address only where the server can carry it."""
    with MailServer().running() as server:
        post(server, to="customer@موقع.example")
        fault = fault_of(server, to="عميل@example.com")
        assert (fault.permanent, "such letters" in fault.reason) == (True, True)
    assert server.mail()["To"] == "customer@xn--4gbrim.example"
    with MailServer(extensions=("8BITMIME", "SMTPUTF8")).running() as server:
        post(server, to="عميل@example.com")
    assert "rcpt TO:<عميل@example.com>" in server.commands
    assert server.mail()["To"] == "عميل@example.com"


# --- sign-in and TLS ----------------------------------------------------------------------------------------------


def test_a_password_is_url_encoded_and_goes_to_our_own_machine_without_tls() -> None:
    """SMTP_URL."""
    with MailServer(password=PASSWORD).running() as server:
        post(server, user=PASSWORD)
        assert len(server.mails) == 1
        fault = fault_of(server, user=("portal@example.com", "wrong"))
    assert (fault.permanent, fault.in_doubt) == (False, False)
    assert fault.reason == "the mail server refuses our password (status 535)"


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost"])
def test_a_password_crosses_no_network_without_tls(host: str) -> None:
    """OPS-03. 0.0.0.0 is this machine too, and nothing says so in the name: as good as a stranger's."""
    with MailServer(password=PASSWORD).running() as server:
        if host == "localhost":
            post(server, host=host, user=PASSWORD)
            return
        fault = fault_of(server, host=host, user=PASSWORD)
        assert fault.reason == "the mail server offers no TLS: it does not get our password"
        post(server, host=host)  # without a password there is nothing to protect but the text
    assert not [command for command in server.commands if command.startswith("AUTH")]


def test_tls_is_used_where_it_is_offered(tmp_path: Path) -> None:
    """OPS-03: also on this machine, whose certificate names nobody."""
    with MailServer(tls=self_signed(tmp_path), password=PASSWORD).running() as server:
        post(server, user=PASSWORD)
    assert server.encrypted
    assert server.commands[1:3] == ["STARTTLS", "ehlo portal.example"]
    with MailServer(tls=self_signed(tmp_path), password=PASSWORD, wrapped=True).running() as server:
        post(server, user=PASSWORD, scheme="smtps")
    assert len(server.mails) == 1


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_stranger_who_says_that_he_is_the_mail_server_gets_nothing(tmp_path: Path, wrapped: bool) -> None:
    """OPS-03."""
    with MailServer(tls=self_signed(tmp_path), password=PASSWORD, wrapped=wrapped).running() as server:
        fault = fault_of(server, host="0.0.0.0", user=PASSWORD, scheme="smtps" if wrapped else "smtp")
    assert (fault.permanent, fault.in_doubt) == (False, False)
    assert fault.reason == "the mail server's certificate is not trusted"
    assert not [command for command in server.commands if command.startswith("AUTH")]


def test_tls_that_is_offered_and_refused(tmp_path: Path) -> None:
    """OPS-03: the password stays here; without one the text goes on."""
    server = MailServer(tls=self_signed(tmp_path), password=PASSWORD, answers={"starttls": "454 not now"})
    with server.running():
        fault = fault_of(server, host="0.0.0.0", user=PASSWORD)
        assert fault.reason == "the mail server refuses TLS (status 454): it does not get our password"
        assert (fault.permanent, fault.in_doubt) == (False, False)
        post(server, host="0.0.0.0")
    assert len(server.mails) == 1


# --- faults -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("command", "said", "permanent", "in_doubt"), [
    ("banner", "554 no service", False, False), ("banner", "421 too busy", False, False),
    ("banner", CUT, False, False), ("banner", "SSH-2.0-OpenSSH", False, False), ("banner", STALL, False, False),
    ("ehlo", CUT, False, False),
    ("mail", "550 who are you", False, False), ("mail", "530 sign in first", False, False),
    ("mail", "452 full", False, False), ("mail", CUT, False, False), ("mail", STALL, False, False),
    ("rcpt", "550 5.1.1 no such user", True, False), ("rcpt", "553 bad name", True, False),
    ("rcpt", "501 bad address", True, False), ("rcpt", "554 5.7.1 relay access denied", False, False),
    ("rcpt", "530 sign in first", False, False), ("rcpt", "503 sign in first", False, False),
    ("rcpt", "450 greylisted", False, False), ("rcpt", "421 closing", False, False), ("rcpt", CUT, False, False),
    ("rcpt", "251 forwarded", None, None),
    ("data", "451 not now", False, False), ("data", "554 no", True, False), ("data", "503 what", False, False),
    ("data", CUT, False, False),
    ("text", "550 5.7.1 spam", True, False), ("text", "552 too large", True, False), ("text", "452 full", False, False),
    ("text", "421 closing", False, False), ("text", CUT, False, True), ("text", STALL, False, True),
    ("text", "hm", False, True), ("text", "250 " + "x" * 9000, False, True),
    ("quit", CUT, None, None), ("quit", STALL, None, None),
])  # fmt: skip
def test_each_fault_says_whether_to_try_again_and_whether_it_may_be_out(
    command: str, said: str, permanent: bool | None, in_doubt: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NOTIF-20: final only where this address or this text is refused; in doubt only after the text's last line."""
    monkeypatch.setattr(smtp, "SECONDS", 0.3)
    monkeypatch.setattr(smtp, "CONFIRM_SECONDS", 0.3)
    with MailServer(answers={command: said}).running() as server:
        started = time.monotonic()
        if permanent is None:
            post(server)
        else:
            fault = fault_of(server)
            assert (fault.permanent, fault.in_doubt) == (permanent, in_doubt), fault.reason
        assert time.monotonic() - started < 3
    assert len(server.mails) == (1 if permanent is None or command == "text" else 0)


def test_a_server_that_dawdles_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """NOTIF-11: nine slow answers would outlast the row's lease, and a second worker would send it too."""
    monkeypatch.setattr(smtp, "ALL_SECONDS", 0.3)
    with MailServer(pause=0.2).running() as server:
        fault = fault_of(server)
    assert (fault.reason, fault.permanent, fault.in_doubt) == (
        "the mail server takes too long to answer", False, False
    )  # fmt: skip
    assert server.mails == []


def test_nobody_there_is_a_passing_fault() -> None:
    """NOTIF-20."""
    port = NOWHERE.rpartition(":")[2]
    for url, reason in ((f"smtp://127.0.0.1:{port}", "the mail server can't be reached"),
                        (f"smtps://127.0.0.1:{port}", "the mail server can't be reached"),
                        ("", "there is no mail server (SMTP_URL)")):  # fmt: skip
        with pytest.raises(MessagingError) as caught:
            SmtpMail(url, SENDER).send(TO, SUBJECT, TEXT, REFERENCE)
        assert (caught.value.reason, caught.value.permanent, caught.value.in_doubt) == (reason, False, False)


def test_a_password_that_the_server_can_not_be_told() -> None:
    """SMTP_URL: said in words, not as a crash; nor is a password offered where none is wanted."""
    with MailServer(password=PASSWORD).running() as server:
        assert "signs that SMTP can't carry" in fault_of(server, user=("portal", "كلمة")).reason
    with MailServer().running() as server:
        assert "wants no password" in fault_of(server, user=PASSWORD).reason


@pytest.mark.parametrize(("url", "port"), [
    ("smtp://mail.example", 25), ("smtp://u:p@mail.example", 587), ("smtps://mail.example", 465),
    ("smtp://[::1]:2525", 2525),
])  # fmt: skip
def test_ports(url: str, port: int) -> None:
    """SMTP_URL: the usual ones, where none is named."""
    assert SmtpMail(url, SENDER)._port == port


def test_a_portal_on_a_bare_address_can_send_too() -> None:
    """`make run`: BASE_URL is http://127.0.0.1:8000."""
    with MailServer().running() as server:
        SmtpMail(f"smtp://localhost:{server.port}", "no-reply@127.0.0.1").send(TO, SUBJECT, TEXT, REFERENCE)
    assert server.commands[0] == "ehlo [127.0.0.1]"
    with pytest.raises(ValueError, match="address"):
        SmtpMail("", "no-reply@portal.example\r\nBcc: all@example.com")
