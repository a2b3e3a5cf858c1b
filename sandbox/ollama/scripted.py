"""The scripted model: deterministic answers at the speed and length a test asks for.

How tokens are counted here (documented, so that tests can compute what a call must cost):
- one delta is one token; plain text is cut before each word, JSON before each word or sign;
- a tool call counts the signs of its JSON cut the same way, all hidden in one chunk, as with the real server;
- a prompt counts 4 a message + its words + 64 an image, plus the words of the tools' JSON; never more than num_ctx.
"""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import gevent

from .hints import Hints, last_user_text
from .job import Calls, Delta, Done, EngineFailed, Event, Job
from .schema_fill import fill
from .tool_choice import choose

_WORDS = re.compile(r"\s*\S+|\s+$")
_SIGNS = re.compile(r"\s*(?:\w+|[^\w\s])")
_ARABIC = re.compile(r"[\u0600-\u06ff]")
PER_MESSAGE, PER_IMAGE = 4, 64

ENGLISH = (
    "Here is a short answer from the scripted model. It says the same words each time, one word at a time, so that a"
    " test can count them and compare. Nothing in it was thought; everything in it can be checked."
)
ARABIC = (
    "هذه إجابة قصيرة من النموذج التجريبي. يقول الكلمات نفسها في كل مرة، كلمة بعد كلمة، لكي يستطيع الاختبار"
    " أن يعدّها ويقارنها. لا شيء فيها نتاج تفكير، وكل ما فيها يمكن التحقق منه."
)
THINKING = "The user wants an answer, so first a thought is needed, and then the answer itself."


def words(text: str) -> list[str]:
    """Plain text as tokens."""
    return _WORDS.findall(text)


def signs(text: str) -> list[str]:
    """JSON as tokens."""
    return _SIGNS.findall(text)


def count_prompt(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> int:
    """Tokens of a prompt, before it is cut to the context."""
    total = 0
    for message in messages:
        total += (
            PER_MESSAGE + len(str(message.get("content") or "").split()) + PER_IMAGE * len(message.get("images") or ())
        )
        if message.get("tool_calls"):
            total += len(json.dumps(message["tool_calls"], ensure_ascii=False).split())
    return total + (len(json.dumps(tools, ensure_ascii=False).split()) if tools else 0)


def _repeat(pieces: list[str], count: int) -> list[str]:
    """Exactly `count` tokens out of some."""
    if not pieces:
        return []
    round_about = itertools.cycle([piece if piece[:1].isspace() else " " + piece for piece in pieces])
    many = list(itertools.islice(round_about, count))
    return [many[0].lstrip(), *many[1:]] if many else []


def answer_tokens(job: Job) -> list[str]:
    """What will be said, before limits and stop words."""
    knobs, question = job.knobs, last_user_text(job.messages)
    if knobs.text is not None:
        said = words(knobs.text)
    elif isinstance(job.format, dict):
        said = signs(json.dumps(fill(job.format, Hints(question)), ensure_ascii=False))
    elif job.format == "json":
        keys = Hints(question).wanted_keys() or ["answer"]
        said = signs(json.dumps({key: f"A short {key}" for key in keys}, ensure_ascii=False))
    else:
        said = words(ARABIC if _ARABIC.search(question) else ENGLISH)
    return said if knobs.tokens is None else _repeat(said or ["word"], knobs.tokens)


def thinking_tokens(job: Job) -> list[str]:
    """The thoughts: by knob, else one sentence when the model can think and was not told not to."""
    wish = job.knobs.reasoning
    if isinstance(wish, str):
        return words(wish)
    if isinstance(wish, int):
        return _repeat(words(THINKING), wish)
    can = job.model is not None and "thinking" in job.model.capabilities
    return words(THINKING) if can and job.think is not False else []


def _cut_at_stop(tokens: list[str], stops: Any) -> list[str]:
    stops = [stops] if isinstance(stops, str) else [stop for stop in stops or () if isinstance(stop, str) and stop]
    text = "".join(tokens)
    ends = [at for stop in stops if (at := text.find(stop)) >= 0]
    if not ends:
        return tokens
    kept, left = [], min(ends)
    for token in tokens:
        if left <= 0:
            break
        kept.append(token[:left])
        left -= len(token)
    return kept


class ScriptedEngine:
    """Answers a job; waits are cut short when the client leaves, unless the knob `prefill_blind` forbids it."""

    def run(self, job: Job, left: Any) -> Iterator[Event]:
        knobs = job.knobs
        prompt = count_prompt(job.messages, job.tools)
        context = prompt
        if job.model is not None:
            context = knobs.window(job.model.modelfile_num_ctx, job.model.context, job.options.get("num_ctx"))
        if prompt > context and not knobs.shift:
            raise EngineFailed(400, "the prompt is longer than the context length of the model")
        started = time.time()
        if knobs.delay_first_ms:
            if knobs.prefill_blind:
                gevent.sleep(knobs.delay_first_ms / 1000)
            else:
                left.wait(knobs.delay_first_ms / 1000)
        prefilled = time.time()
        for made, event in enumerate(self._events(job)):
            if made and knobs.delay_chunk_ms and not isinstance(event, Done):
                # A real engine notices a departure at the next token, not in the middle of one.
                gevent.sleep(knobs.delay_chunk_ms / 1000)
            if isinstance(event, Done):
                event.prompt_tokens = min(prompt, context)
                event.prompt_ms = (prefilled - started) * 1000
                event.eval_ms = (time.time() - prefilled) * 1000
            yield event

    def _events(self, job: Job) -> Iterator[Event]:
        limit, made, reason = job.limit, 0, job.knobs.done_reason or "stop"
        for token in thinking_tokens(job):
            if limit is not None and made >= limit:
                yield Done("length", 0, made)
                return
            made += 1
            yield Delta(thinking=token)
        calls = choose(job)
        if calls:
            hidden = sum(len(signs(json.dumps(call["arguments"]))) + 2 for call in calls)
            yield Calls(calls)
            yield Done(reason, 0, made + hidden)
            return
        said = _cut_at_stop(answer_tokens(job), job.options.get("stop"))
        for token in said:
            if limit is not None and made >= limit:
                yield Done("length", 0, made)
                return
            made += 1
            yield Delta(text=token)
        yield Done(reason, 0, made)
