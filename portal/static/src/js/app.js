// Enhancements only: every page works without this file. It copies, remembers the theme, closes menus, asks before a
// deletion in a dialog, counts seconds down, waits for a payment, and keeps a form from being sent twice. No framework,
// no inline handler: the policy is strict.

const root = document.documentElement;
root.dataset.js = "";

const say = (text) => {
  const region = document.getElementById("announcer");
  if (region) region.textContent = text;
};

// Copy buttons: data-copy names the element whose text is copied.
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  const label = button.querySelector("[data-label]");
  const before = label.textContent;
  try {
    await copy(source);
    label.textContent = button.dataset.done;
    say(button.dataset.done);
  } catch {
    select(source);
    label.textContent = button.dataset.failed;
    say(button.dataset.failed);
  }
  setTimeout(() => (label.textContent = before), 2500);
});

async function copy(element) {
  // The clipboard API is missing on plain http, where a portal is first tried out.
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(element.textContent);
  select(element);
  if (!document.execCommand("copy")) throw new Error("not copied");
  getSelection().removeAllRanges();
}

function select(element) {
  const range = document.createRange();
  range.selectNodeContents(element);
  getSelection().removeAllRanges();
  getSelection().addRange(range);
}

// The theme switch: dark and light in turn, remembered in a cookie that the server reads.
document.addEventListener("click", (event) => {
  if (!event.target.closest("[data-theme-switch]")) return;
  const now = root.dataset.theme || (matchMedia("(prefers-color-scheme: light)").matches ? "light" : "dark");
  root.dataset.theme = now === "dark" ? "light" : "dark";
  const secure = location.protocol === "https:" ? "; secure" : "";
  document.cookie = `theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax${secure}`;
});

// Menus and the sheet are <details>; with a script they also close on Escape and on a click beside them.
const menus = "details[data-closes]";

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll(menus + "[open]")) {
    menu.open = false;
    menu.querySelector("summary").focus();
  }
});

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll(menus + "[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

// A question that has a page of its own is asked in a dialog instead; if that fails, the page opens.
document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-dialog]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const dialog = document.getElementById(link.dataset.dialog);
  if (!dialog?.showModal) return;
  event.preventDefault();
  try {
    const answer = await fetch(link.href, { headers: { Accept: "text/html" } });
    if (!answer.ok || answer.redirected) throw new Error(String(answer.status));
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const question = page.querySelector("[data-question]");
    dialog.replaceChildren(document.importNode(question, true));
    dialog.setAttribute("aria-labelledby", question.querySelector("h1, h2").id);
    dialog.showModal();
  } catch {
    location.assign(link.href);
  }
});

document.addEventListener("click", (event) => {
  const dialog = event.target.closest("dialog");
  if (!dialog) return;
  const way = event.target.closest("[data-dismiss]");
  if (way || event.target === dialog) {
    if (way) event.preventDefault();
    dialog.close();
  }
});

// Seconds until a form may be sent are counted down beside its button; without a script the rule says how many are left.
for (const seconds of document.querySelectorAll("[data-countdown]")) {
  const line = seconds.parentElement;
  const button = line.closest("form").querySelector("button");
  const until = performance.now() + Number(seconds.textContent) * 1000;
  const tick = () => {
    const left = Math.ceil((until - performance.now()) / 1000);
    button.disabled = left > 0;
    line.hidden = left <= 0;
    seconds.textContent = Math.max(0, left);
    if (left > 0) setTimeout(tick, 1000);
  };
  tick();
}

// A payment that is being confirmed is asked about for two minutes; then the page says that it goes on without it.
for (const waiting of document.querySelectorAll("[data-ask]")) {
  const until = performance.now() + 120_000;
  const ask = async () => {
    try {
      const answer = await fetch(waiting.dataset.ask, { headers: { Accept: "application/json" } });
      if (answer.ok && !(await answer.json()).waiting) return location.replace(waiting.dataset.ask);
    } catch {
      // No network for a moment, or signed out meanwhile: the end of the two minutes finds out.
    }
    if (performance.now() > until) return location.replace(waiting.dataset.enough);
    setTimeout(ask, 2500);
  };
  setTimeout(ask, 2500);
}

// A button that was pressed says so, and a second press sends nothing.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.dataset.sent) {
    event.preventDefault();
    return;
  }
  form.dataset.sent = "1";
  event.submitter?.setAttribute("aria-busy", "true");
});

// Coming back with the browser's back button finds the form usable again.
addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  for (const button of document.querySelectorAll("[aria-busy]")) button.removeAttribute("aria-busy");
});
