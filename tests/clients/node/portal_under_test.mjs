// What the Node suites know of the portal: an address, keys by role, the sandbox's knobs; and a `fetch` that counts.
// The roles are told in ../cast.py. It knows no SDK.

export const URL = process.env.PORTAL_URL;
export const BASE_URL = `${URL}/v1`;
export const KEYS = JSON.parse(process.env.PORTAL_KEYS);
const SANDBOX = `${process.env.SANDBOX_URL}/ollama`;

export const TEXT = "llama3.2:3b";
export const VISION = "mistral-small3.2:24b";
export const THINKING = "gpt-oss:20b";
export const PLAIN = "smollm2:135m";
export const SLASHED = "portal/tiny:1b";
export const OPERATOR = "operator-account-name";

async function turn(method, path, body) {
  const answer = await fetch(SANDBOX + path, { method, body: body && JSON.stringify(body) });
  const told = await answer.json();
  if (!answer.ok) throw new Error(`the sandbox refuses: ${JSON.stringify(told)}`);
  return told;
}

export const sandbox = {
  // As at its start, and nothing that it did before is held against it.
  reset: async () => {
    await turn("DELETE", "/__control");
    await fetch(process.env.RECOVERY_URL, { method: "POST" });
  },
  control: (knobs) => turn("POST", "/__control", knobs),
  // The last chat, as soon as the server is no longer busy with it: it notices a departure at its next word.
  stoppedChat: () => until(sandbox.lastChat, (chat) => chat.outcome !== "running"),
  lastChat: async () => (await turn("GET", "/__requests?path=%2Fv1%2Fchat%2Fcompletions&last=1")).requests[0],
};

// A fetch that keeps what came back, attempt by attempt.
export function counting() {
  const seen = { statuses: [], ids: [], headers: [] };
  seen.fetch = async (input, init) => {
    const answer = await fetch(input, init);
    seen.statuses.push(answer.status);
    seen.ids.push(answer.headers.get("x-request-id"));
    seen.headers.push(answer.headers);
    return answer;
  };
  return seen;
}

async function until(ask, good) {
  const end = Date.now() + 5000;
  for (;;) {
    const told = await ask();
    if (good(told)) return told;
    if (Date.now() > end) throw new Error(`not in time: ${JSON.stringify(told)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

// What GET /v1/requests/{id} tells, once the request is settled.
export function record(id) {
  const ask = () => fetch(`${BASE_URL}/requests/${id}`, { headers: { authorization: `Bearer ${KEYS.customer}` } });
  return until(async () => (await ask()).json(), (told) => told.state === "settled");
}
