"""Tools, JSON and images through OpenAI's Python SDK."""

from __future__ import annotations

import base64
import json
from typing import Any

import openai
import pydantic
import pytest
from portal_under_test import PLAIN, PNG, TEXT, VISION, last_chat

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
        },
    },
}
ASK = [{"role": "user", "content": "What does get_weather say of the weather in Kuwait City, in celsius?"}]
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(PNG).decode()}}


class City(pydantic.BaseModel):
    """What the answer must look like."""

    name: str
    inhabitants: int
    coastal: bool


def test_a_tool_is_called_and_its_result_used(client: Any) -> None:
    """API-01: call, result, answer in words."""
    first = client.chat.completions.create(model=TEXT, messages=ASK, tools=[WEATHER])
    choice = first.choices[0]
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert call.type == "function" and call.id and call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Kuwait City", "unit": "celsius"}
    messages = [*ASK, choice.message, {"role": "tool", "tool_call_id": call.id, "content": '{"degrees": 41}'}]
    second = client.chat.completions.create(model=TEXT, messages=messages, tools=[WEATHER])
    assert second.choices[0].finish_reason == "stop" and second.choices[0].message.content
    seen = last_chat()["native"]["messages"]
    assert [m["role"] for m in seen] == ["user", "assistant", "tool"]
    assert seen[1]["tool_calls"][0]["function"]["name"] == "get_weather"
    assert seen[2]["content"] == '{"degrees": 41}'


def test_tool_calls_are_streamed(client: Any) -> None:
    """API-01: deltas have an index, a name and arguments as text; the SDK's accumulator puts them together."""
    chunks = list(client.chat.completions.create(model=TEXT, messages=ASK, tools=[WEATHER], stream=True))
    deltas = [call for c in chunks if c.choices for call in c.choices[0].delta.tool_calls or ()]
    assert deltas[0].index == 0 and deltas[0].id and deltas[0].function.name == "get_weather"
    assert json.loads("".join(d.function.arguments for d in deltas))["city"] == "Kuwait City"
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    with client.chat.completions.stream(model=TEXT, messages=ASK, tools=[WEATHER]) as stream:
        whole = stream.get_final_completion()
    assert json.loads(whole.choices[0].message.tool_calls[0].function.arguments)["unit"] == "celsius"


def test_json_mode_gives_json(client: Any) -> None:
    """API-01: `response_format: json_object`."""
    answer = client.chat.completions.create(
        model=TEXT, messages=[{"role": "user", "content": "JSON please"}], response_format={"type": "json_object"}
    )
    assert isinstance(json.loads(answer.choices[0].message.content), dict)
    assert last_chat()["native"]["format"] == "json"


@pytest.mark.parametrize("stream", [False, True])
def test_a_schema_is_obeyed(client: Any, stream: bool) -> None:
    """API-01: `response_format: json_schema` by the SDK's own parse helpers."""
    messages = [{"role": "user", "content": "Tell of the city 'Fahaheel' with inhabitants 100000"}]
    if stream:
        with client.chat.completions.stream(model=TEXT, messages=messages, response_format=City) as events:
            answer = events.get_final_completion()
    else:
        answer = client.chat.completions.parse(model=TEXT, messages=messages, response_format=City)
    city = answer.choices[0].message.parsed
    assert isinstance(city, City) and (city.name, city.inhabitants) == ("Fahaheel", 100000)
    assert last_chat()["native"]["format"]["required"] == ["name", "inhabitants", "coastal"]


def test_an_image_reaches_a_model_that_sees(client: Any) -> None:
    """API-01: a data URL; the server gets the same bytes."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE]}]
    answer = client.chat.completions.create(model=VISION, messages=messages)
    assert answer.choices[0].message.content
    images = [image for m in last_chat()["native"]["messages"] for image in m.get("images") or ()]
    assert [base64.b64decode(image) for image in images] == [PNG]


@pytest.mark.parametrize(
    ("model", "wish", "param"),
    [
        (
            TEXT,
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, IMAGE]}]},
            "messages",
        ),
        (PLAIN, {"messages": ASK, "tools": [WEATHER]}, "tools"),
        (PLAIN, {"messages": ASK, "reasoning_effort": "high"}, None),
    ],
    ids=["image", "tools", "reasoning"],
)
def test_what_a_model_cannot_do_is_refused(client: Any, model: str, wish: dict[str, Any], param: str | None) -> None:
    """API-01: 400 `unsupported_capability` names the field, and costs nothing."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, **wish)
    assert caught.value.code == "unsupported_capability"
    assert param is None or caught.value.param == param
