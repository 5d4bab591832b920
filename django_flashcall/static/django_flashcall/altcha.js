/* Solves the challenge of the extra `altcha` (a proof of work) and enables the form. Needs HTTPS or
   localhost, as Web Crypto does. */
"use strict";

(async () => {
  const field = document.querySelector("input[data-flashcall-challenge]");
  const data = document.getElementById("flashcall-challenge");
  if (!field || !data) return;
  const status = field.nextElementSibling;
  const buttons = field.form.querySelectorAll("button[type=submit]");
  const { algorithm, challenge, maxnumber, salt, signature } = JSON.parse(data.textContent);
  const encoder = new TextEncoder();

  const digest = async (text) => {
    const bytes = new Uint8Array(await crypto.subtle.digest(algorithm, encoder.encode(text)));
    return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  };

  status.hidden = false;
  buttons.forEach((button) => (button.disabled = true));
  try {
    for (let number = 0; number <= maxnumber; number++) {
      if ((await digest(salt + number)) === challenge) {
        field.value = btoa(JSON.stringify({ algorithm, challenge, number, salt, signature }));
        status.textContent = status.dataset.then;
        return;
      }
    }
    status.textContent = status.dataset.failed;
  } catch {
    status.textContent = status.dataset.failed;
  } finally {
    buttons.forEach((button) => (button.disabled = false));
  }
})();
