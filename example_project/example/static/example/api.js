// Sends the requests of the API's page and carries id and token on to the next one.
"use strict";
(() => {
  const known = {};
  const fill = (text) => text.replace(/<(\w+)>/g, (gap, name) => known[name] ?? gap);

  document.addEventListener("submit", async (event) => {
    const form = event.target.closest(".request");
    if (!form) return;
    event.preventDefault();
    const body = form.querySelector("textarea").value;
    const output = form.querySelector("output");
    // Without cookies, as an app would: no session, no CSRF token.
    const answer = await fetch(fill(form.dataset.url), {
      method: "POST", body, credentials: "omit", headers: { "Content-Type": "application/json" },
    });
    const text = await answer.text();
    let shown = text;
    try {
      const content = JSON.parse(text);
      Object.assign(known, content);
      shown = JSON.stringify(content, null, 2);
    } catch {
      // Not JSON: shown as it is.
    }
    const pre = document.createElement("pre");
    pre.textContent = `${answer.status} ${answer.statusText}\n${shown}`;
    output.replaceChildren(pre);
    for (const gap of document.querySelectorAll(".request :is(textarea, code, .curl)")) {
      if ("value" in gap) gap.value = fill(gap.value);
      else gap.textContent = fill(gap.textContent);
    }
  });
})();
