"""An answer in one piece: our names, what OpenAI's schema requires, and no failure dressed as an answer."""

import json
from typing import Any

import pytest

from portal.errors import UpstreamError
from portal.services.gateway.reply import BufferedReply


def reply() -> BufferedReply:
    return BufferedReply(
        "chatcmpl-ours", "Llama3.2:3B", bounds=(100, 50), estimate=11, cost=lambda a, b, _cached: a + b
    )


def body(finish: Any = "stop", usage: Any = None, **message: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-7", "object": "chat.completion", "created": 1, "model": "theirs",
        "choices": [{
            "index": 0, "message": {"role": "assistant", "content": "hi", **message}, "finish_reason": finish,
        }],
        **({"usage": usage} if usage is not None else {}),
    }  # fmt: skip


def read(answer: Any, by: BufferedReply | None = None) -> Any:
    return json.loads((by or reply()).read(answer if isinstance(answer, bytes) else json.dumps(answer).encode()))


def test_an_answer_has_our_id_the_customers_spelling_and_what_it_cost() -> None:
    """API-01, API-02: and the members that OpenAI's schema requires and Ollama leaves out."""
    told = read(body(usage={"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}))
    assert (told["id"], told["model"]) == ("chatcmpl-ours", "Llama3.2:3B")
    assert told["usage"] == {
        "prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12, "credits": 0.012,
        "prompt_tokens_details": {"cached_tokens": 2},
    }  # fmt: skip
    assert told["choices"][0]["logprobs"] is None
    assert told["choices"][0]["message"] == {"role": "assistant", "content": "hi", "refusal": None}


def test_what_the_server_said_of_refusal_and_logprobs_is_kept() -> None:
    """API-01."""
    answer = body(refusal="no")
    answer["choices"][0]["logprobs"] = {"content": []}
    choice = read(answer)["choices"][0]
    assert choice["logprobs"] == {"content": []}
    assert choice["message"]["refusal"] == "no"


def test_zeros_are_zeros_and_missing_counts_are_estimated() -> None:
    """never-again, "Zero taken for missing, missing for zero"."""
    told = reply()
    read(body(usage={"prompt_tokens": 0, "completion_tokens": 0}), told)
    assert told.final_counts() == (0, 0, False)
    silent = reply()
    read(body(), silent)
    assert silent.final_counts()[0] == 11
    assert silent.final_counts()[2] is True


def test_impossible_counts_are_brought_into_bounds() -> None:
    """never-again, "Upstream reported negative usage and the quota went up"."""
    told = reply()
    read(body(usage={"prompt_tokens": -5, "completion_tokens": 10**20}), told)
    assert told.final_counts() == (0, 50, False)
    assert told.clamped


@pytest.mark.parametrize(
    "answer",
    [
        b"", b"Internal Server Error", b"[]", b"null", b'{"choices":[{"fin', b'{"error":"operator-name"}',
        {"error": {"message": "x"}, "choices": []}, {"choices": None}, {"choices": [{"index": 0, "message": {}}]},
        body(finish=None), body(finish=""), body(finish=7), {"choices": [{"finish_reason": "stop", "message": "text"}]},
        b'{"\xff":1}', b'{"choices":' + b"[" * 100_000, body(usage={"prompt_tokens": "many"}), body(usage=[1]),
    ],
    ids=lambda answer: str(answer)[:40],
)  # fmt: skip
def test_what_is_no_complete_answer_is_a_failure(answer: Any) -> None:
    """never-again, "Upstream crash …": the repeat guard ends with a 200, a null finish reason and zero counts."""
    with pytest.raises(UpstreamError):
        read(answer)
