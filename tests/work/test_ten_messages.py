"""The ten messages of the seed: each caused as a customer or an operator causes it, and read on its telephone."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import sqlalchemy as sa

from portal import money
from portal.models import Pack
from portal.services.notifications import rendering, wording
from sandbox.process import SandboxProcess
from tests.services.databases import Engine
from tests.services.portal_app import CSRF
from tests.services.redis_server import RedisServer
from tests.work.office import HOOK_TOKEN, Arrived, Office, an_office

LAYLA, OMAR, ZAID = "+96551000001", "+96551000002", "+96551000003"
ADMINS = ("+96551000091", "+96551000092")
LANGUAGE = {LAYLA: "ar", OMAR: "en", ZAID: "ar"}
LOCAL, CLOUD = "llama3.2:3b", "qwen3.5:cloud"
CLOUD_LIMIT = 5
SETTINGS = {"SIGNUP_CREDITS": 10, "CLOUD_DAILY_LIMIT": CLOUD_LIMIT, "ADMIN_PHONES": ",".join(ADMINS)}
DAILY = {"daily_summary"}
"""What the clock alone may bring while the test runs."""


@pytest.fixture(params=["sqlite", "mariadb", "postgresql"])
def office(
    request: pytest.FixtureRequest, work_store: RedisServer, work_sandbox: SandboxProcess, tmp_path: Path
) -> Iterator[Office]:
    engine: Engine = request.getfixturevalue(f"{request.param}_engine")
    url = engine.fresh("seeded")
    work_sandbox.reset()
    with an_office(url, work_sandbox, work_store, tmp_path / "office", **SETTINGS) as office:
        office.open_web()
        office.start()
        office.change(sa.update(Pack).where(Pack.id == "pack-5000").values(credits=5 * money.MILLI))
        yield office
    engine.server.drop(url)


@pytest.mark.parametrize("office", ["sqlite"], indirect=True)
def test_the_ten_messages_each_arrive_once_in_both_languages(office: Office) -> None:
    """NOTIF-01 to NOTIF-10, with web, worker, scheduler and carrier as real processes. Nothing comes twice, though
    every sweep and the reminder run again afterwards; the reader's own language stands first; the books are right."""
    office.flask("setting", "set", "quiet_from", "8")  # the hour at which quiet ends: none, whenever this runs
    layla = Customer(office, LAYLA)  # NOTIF-01
    layla.live_from_credit_to_credit()  # NOTIF-03, 04, 05, and 03 again

    omar = Customer(office, OMAR)
    office.flask("subscribe", omar.email, "enterprise", "--reference", "T-1")  # NOTIF-02, NOTIF-10
    for _ in range(CLOUD_LIMIT):  # NOTIF-07, NOTIF-08
        omar.ask(3, model=CLOUD)
    assert omar.refused(3, model=CLOUD) == (503, "cloud_budget_exhausted")

    zaid = Customer(office, ZAID)
    office.flask("subscribe", zaid.email, "basic", "--days", "2", "--reference", "T-2")
    office.look("remind of expiry")  # NOTIF-06
    banned = requests.post(
        f"{layla.url}/webhooks/fail2ban", headers={"Authorization": f"Bearer {HOOK_TOKEN}"}, timeout=10,
        data={"event": "ban", "ip": "203.0.113.7", "jail": "llm-portal", "failures": "5", "bantime": "3600"},
    )  # fmt: skip
    assert banned.status_code == 204  # NOTIF-09

    expected = Counter({
        (LAYLA, "welcome"): 1, (LAYLA, "key_created"): 1, (LAYLA, "credit_low"): 2, (LAYLA, "credit_exhausted"): 1,
        (LAYLA, "topup_confirmed"): 1,
        (OMAR, "welcome"): 1, (OMAR, "key_created"): 1, (OMAR, "subscription_confirmed"): 1,
        (ZAID, "welcome"): 1, (ZAID, "key_created"): 1, (ZAID, "subscription_confirmed"): 1,
        (ZAID, "subscription_expiring"): 1,
        **{(admin, kind): 1 for admin in ADMINS for kind in (
            "cloud_budget_warning", "cloud_budget_exhausted", "address_banned", "enterprise_customer",
        )},
    })  # fmt: skip
    office.until(lambda: told(office) >= expected, 60, f"all of {expected}", hurry=True)

    runs = office.runs("remind of expiry")
    office.look("remind of expiry")
    office.until(lambda: office.runs("remind of expiry") > runs, 20, "another morning", hurry=True)
    office.until(lambda: not office.unfinished(), 20, "an office at rest", hurry=True)
    assert told(office) == expected
    for message in office.arrived():
        assert_bilingual(message)
    assert "The books are right." in office.flask("ledger-check")

    of = {(message.phone, message.kind): message.text for message in office.arrived()}
    assert f"{layla.url}/billing" in of[LAYLA, "credit_exhausted"]
    assert "250,000" in of[OMAR, "subscription_confirmed"]
    assert "Enterprise" in of[OMAR, "subscription_confirmed"]
    assert "203.0.113.7" in of[ADMINS[0], "address_banned"]
    assert omar.email in of[ADMINS[1], "enterprise_customer"]
    assert not office.web or office.web.errors() == []


@pytest.mark.parametrize("office", ["mariadb", "postgresql"], indirect=True)
def test_the_credit_messages_arrive_on_the_other_databases(office: Office) -> None:
    """NOTIF-01, 03, 04, 05: the crossing is seen by a statement of the till that each database has in its own words."""
    layla = Customer(office, LAYLA)
    layla.live_from_credit_to_credit()
    office.until(lambda: not office.unfinished(), 30, "an office at rest", hurry=True)
    assert told(office) == Counter({
        (LAYLA, "welcome"): 1, (LAYLA, "key_created"): 1, (LAYLA, "credit_low"): 2, (LAYLA, "credit_exhausted"): 1,
        (LAYLA, "topup_confirmed"): 1,
    })  # fmt: skip
    for message in office.arrived():
        assert_bilingual(message)
    assert "The books are right." in office.flask("ledger-check")


class Customer:
    """Somebody with a browser and a program: registers by the form, calls the API."""

    def __init__(self, office: Office, phone: str) -> None:
        assert office.web is not None
        self.office, self.url, self.phone = office, office.web.url, phone
        self.email = f"c{phone[-2:]}@example.com"
        with requests.Session() as browser:
            page = browser.get(f"{self.url}/register?lang={LANGUAGE[phone]}", timeout=10).text
            token = CSRF.search(page)
            assert token is not None
            form = {
                "csrf_token": token[1], "email": self.email, "country": "KW", "phone": phone.removeprefix("+965"),
                "password": "saffron-tide-lamp", "name": "Layla",
            }  # fmt: skip
            answer = browser.post(f"{self.url}/register", data=form, timeout=10, allow_redirects=False)
            assert answer.status_code in (302, 303), answer.text
        key = re.search(r"rsk_\w+", office.flask("create-key", self.email))
        assert key is not None
        self._program = requests.Session()
        self._program.headers["Authorization"] = f"Bearer {key[0]}"

    def live_from_credit_to_credit(self) -> None:
        """Down to 20 %, down to nothing, refused, topped up, and down to 20 % again; each is told before the next."""
        self.spend(2_000, of=10_000)
        self.hears("credit_low")
        self.spend(999, of=2_000)
        self.hears("credit_exhausted")
        assert self.refused(4000) == (402, "insufficient_credits")
        self.office.flask("topup", self.email, "pack-5000", "--reference", "transfer-1")
        self.hears("topup_confirmed")
        balance = self.ask(1)
        self.spend(balance // 5, of=balance)
        self.hears("credit_low", 2)

    def spend(self, until: int, *, of: int) -> None:
        """Ask until at most so many milli-credits are left of those."""
        left = of
        while left > until:
            left = self.ask(max(1, min(4000, left - until)))

    def ask(self, tokens: int, *, model: str = LOCAL) -> int:
        """A question whose answer has so many tokens. Returns what is left, in milli-credits."""
        answer = self._post(tokens, model)
        assert answer.status_code == 200, answer.text
        return round(float(answer.headers["x-portal-balance"].replace(",", "")) * money.MILLI)

    def refused(self, tokens: int, *, model: str = LOCAL) -> tuple[int, str]:
        answer = self._post(tokens, model)
        return answer.status_code, answer.json()["error"]["code"]

    def hears(self, kind: str, times: int = 1) -> None:
        self.office.until(
            lambda: told(self.office)[self.phone, kind] >= times, 30, f"{kind} on {self.phone}", hurry=True
        )

    def _post(self, tokens: int, model: str) -> requests.Response:
        server = "ollama-cloud" if model == CLOUD else "ollama"
        self.office.sandbox.control(server=server, tokens=tokens)
        body = {"model": model, "messages": [{"role": "user", "content": "?"}], "max_tokens": tokens}
        return self._program.post(f"{self.url}/v1/chat/completions", json=body, timeout=30)


def told(office: Office) -> Counter[tuple[str, str]]:
    """Who got which message how often."""
    return Counter((m.phone, m.kind) for m in office.arrived() if m.kind not in DAILY)


def assert_bilingual(message: Arrived) -> None:
    """Both languages in one text, the reader's own first, each under its own title, and nothing left unfilled."""
    own = LANGUAGE.get(message.phone, "ar")
    words = wording.TEXTS[message.kind]
    parts = message.text.split(rendering.PARTED)
    assert len(parts) == 2
    for part, language in zip(parts, rendering.reading_order(own), strict=True):
        title = rendering.PLACEHOLDER.split(words[language].title)[0].strip()
        assert title
        assert part.startswith(f"*{title}"), (message.kind, language)
        assert bool(re.search(r"[\u0621-\u064a]{3}", part)) == (language == "ar")
    assert not rendering.PLACEHOLDER.search(message.text)
