"""Whom `make run` asks for models: the sandbox by default, somebody's own servers and account where they are named."""

import pytest

from dev.upstreams import Upstreams

HERE = "http://127.0.0.1:9000"
THEIRS = "http://10.0.0.5:11434"
EXAMPLE = {
    "OLLAMA_URL": "http://127.0.0.1:8090/ollama",
    "OLLAMA_CLOUD_URL": "http://127.0.0.1:8090/ollama-cloud",
    "OLLAMA_CLOUD_API_KEY": "sandbox",
    "RESAYIL_API_URL": "http://127.0.0.1:8090/whatsapp",
    "RESAYIL_API_KEY": "sandbox",
    "MYFATOORAH_BASE_URL": "http://127.0.0.1:8090/myfatoorah",
    "MYFATOORAH_API_KEY": "sandbox",
}
THEIR_PHONES = {"RESAYIL_API_URL": "https://api.resayil.io/v1", "RESAYIL_API_KEY": "sends-to-true-telephones"}
THEIR_MONEY = {"MYFATOORAH_BASE_URL": "https://api.myfatoorah.com", "MYFATOORAH_API_KEY": "takes-true-money"}


@pytest.mark.parametrize("given", [{}, EXAMPLE])
def test_servers_and_cloud_are_the_sandboxs_of_this_run(given: dict[str, str]) -> None:
    """contract.md: make run works with nothing set, and with .env.example copied whatever SANDBOX_PORT says."""
    chosen = Upstreams(given, 9000)
    told = chosen.settings()
    assert told.pop("RESAYIL_API_URL") in (f"{HERE}/whatsapp", f"{HERE}/whatsapp/v1")
    assert told == {
        "OLLAMA_URL": f"{HERE}/ollama",
        "OLLAMA_CLOUD_URL": f"{HERE}/ollama-cloud",
        "OLLAMA_CLOUD_API_KEY": "sandbox",
        "RESAYIL_API_KEY": "sandbox",
        "MYFATOORAH_BASE_URL": f"{HERE}/myfatoorah",
        "MYFATOORAH_API_KEY": "sandbox",
    }
    assert chosen.invoices == f"{HERE}/myfatoorah/"
    assert chosen.needs_model
    assert chosen.uses_sandbox


def test_somebody_with_an_ollama_of_their_own_gets_the_cloud_alone() -> None:
    """contract.md: no second model in memory, and cloud models work all the same."""
    chosen = Upstreams({"OLLAMA_URL": f"{THEIRS}, http://127.0.0.1:11434"}, 9000)
    assert chosen.ollama_url == f"{THEIRS},http://127.0.0.1:11434"
    assert (chosen.needs_model, chosen.uses_sandbox) == (False, True)


def test_a_key_of_ones_own_goes_to_the_true_cloud_and_never_to_the_sandbox() -> None:
    """OPS-03: empty is the portal's own default address."""
    told = Upstreams({"OLLAMA_CLOUD_API_KEY": "costs-money"}, 9000).settings()
    assert (told["OLLAMA_CLOUD_URL"], "OLLAMA_CLOUD_API_KEY" in told) == ("", False)
    told = Upstreams({"RESAYIL_API_KEY": "sends-to-true-telephones"}, 9000).settings()
    assert (told["RESAYIL_API_URL"], "RESAYIL_API_KEY" in told) == ("", False)
    chosen = Upstreams({"MYFATOORAH_API_KEY": "takes-true-money"}, 9000)
    told = chosen.settings()
    assert (told["MYFATOORAH_BASE_URL"], "MYFATOORAH_API_KEY" in told) == ("", False)
    assert not chosen.simulates_payments


def test_a_cloud_of_ones_own_is_given_no_invented_key() -> None:
    """OPS-03."""
    own = {"OLLAMA_URL": THEIRS, "OLLAMA_CLOUD_URL": "https://ollama.com"}
    chosen = Upstreams({**own, **THEIR_PHONES, **THEIR_MONEY}, 9000)
    addresses = {name: url for name, url in {**THEIR_PHONES, **THEIR_MONEY}.items() if name.endswith("_URL")}
    assert chosen.settings() == {**own, **addresses}
    assert not chosen.uses_sandbox
