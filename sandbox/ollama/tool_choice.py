"""Whether and how the scripted model calls a tool.

Deterministic: a forced tool is called; otherwise one is called when the last message is a user's and speaks of it.
After a tool's result it answers in words. (Ollama ignores `tool_choice`; a scripted model may obey it all the same.)
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from .hints import Hints, last_user_text
from .job import Job
from .schema_fill import fill

_PLAIN = frozenset(
    "the and for you with get set run use tool function value what call from this that are was not into its our your"
    " return returns given using please about should have has can will one two all any make".split()
)


def choose(job: Job) -> list[dict[str, Any]]:
    """Calls as [{id, index, name, arguments}]; empty when words are the answer."""
    wish = job.knobs.tool_calls
    if wish is False or (not job.tools and not wish):
        return []
    if isinstance(wish, list):
        return [_call(at, str(one["name"]), one.get("arguments") or {}, job) for at, one in enumerate(wish)]
    functions = [
        tool["function"] for tool in job.tools if isinstance(tool, dict) and isinstance(tool.get("function"), dict)
    ]
    text = last_user_text(job.messages)
    function = _pick(functions, job, text)
    if function is None:
        return []
    arguments = fill(function.get("parameters") or {"type": "object"}, Hints(text))
    return [_call(0, str(function.get("name", "")), arguments if isinstance(arguments, dict) else {}, job)]


def _pick(functions: list[dict[str, Any]], job: Job, text: str) -> dict[str, Any] | None:
    choice = job.tool_choice
    if choice == "none" or not functions:
        return None
    if isinstance(choice, dict):
        name = (choice.get("function") or {}).get("name")
        return next((function for function in functions if function.get("name") == name), None)
    best = max(functions, key=lambda function: _score(function, text))
    if choice == "required":
        return best
    spoken = bool(job.messages) and str(job.messages[-1].get("role", "")).lower() == "user"
    return best if spoken and _score(best, text) > 0 else None


def _score(function: dict[str, Any], text: str) -> int:
    name, lowered = str(function.get("name", "")), text.lower()
    if re.search(rf"\b{re.escape(name.lower())}\b", lowered):
        return 100
    words = set(re.findall(r"[^\W_]{3,}", lowered)) - _PLAIN
    in_name = set(re.findall(r"[^\W_]{3,}", name.lower().replace("_", " "))) - _PLAIN
    return 3 * len(words & in_name)


def _call(index: int, name: str, arguments: dict[str, Any], job: Job) -> dict[str, Any]:
    seed = f"{index}{name}{arguments}{len(job.messages)}"
    return {
        "id": "call_" + hashlib.sha256(seed.encode()).hexdigest()[:8],
        "index": index,
        "name": name,
        "arguments": arguments,
    }
