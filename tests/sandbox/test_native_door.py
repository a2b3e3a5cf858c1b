"""Ollama's own API, as far as an operator needs it."""

from sandbox.process import SandboxProcess
from tests.sandbox.client import MODEL, ask, body


def test_a_native_stream_is_lines_and_its_last_has_counts_and_nanoseconds(sandbox: SandboxProcess) -> None:
    """GW-04: streamed unless refused; zeros are left out."""
    sandbox.control(text="one two", load_ms=30)
    reply = ask(sandbox, body(), "/api/chat")
    assert reply.headers["content-type"] == "application/x-ndjson"
    first, _, last = reply.lines
    assert first["message"] == {"role": "assistant", "content": "one"}
    assert first["done"] is False
    assert last["done_reason"] == "stop"
    assert (last["prompt_eval_count"], last["eval_count"]) == (5, 2)
    assert last["total_duration"] >= last["load_duration"] >= 30_000_000
    sandbox.control(usage="zero")
    assert "eval_count" not in ask(sandbox, body(), "/api/chat").lines[-1]


def test_native_errors_are_a_plain_string(sandbox: SandboxProcess) -> None:
    """API-05: two shapes come from one server."""
    reply = ask(sandbox, body(model="nope", stream=False), "/api/chat")
    assert (reply.status, reply.json) == (404, {"error": "model 'nope' not found"})
    assert ask(sandbox, b"", "/api/chat").json == {"error": "missing request body"}


def test_tags_show_and_version_tell_what_an_operator_asks_for(sandbox: SandboxProcess) -> None:
    """GW-04: the catalogue page is filled from these."""
    assert ask(sandbox, path="/").raw == b"Ollama is running"
    assert ask(sandbox, path="/api/version").json == {"version": "0.33.0"}
    names = [model["name"] for model in ask(sandbox, path="/api/tags").json["models"]]
    assert MODEL in names
    assert "nomic-embed-text:latest" in names
    shown = ask(sandbox, {"model": MODEL}, "/api/show").json
    architecture = shown["model_info"]["general.architecture"]
    assert shown["model_info"][f"{architecture}.context_length"] == 131_072
    assert "tools" in shown["capabilities"]
    assert ask(sandbox, path="/api/nothing").status == 404
    assert ask(sandbox, path="/api/chat").status == 405


def test_a_model_is_in_memory_while_its_keep_alive_lasts(sandbox: SandboxProcess) -> None:
    """GW-04: empty messages load, keep_alive 0 unloads."""
    assert ask(sandbox, path="/api/ps").json == {"models": []}
    assert ask(sandbox, {"model": MODEL, "messages": []}, "/api/chat").json["done_reason"] == "load"
    assert [row["name"] for row in ask(sandbox, path="/api/ps").json["models"]] == [MODEL]
    asked = {"model": MODEL, "messages": [], "keep_alive": 0}
    assert ask(sandbox, asked, "/api/chat").json["done_reason"] == "unload"
    assert ask(sandbox, path="/api/ps").json == {"models": []}


def test_generate_and_embed_answer(sandbox: SandboxProcess) -> None:
    """GW-04."""
    asked = {"model": MODEL, "prompt": "Hello", "stream": False, "options": {"num_predict": 2}}
    answer = ask(sandbox, asked, "/api/generate").json
    assert (answer["response"], answer["done_reason"]) == ("Here is", "length")
    embedded = ask(sandbox, {"model": "bge-m3", "input": "a cat"}, "/api/embed").json
    assert len(embedded["embeddings"][0]) == 1024
    assert embedded["prompt_eval_count"] == 4
