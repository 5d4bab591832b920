// Sends the requests of the API page, and fills id and token into the next request.
"use strict";
(() => {
  const known = {};
  const fill = (text) => text.replace(/<(\w+)>/g, (gap, name) => known[name] ?? gap);

  async function send(form) {
    // Without cookies, as an app would: no session, no CSRF token.
    const answer = await fetch(fill(form.dataset.url), {
      method: "POST",
      body: form.querySelector("textarea").value,
      headers: { "Content-Type": "application/json" },
      credentials: "omit",
    });
    const content = await answer.json();
    Object.assign(known, content);
    const shown = document.createElement("pre");
    shown.textContent = `${answer.status} ${answer.statusText}\n${JSON.stringify(content, null, 2)}`;
    form.querySelector("output").replaceChildren(shown);
    for (const body of document.querySelectorAll(".request textarea")) body.value = fill(body.value);
    for (const line of document.querySelectorAll(".request .curl")) line.textContent = fill(line.textContent);
  }

  document.addEventListener("submit", (event) => {
    if (!event.target.matches(".request")) return;
    event.preventDefault();
    send(event.target);
  });
})();
