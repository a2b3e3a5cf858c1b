"""Where models, WhatsApp and payments of `make run` are: on the sandbox, unless somebody named their own.

Knows settings and addresses only; who starts what is told in `run.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

SANDBOX_PORT = 8090
STAND_INS = ("ollama", "ollama-cloud", "whatsapp", "whatsapp/v1", "myfatoorah")
CLOUD_KEY = WHATSAPP_KEY = PAYMENTS_KEY = "sandbox"
"""What the sandbox's cloud, its WhatsApp and its MyFatoorah account take."""


@dataclass(frozen=True)
class Upstreams:
    """`given`: what was set by the person at the terminal, in the environment or in .env."""

    given: Mapping[str, str]
    sandbox_port: int

    def settings(self) -> dict[str, str]:
        """The portal's settings. Empty is the portal's own default."""
        told = {"OLLAMA_URL": self.ollama_url, "OLLAMA_CLOUD_URL": self.cloud_url}
        if self._on_sandbox(self.cloud_url):
            told["OLLAMA_CLOUD_API_KEY"] = self.given.get("OLLAMA_CLOUD_API_KEY", CLOUD_KEY)
        told["RESAYIL_API_URL"] = self.whatsapp_url
        if self.simulates_whatsapp:
            told["RESAYIL_API_KEY"] = self.given.get("RESAYIL_API_KEY", WHATSAPP_KEY)
        told["MYFATOORAH_BASE_URL"] = self.payments_url
        if self.simulates_payments:
            told["MYFATOORAH_API_KEY"] = self.given.get("MYFATOORAH_API_KEY", PAYMENTS_KEY)
        return told

    @property
    def ollama_url(self) -> str:
        urls = self.given.get("OLLAMA_URL", self._sandbox_at("ollama"))
        return ",".join(self._followed(url) for url in urls.split(","))

    @property
    def cloud_url(self) -> str:
        """The sandbox's, unless somebody gave a key and no address: they mean the true cloud, and a key that costs
        money has no business in a stand-in."""
        if "OLLAMA_CLOUD_URL" in self.given:
            return self._followed(self.given["OLLAMA_CLOUD_URL"])
        own_key = self.given.get("OLLAMA_CLOUD_API_KEY", CLOUD_KEY) != CLOUD_KEY
        return "" if own_key else self._sandbox_at("ollama-cloud")

    @property
    def whatsapp_url(self) -> str:
        """The sandbox's, unless somebody gave a key and no address: theirs sends to true telephones."""
        if "RESAYIL_API_URL" in self.given:
            return self._followed(self.given["RESAYIL_API_URL"])
        own_key = self.given.get("RESAYIL_API_KEY", WHATSAPP_KEY) != WHATSAPP_KEY
        return "" if own_key else self._sandbox_at("whatsapp/v1")

    @property
    def simulates_whatsapp(self) -> bool:
        return self._on_sandbox(self.whatsapp_url)

    @property
    def inbox(self) -> str:
        """Where to look what the telephones show."""
        return self._sandbox_at("whatsapp/")

    @property
    def payments_url(self) -> str:
        """The sandbox's, unless somebody gave a key and no address: theirs takes true money."""
        if "MYFATOORAH_BASE_URL" in self.given:
            return self._followed(self.given["MYFATOORAH_BASE_URL"])
        own_key = self.given.get("MYFATOORAH_API_KEY", PAYMENTS_KEY) != PAYMENTS_KEY
        return "" if own_key else self._sandbox_at("myfatoorah")

    @property
    def simulates_payments(self) -> bool:
        return self._on_sandbox(self.payments_url)

    @property
    def invoices(self) -> str:
        """Where simulated payments are seen, paid late, given back."""
        return self._sandbox_at("myfatoorah/")

    @property
    def needs_model(self) -> bool:
        """Whether a model server is ours; somebody with an Ollama of their own needs no second model in memory."""
        return any(self._on_sandbox(url) for url in self.ollama_url.split(","))

    @property
    def uses_sandbox(self) -> bool:
        others = self._on_sandbox(self.cloud_url) or self.simulates_whatsapp or self.simulates_payments
        return self.needs_model or others

    def _sandbox_at(self, name: str) -> str:
        return f"http://127.0.0.1:{self.sandbox_port}/{name}"

    def _on_sandbox(self, url: str) -> bool:
        return _on_loopback(url, self.sandbox_port)

    def _followed(self, url: str) -> str:
        """The address; the one of .env.example moved to the sandbox's port of this run. With the example copied to
        .env, `make run SANDBOX_PORT=9000` started no model, and no word said why."""
        parts = urlsplit(url.strip())
        ours = _on_loopback(url, SANDBOX_PORT) and parts.path.strip("/") in STAND_INS
        return parts._replace(netloc=f"{parts.hostname}:{self.sandbox_port}").geturl() if ours else url.strip()


def _on_loopback(url: str, port: int) -> bool:
    parts = urlsplit(url.strip())
    return parts.hostname in ("127.0.0.1", "localhost") and parts.port == port
