/* Improves the pages of django-flashcall, which also work without JavaScript: prevents double
   submits, submits the code after its last digit, disables the buttons for another call until one
   is possible, and polls the state of the call. */
"use strict";

(() => {
  const root = document.querySelector(".flashcall");
  if (!root) return;

  /* A form with errors is the response to a POST: without this, going back to it or reloading it
     would send that again. The page of status 503 has no form: reload it to try again. */
  if (root.querySelector("form")) history.replaceState(history.state, "", location.href);

  /* Submit once. If the page is still here after SENT_FOR, the visitor stopped loading. Whoever
     corrects a field before that has stopped it, too. */
  const SENT_FOR = 20_000; // ms: longer than the server waits for the provider
  let sent = null;
  let waiting = 0;
  const stopped = () => {
    clearTimeout(waiting);
    sent?.removeAttribute("aria-busy");
    sent = null;
  };
  root.addEventListener("input", stopped, { capture: true }); // before the last digit submits
  root.addEventListener("submit", (event) => {
    if (sent) {
      event.preventDefault();
      return;
    }
    sent = event.target;
    sent.setAttribute("aria-busy", "true");
    waiting = setTimeout(stopped, SENT_FOR);
  });

  /* A page that the back button restores from the cache is outdated. */
  window.addEventListener("pageshow", (event) => event.persisted && location.reload());

  const code = root.querySelector("input[data-length]");
  const state = root.querySelector("[data-flashcall-state]");
  if (!code || !state) return;

  /* Submit after the last digit, but only once: after a correction, the visitor uses the button. */
  const whole = new RegExp(`^\\p{Nd}{${code.dataset.length}}$`, "u");
  let complete = false;
  code.addEventListener("input", () => {
    if (complete || !whole.test(code.value.replace(/[\s\p{Pd}\p{Cf}]/gu, ""))) return;
    complete = true;
    code.form.requestSubmit();
  });

  const announce = (text) => {
    state.textContent = text;
  };

  /* Countdown to the next call. */
  const countdowns = [...root.querySelectorAll("[data-flashcall-countdown]")];
  const buttons = [...root.querySelectorAll("[data-flashcall-again] button")];
  const texts = countdowns.map((element) => element.dataset.text);
  let possibleAt = 0;
  let ticking = 0;

  const tick = () => {
    const seconds = Math.ceil((possibleAt - Date.now()) / 1000);
    const possible = seconds <= 0;
    for (const button of buttons) button.disabled = !possible;
    countdowns.forEach((element, n) => {
      if (element.isConnected) {
        element.textContent = possible ? element.dataset.then : texts[n].replace("0", seconds);
      }
    });
    if (!possible || !ticking) return;
    clearInterval(ticking);
    ticking = 0;
    if (countdowns.length) announce(countdowns[0].dataset.then);
  };

  const wait = (seconds) => {
    possibleAt = Date.now() + seconds * 1000;
    if (seconds > 0 && !ticking) ticking = setInterval(tick, 1000);
    tick();
  };

  if (state.dataset.resendIn) wait(Number(state.dataset.resendIn));

  /* Poll the state of the call, at growing intervals, and only while the page is visible. */
  const FIRST_POLL = 2_000; // ms
  const LONGEST_POLL = 15_000;
  const lead = root.querySelector("[data-flashcall-lead]");
  const expiresAt = Date.now() + Number(state.dataset.expiresIn) * 1000;
  let delay = FIRST_POLL;

  const seen = () =>
    new Promise((resolve) => {
      if (!document.hidden) return resolve();
      const look = () => {
        if (document.hidden) return;
        document.removeEventListener("visibilitychange", look);
        resolve();
      };
      document.addEventListener("visibilitychange", look);
    });

  const poll = async () => {
    await seen();
    if (sent) return again();
    try {
      const answer = await fetch(location.href, { headers: { Accept: "application/json" } });
      if (answer.status >= 500) return again();
      if (answer.status === 404) return location.reload(); // the session has ended
      const known = await answer.json();
      if (sent) return again();
      const rejected = known.call.status === "rejected" && state.dataset.call !== "rejected";
      if (known.status !== "pending" || rejected) return location.reload();
      if (known.resend_in !== null) wait(known.resend_in);
      if (known.hint && known.hint !== lead.textContent.trim()) {
        /* The server shows the countdown in another place then. */
        if (lead.querySelector("[data-flashcall-countdown]")) return location.reload();
        lead.textContent = known.hint;
        lead.classList.add("flashcall-hint");
        announce(known.hint);
      }
    } catch {
      /* No connection, or not a JSON response: try again. */
    }
    again();
  };

  const again = () => {
    const left = expiresAt - Date.now();
    setTimeout(poll, left > 0 ? Math.min(delay, left + 500) : LONGEST_POLL);
    delay = Math.min(delay * 1.5, LONGEST_POLL);
  };

  again();
})();
