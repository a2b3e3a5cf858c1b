// OpenAI's Node SDK against the portal: answers, streams, tools, models, errors, a server that fails, a client that leaves.

import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import OpenAI from "openai";
import { BASE_URL, KEYS, OPERATOR, SLASHED, TEXT, THINKING, counting, record, sandbox } from "./portal_under_test.mjs";

const messages = [{ role: "user", content: "Say something short." }];
const WEATHER = {
  type: "function",
  function: {
    name: "get_weather",
    parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
};
const ASK_WEATHER = [{ role: "user", content: "What does get_weather say of the weather in Kuwait City?" }];

function make(role = "customer", maxRetries = 2) {
  const seen = counting();
  return [new OpenAI({ baseURL: BASE_URL, apiKey: KEYS[role], maxRetries, timeout: 30_000, fetch: seen.fetch }), seen];
}
async function caught(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  assert.fail("nothing was raised");
}

beforeEach(() => sandbox.reset());

test("API-01: an answer is complete, with the contract's headers", async () => {
  await sandbox.control({ text: "One two three four." });
  const [client] = make();
  const { data, response, request_id } = await client.chat.completions.create({ model: TEXT, messages }).withResponse();
  assert.equal(data.choices[0].message.content, "One two three four.");
  assert.equal(data.choices[0].finish_reason, "stop");
  assert.equal(data.choices[0].message.refusal, null);
  assert.equal(data.model, TEXT);
  assert.equal(data.usage.completion_tokens, 4);
  assert.equal(data.usage.total_tokens, data.usage.prompt_tokens + 4);
  assert.match(request_id, /^req_/);
  assert.equal(data._request_id, request_id);
  for (const name of [
    "openai-processing-ms", "x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests",
    "x-portal-provider", "x-portal-credits", "x-portal-balance",
  ]) assert.ok(response.headers.get(name), name);
  assert.equal(Number(response.headers.get("x-portal-credits")), data.usage.total_tokens / 1000);
});

for (const dialect of ["new", "old"])
  test(`API-04: a stream says what the server said, usage only on request (${dialect} dialect)`, async () => {
    await sandbox.control({ text: "Here are six words to count.", dialect });
    const [client] = make();
    const without = [];
    for await (const chunk of await client.chat.completions.create({ model: TEXT, messages, stream: true })) without.push(chunk);
    assert.equal(without.map((c) => c.choices[0].delta.content ?? "").join(""), "Here are six words to count.");
    assert.ok(without.every((c) => !c.usage));
    assert.equal(without.at(-1).choices[0].finish_reason, "stop");
    const asked = { model: TEXT, messages, stream: true, stream_options: { include_usage: true } };
    const told = [];
    for await (const chunk of await client.chat.completions.create(asked)) told.push(chunk);
    assert.ok(told.slice(0, -1).every((c) => !c.usage));
    assert.deepEqual(told.at(-1).choices, []);
    assert.equal(told.at(-1).usage.completion_tokens, 6);
    assert.equal(told.at(-1).usage.credits, told.at(-1).usage.total_tokens / 1000);
  });

test("API-04: words arrive one by one, heartbeats are not seen", async () => {
  await sandbox.control({ tokens: 8, delay_chunk_ms: 60, delay_first_ms: 1500 });
  const [client] = make();
  const at = [];
  for await (const chunk of await client.chat.completions.create({ model: TEXT, messages, stream: true }))
    if (chunk.choices[0].delta.content) at.push(performance.now());
  assert.equal(at.length, 8);
  assert.ok(at.at(-1) - at[0] > 300);
});

for (const name of ["max_tokens", "max_completion_tokens"])
  test(`API-01: ${name} reaches the server`, async () => {
    await sandbox.control({ tokens: 200 });
    const [client] = make();
    const answer = await client.chat.completions.create({ model: TEXT, messages, [name]: 50 });
    assert.equal(answer.choices[0].finish_reason, "length");
    assert.equal(answer.usage.completion_tokens, 50);
    assert.equal((await sandbox.lastChat()).native.options.num_predict, 50);
  });

test("API-01: a tool is called, streamed or not, and its result used", async () => {
  const [client] = make();
  const asked = { model: TEXT, messages: ASK_WEATHER, tools: [WEATHER] };
  const first = await client.chat.completions.create(asked);
  const [call] = first.choices[0].message.tool_calls;
  assert.equal(first.choices[0].finish_reason, "tool_calls");
  assert.deepEqual(JSON.parse(call.function.arguments), { city: "Kuwait City" });
  const streamed = await client.chat.completions.stream(asked).finalChatCompletion();
  assert.deepEqual(JSON.parse(streamed.choices[0].message.tool_calls[0].function.arguments), { city: "Kuwait City" });
  const result = { role: "tool", tool_call_id: call.id, content: '{"degrees": 41}' };
  const second = await client.chat.completions.create({ ...asked, messages: [...ASK_WEATHER, first.choices[0].message, result] });
  assert.equal(second.choices[0].finish_reason, "stop");
});

test("API-01: the SDK's tool runner goes through call, result and answer by itself", async () => {
  const [client] = make();
  const asked = [];
  const tools = [{ ...WEATHER, function: { ...WEATHER.function, parse: JSON.parse, function: (wish) => (asked.push(wish), "41 degrees") } }];
  const runner = client.chat.completions.runTools({ model: TEXT, messages: ASK_WEATHER, tools });
  assert.ok(await runner.finalContent());
  assert.deepEqual(asked, [{ city: "Kuwait City" }]);
});

test("API-01: a schema is obeyed", async () => {
  const [client] = make();
  const schema = {
    type: "object", additionalProperties: false, required: ["name", "inhabitants"],
    properties: { name: { type: "string" }, inhabitants: { type: "integer" } },
  };
  const answer = await client.chat.completions.create({
    model: TEXT, messages: [{ role: "user", content: "Tell of the city 'Fahaheel' with inhabitants 100000" }],
    response_format: { type: "json_schema", json_schema: { name: "city", strict: true, schema } },
  });
  assert.deepEqual(JSON.parse(answer.choices[0].message.content), { name: "Fahaheel", inhabitants: 100000 });
});

test("API-05: models are listed, and found by ids with `:` and `/`", async () => {
  const [client] = make();
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  for (const name of [TEXT, SLASHED, THINKING]) {
    assert.ok(names.includes(name));
    assert.equal((await client.models.retrieve(name)).id, name);
  }
  assert.ok(!names.some((name) => /bge|nomic|glm/.test(name)));
});

for (const [what, role, wish, kind, status, code] of [
  ["a deleted key", "revoked", {}, OpenAI.AuthenticationError, 401, "key_revoked"],
  ["no credit", "poor", {}, OpenAI.APIError, 402, "insufficient_credits"],
  ["no credit, streamed", "poor", { stream: true }, OpenAI.APIError, 402, "insufficient_credits"],
  ["a model of a larger plan", "newcomer", { model: THINKING }, OpenAI.PermissionDeniedError, 403, "model_not_in_plan"],
  ["a key that may only read", "reader", {}, OpenAI.PermissionDeniedError, 403, "scope_missing"],
  ["an unknown model", "customer", { model: "bge-m3" }, OpenAI.NotFoundError, 404, "model_not_found"],
  ["a bad request", "customer", { max_tokens: 0 }, OpenAI.BadRequestError, 400, "invalid_request"],
])
  test(`API-01, API-03: ${what} is told once, in OpenAI's shape`, async () => {
    const [client, seen] = make(role);
    const error = await caught(client.chat.completions.create({ model: TEXT, messages, ...wish }));
    assert.ok(error instanceof kind);
    assert.equal(error.status, status);
    assert.equal(error.code, code);
    assert.match(error.requestID, /^req_/);
    assert.deepEqual(["code", "message", "param", "type"].filter((name) => !(name in error.error)), []);
    assert.deepEqual(seen.statuses, [status]);
    if (status === 402) {
      assert.ok(error.error.balance < error.error.required);
      assert.match(error.error.top_up_url, /\/billing$/);
    }
  });

test("RATE-01: too fast is 429 with Retry-After and the limits", async () => {
  const [client, seen] = make("hasty", 0);
  for (let number = 0; number < 10; number++) await client.chat.completions.create({ model: TEXT, messages });
  const error = await caught(client.chat.completions.create({ model: TEXT, messages }));
  assert.ok(error instanceof OpenAI.RateLimitError);
  assert.equal(error.code, "rate_limit_exceeded");
  const wait = Number(error.headers.get("retry-after"));
  assert.ok(Number.isInteger(wait) && wait >= 1 && wait <= 60);
  assert.equal(error.headers.get("x-ratelimit-remaining-requests"), "0");
  assert.equal(seen.statuses.length, 11);
});

test("API-02: a failure before the first byte is tried again, and free", async () => {
  await sandbox.control({ fault: "crash_before" });
  const [client, seen] = make();
  const error = await caught(client.chat.completions.create({ model: TEXT, messages }));
  assert.ok(error instanceof OpenAI.InternalServerError);
  assert.equal(error.code, "upstream_error");
  assert.equal(new Set(seen.ids).size, 3);
  for (const id of seen.ids) assert.equal((await record(id)).credits, 0);
});

for (const fault of ["crash_mid", "reset_mid", "cut_mid", "silent_end", "repeat_guard", "error_line", "no_finish"])
  test(`API-04: ${fault} in mid-stream is no success`, async () => {
    await sandbox.control({ fault, fault_after: 3 });
    const [client, seen] = make();
    let said = 0;
    const read = async () => {
      for await (const chunk of await client.chat.completions.create({ model: TEXT, messages, stream: true }))
        if (chunk.choices[0].delta.content) said++;
    };
    const error = await caught(read());
    assert.ok(error instanceof OpenAI.APIError);
    assert.equal(error.code, "upstream_error");
    assert.ok(!String(error).includes(OPERATOR));
    const told = await record(seen.ids[0]);
    assert.equal(told.outcome, "upstream_failed");
    assert.equal(told.credits, said / 1000);
    assert.deepEqual(seen.statuses, [200]);
  });

test("API-04: who leaves in the middle stops the server and pays for what came", async () => {
  await sandbox.control({ tokens: 500, delay_chunk_ms: 20 });
  const [client, seen] = make();
  const stream = await client.chat.completions.create({ model: TEXT, messages, stream: true });
  let number = 0;
  for await (const _ of stream) if (++number === 5) break;
  const told = await record(seen.ids[0]);
  assert.equal(told.outcome, "client_left");
  assert.ok(told.usage.completion_tokens >= 5 && told.usage.completion_tokens < 60);
  const saw = await sandbox.stoppedChat();
  assert.ok(saw.client_left && saw.deltas_sent < 60);
});
