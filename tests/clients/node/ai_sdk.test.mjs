// Vercel's AI SDK with both of its OpenAI providers: text, streams, tools, objects, errors. Its schemas (zod) are the strictest.

import assert from "node:assert/strict";
import { beforeEach, describe, test } from "node:test";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { APICallError, Output, generateObject, generateText, jsonSchema, stepCountIs, streamObject, streamText, tool } from "ai";
import { BASE_URL, KEYS, TEXT, THINKING, VISION, counting, record, sandbox } from "./portal_under_test.mjs";

const prompt = "Say something short.";
const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
const CITY = jsonSchema({
  type: "object", additionalProperties: false, required: ["name", "inhabitants"],
  properties: { name: { type: "string" }, inhabitants: { type: "integer" } },
});
const TELL = "Tell of the city 'Fahaheel' with inhabitants 100000";

// The default `createOpenAI()(model)` speaks /v1/responses; `.chat` is the dialect these suites are about.
const PROVIDERS = {
  "@ai-sdk/openai": (role, fetch, model) => createOpenAI({ baseURL: BASE_URL, apiKey: KEYS[role], fetch }).chat(model),
  "@ai-sdk/openai-compatible": (role, fetch, model) =>
    createOpenAICompatible({
      name: "portal", baseURL: BASE_URL, apiKey: KEYS[role], fetch, includeUsage: true, supportsStructuredOutputs: true,
    }).chatModel(model),
};

async function caught(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  assert.fail("nothing was raised");
}

for (const [name, provide] of Object.entries(PROVIDERS))
  describe(name, () => {
    const model = (id = TEXT, role = "customer", fetch = undefined) => provide(role, fetch, id);
    beforeEach(() => sandbox.reset());

    test("API-01: generateText", async () => {
      await sandbox.control({ text: "One two three four." });
      const answer = await generateText({ model: model(), prompt, maxOutputTokens: 60, temperature: 0, seed: 7 });
      assert.equal(answer.text, "One two three four.");
      assert.equal(answer.finishReason, "stop");
      assert.equal(answer.usage.outputTokens, 4);
      assert.ok(answer.usage.inputTokens > 0);
      assert.equal(answer.response.modelId, TEXT);
      assert.match(answer.response.headers["x-request-id"], /^req_/);
      assert.equal((await sandbox.lastChat()).native.options.num_predict, 60);
    });

    for (const dialect of ["new", "old"])
      test(`API-04: streamText (${dialect} dialect)`, async () => {
        await sandbox.control({ text: "Here are six words to count.", dialect, delay_first_ms: 1200 });
        const parts = [];
        const answer = streamText({ model: model(), prompt });
        for await (const part of answer.textStream) parts.push(part);
        assert.equal(parts.join(""), "Here are six words to count.");
        assert.ok(parts.length >= 6);
        assert.equal(await answer.finishReason, "stop");
        assert.equal((await answer.usage).outputTokens, 6);
      });

    test("API-01: a limit is a limit", async () => {
      await sandbox.control({ tokens: 200 });
      const answer = await generateText({ model: model(), prompt, maxOutputTokens: 20 });
      assert.equal(answer.finishReason, "length");
      assert.equal(answer.usage.outputTokens, 20);
    });

    for (const stream of [false, true])
      test(`API-01: a tool is called and its result used, ${stream ? "streamed" : "in one piece"}`, async () => {
        const asked = [];
        const tools = {
          get_weather: tool({
            description: "The weather of a city",
            inputSchema: jsonSchema({ type: "object", properties: { city: { type: "string" } }, required: ["city"] }),
            execute: async (wish) => (asked.push(wish), { degrees: 41 }),
          }),
        };
        const wish = {
          model: model(), tools, stopWhen: stepCountIs(3),
          prompt: "What does get_weather say of the weather in Kuwait City?",
        };
        const answer = stream ? streamText(wish) : await generateText(wish);
        assert.ok(await answer.text);
        assert.equal((await answer.steps).length, 2);
        assert.equal((await answer.steps)[0].finishReason, "tool-calls");
        assert.deepEqual(asked, [{ city: "Kuwait City" }]);
      });

    test("API-01: generateObject, streamObject and Output.object", async () => {
      const wanted = { name: "Fahaheel", inhabitants: 100000 };
      assert.deepEqual((await generateObject({ model: model(), schema: CITY, prompt: TELL })).object, wanted);
      const streamed = streamObject({ model: model(), schema: CITY, prompt: TELL });
      let last;
      for await (const part of streamed.partialObjectStream) last = part;
      assert.deepEqual(last, wanted);
      assert.deepEqual(await streamed.object, wanted);
      const answer = await generateText({ model: model(), output: Output.object({ schema: CITY }), prompt: TELL });
      assert.deepEqual(answer.output, wanted);
    });

    test("API-01: an image", async () => {
      const content = [{ type: "text", text: "What is this?" }, { type: "image", image: PNG, mediaType: "image/png" }];
      const answer = await generateText({ model: model(VISION), messages: [{ role: "user", content }] });
      assert.ok(answer.text);
      const seen = (await sandbox.lastChat()).native.messages.flatMap((m) => m.images ?? []);
      assert.deepEqual(seen, [PNG]);
    });

    test("API-03: out of credit is asked for once", async () => {
      const seen = counting();
      const error = await caught(generateText({ model: model(TEXT, "poor", seen.fetch), prompt }));
      assert.ok(APICallError.isInstance(error));
      assert.equal(error.statusCode, 402);
      assert.equal(JSON.parse(error.responseBody).error.code, "insufficient_credits");
      assert.match(error.message, /Not enough credit/);
      assert.deepEqual(seen.statuses, [402]);
    });

    for (const [what, role, id, status, code] of [
      ["a deleted key", "revoked", TEXT, 401, "key_revoked"],
      ["a model of a larger plan", "newcomer", THINKING, 403, "model_not_in_plan"],
      ["an unknown model", "customer", "bge-m3", 404, "model_not_found"],
    ])
      test(`API-01: ${what} is told once, in words`, async () => {
        const seen = counting();
        const error = await caught(generateText({ model: model(id, role, seen.fetch), prompt }));
        assert.equal(error.statusCode, status);
        assert.equal(JSON.parse(error.responseBody).error.code, code);
        assert.equal(error.message, JSON.parse(error.responseBody).error.message);
        assert.equal(error.isRetryable, false);
        assert.deepEqual(seen.statuses, [status]);
      });

    test("API-02: a failure before the first byte may be tried again, and is free", async () => {
      await sandbox.control({ fault: "crash_before" });
      const seen = counting();
      const error = await caught(generateText({ model: model(TEXT, "customer", seen.fetch), prompt, maxRetries: 0 }));
      assert.equal(error.statusCode, 502);
      assert.equal(error.isRetryable, true);
      assert.equal((await record(seen.ids[0])).credits, 0);
    });

    test("API-04: a crash in mid-stream is an error", async () => {
      await sandbox.control({ fault: "crash_mid", fault_after: 3 });
      const seen = counting();
      const errors = [];
      const answer = streamText({ model: model(TEXT, "customer", seen.fetch), prompt, onError: ({ error }) => errors.push(error) });
      let said = "";
      for await (const part of answer.textStream) said += part;
      assert.equal(errors.length, 1);
      assert.match(JSON.stringify(errors[0].data ?? errors[0]) + String(errors[0].message ?? errors[0]), /failed to answer/);
      assert.equal((await record(seen.ids[0])).outcome, "upstream_failed");
      assert.equal(said.trim().split(/\s+/).length, 3);
    });

    test("API-04: an aborted stream stops the server", async () => {
      await sandbox.control({ tokens: 500, delay_chunk_ms: 20 });
      const seen = counting();
      const control = new AbortController();
      const answer = streamText({ model: model(TEXT, "customer", seen.fetch), prompt, abortSignal: control.signal });
      let number = 0;
      for await (const _ of answer.textStream) if (++number === 5) control.abort();
      const told = await record(seen.ids[0]);
      assert.equal(told.outcome, "client_left");
      assert.ok(told.usage.completion_tokens < 60);
      assert.ok((await sandbox.stoppedChat()).client_left);
    });

    test("API-01: a thinking model's reasoning is apart from its text", async () => {
      await sandbox.control({ text: "The answer." });
      const answer = await generateText({ model: model(THINKING), prompt });
      assert.equal(answer.text, "The answer.");
      if (name === "@ai-sdk/openai-compatible") assert.match(answer.reasoningText, /^The user wants/);
    });
  });
