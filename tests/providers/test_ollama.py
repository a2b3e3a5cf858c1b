"""Asking a server of models about itself: plain data, plain reasons, never without an end."""

import json
import time
from pathlib import Path

import pytest

from portal.providers.llm import ollama
from portal.providers.llm.ollama import Listed, OllamaServer, ProviderError, Shown
from sandbox.process import SandboxProcess
from tests.providers.saying import answer, saying
from tests.services.environment import NOWHERE


def test_what_a_server_tells_of_itself(sandbox: SandboxProcess) -> None:
    """GW-01: `/api/version`, `/api/tags`, `/api/show`, `/api/ps`."""
    sandbox.control("llama3.2:3b", modelfile_num_ctx=5000)
    with OllamaServer(sandbox.ollama_url) as server:
        assert server.version() == "0.33.0"
        listed = {model.name: model for model in server.tags()}
        assert listed["llama3.2:3b"] == Listed("llama3.2:3b", False, ("completion", "tools"), 131_072)
        assert server.loaded() == {}
        assert server.show("llama3.2:3b") == Shown(("completion", "tools"), 5000, 131_072)
        assert server.show("smollm2:135m") == Shown(("completion",), None, 8192)
        with pytest.raises(ProviderError) as caught:
            server.show("nobody:1b")
        assert (caught.value.status, caught.value.permanent) == (404, True)
        assert "llama3.2:3b" in {model.name for model in server.openai_models()}


def test_the_key_is_sent_and_nothing_else_that_the_machine_knows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """GW-01: a .netrc would replace the key, and a proxy of the shell's would be told of it."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", NOWHERE)
    monkeypatch.setenv("http_proxy", NOWHERE)
    with saying(answer(b'{"version":"1"}')) as server, OllamaServer(server.url, "the-key") as asked:
        assert asked.version() == "1"
    assert "authorization: bearer the-key\r\n" in server.heard[0]
    with saying(answer(b'{"version":"1"}')) as server, OllamaServer(server.url) as asked:
        assert asked.version() == "1"
    assert "authorization" not in server.heard[0]


@pytest.mark.parametrize(("said", "reason"), [
    (answer(b"{}", "401 Unauthorized"), "it refuses our key (status 401)"),
    (answer(b"{}", "403 Forbidden"), "it refuses us (status 403)"),
    (answer(b"", "301 Moved", "Location: http://127.0.0.1:9/"), "it sends us to another address (status 301)"),
    (answer(b"nothing", "404 Not Found"), "it knows no /api/tags: is the address right?"),
    (answer(b'{"error":"you (operator) have reached"}', "429 Too Many"), "it answers with status 429"),
    (answer(b"<html>", "502 Bad Gateway"), "it answers with status 502"),
    (answer(b"<html>"), "what it answers to /api/tags is no JSON"),
    (answer(b'{"models":' + b"[" * 100_000), "what it answers to /api/tags is no JSON"),
    (answer(b'{"\xff":1}'), "what it answers to /api/tags is no JSON"),
    (answer(b"[]"), "what it answers to /api/tags is not what such a server answers"),
    (answer(b'{"models":{"a":1}}'), "its list of models is none"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "it can't be reached"),
    (b"", "it can't be reached"),
    (b"SSH-2.0-OpenSSH\r\n", "it can't be reached"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n" + b" " * 8_100_000, "its answer has no end"),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_whatever_it_says_is_a_reason_in_plain_words_and_none_of_its_own(said: bytes, reason: str) -> None:
    """Never again: the operator's account name stood in a relayed error of the cloud."""
    with saying(said) as server, OllamaServer(server.url) as asked:
        with pytest.raises(ProviderError) as caught:
            asked.tags()
    assert str(caught.value) == reason


def test_nobody_there_is_a_reason_too() -> None:
    """GW-01."""
    with OllamaServer(NOWHERE) as asked, pytest.raises(ProviderError, match="can't be reached"):
        asked.tags()


@pytest.mark.parametrize("said", [
    b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
])  # fmt: skip
def test_silence_has_an_end(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Design, habit 7: time-outs are always given."""
    monkeypatch.setattr(ollama, "READ_SECONDS", 0.2)
    started = time.monotonic()
    with saying(said, stay=True) as server, OllamaServer(server.url) as asked:
        with pytest.raises(ProviderError, match="takes too long"):
            asked.tags()
    assert time.monotonic() - started < 5


def test_an_answer_that_drips_has_an_end() -> None:
    """Design, habit 7: a byte a moment is never silent, and would keep the clock's worker for an hour."""
    slow = answer(b" " * 2000)
    head = slow.index(b"\r\n\r\n") + 4
    started = time.monotonic()
    with saying(slow, pause=0.005) as server, OllamaServer(server.url, seconds=head * 0.005 + 1) as asked:
        with pytest.raises(ProviderError, match="takes too long"):
            asked.tags()
        with pytest.raises(ProviderError, match="takes too long"):  # and no further question is asked
            asked.version()
    assert time.monotonic() - started < 8
    assert len(server.heard) == 1


@pytest.mark.parametrize(("body", "listed"), [
    (b'{"models":null}', []), (b"{}", []), (b'{"models":[1,null,"x"]}', []),
    (b'{"models":[{"name":"a","capabilities":"x","details":[]}]}', [Listed("a")]),
    (b'{"models":[{"model":"b","capabilities":["x",1]}]}', [Listed("b", False, ("x",))]),
    (b'{"models":[{"name":"e","details":{"context_length":-4}}]}', [Listed("e")]),
    (b'{"models":[{"name":"c","remote_host":"https://ollama.com:443"}]}', [Listed("c", True)]),
    (b'{"models":[{"name":"d","details":{"context_length":99999999999}}]}', [Listed("d")]),
])  # fmt: skip
def test_an_odd_list_is_read_as_far_as_it_goes(body: bytes, listed: list[Listed]) -> None:
    """GW-01: Go writes null for a list that was never made; stubs of the cloud say where they live."""
    with saying(answer(body)) as server, OllamaServer(server.url) as asked:
        assert asked.tags() == listed


@pytest.mark.parametrize(("parameters", "context"), [
    ("num_ctx                        40960", 40_960), ('stop "num_ctx 5"\nnum_ctx 7\n', 7), ("num_ctx many", None),
    ("", None), ("num_ctx -1", None), ("x_num_ctx 5", None),
])  # fmt: skip
def test_a_modelfiles_context_is_found(parameters: str, context: int | None) -> None:
    """GW-01."""
    body = ('{"parameters":' + json.dumps(parameters) + "}").encode()
    with saying(answer(body)) as server, OllamaServer(server.url) as asked:
        assert asked.show("m") == Shown(None, context, None)


def test_a_server_that_speaks_openais_dialect_alone_lists_its_models() -> None:
    """GW-01: vLLM tells its context as max_model_len."""
    body = b'{"data":[{"id":"Qwen/Qwen3-32B","max_model_len":40960},{"id":"other"}]}'
    with saying(answer(body)) as server, OllamaServer(server.url + "/prefix/") as asked:
        assert asked.openai_models() == [Listed("Qwen/Qwen3-32B", context_tokens=40_960), Listed("other")]
    assert server.heard[0].startswith("get /prefix/v1/models ")
