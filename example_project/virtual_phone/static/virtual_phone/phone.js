// The virtual phone: loads its screen every second, rings, hangs up and speaks voice codes.
"use strict";
(() => {
  const phone = document.querySelector(".vp");
  const screen = phone.querySelector(".vp-screen");
  const live = phone.querySelector("[role=status]");
  const strip = phone.querySelector(".vp-strip");
  const stripTitle = strip.querySelector(".vp-strip-title");
  const stripNumber = strip.querySelector(".vp-strip-number");
  const idle = [stripTitle.textContent, stripNumber.textContent];
  const one = (selector) => screen.querySelector(selector);

  // Remember answered and declined calls when the page changes.
  const remembered = (key) => JSON.parse(sessionStorage.getItem(`vp-${key}`) || "[]");
  const remember = (key, call) =>
    sessionStorage.setItem(`vp-${key}`, JSON.stringify([call, ...remembered(key)].slice(0, 50)));

  let shown = screen.innerHTML;

  function show(html) {
    const parsed = document.createElement("template");
    parsed.innerHTML = html;
    if (parsed.innerHTML.trim() === shown.trim()) return;
    const [open, coming] = [one(".vp-answer[open]"), parsed.content.querySelector(".vp-call")];
    if (open && (!coming || coming.dataset.call === one(".vp-call").dataset.call)) return; // the call is answered
    shown = parsed.innerHTML;
    screen.replaceChildren(parsed.content);
    screen.classList.add("vp-live"); // do not repeat the fade-in on every page
    refresh();
  }

  function refresh() {
    const call = one(".vp-call");
    if (call && remembered("ended").includes(call.dataset.call)) return hangUp();
    for (const said of screen.querySelectorAll(".vp-said")) {
      said.hidden = !remembered("answered").includes(said.closest("li").dataset.call);
    }
    const latest = call || one(".vp-missed:not([hidden])");
    stripTitle.textContent = latest ? (call || one(".vp-heading")).dataset.strip : idle[0];
    const words = latest?.querySelector(".vp-said:not([hidden])") || latest?.querySelector(".vp-number");
    stripNumber.innerHTML = words ? words.innerHTML : idle[1];
    if (call && !remembered("told").includes(call.dataset.call)) {
      remember("told", call.dataset.call);
      setTimeout(() => (live.textContent = call.dataset.announce), 100); // after screen readers know the live region
    } else if (!call) {
      live.textContent = "";
    }
    setClock();
  }

  function hangUp() {
    const call = one(".vp-call");
    remember("ended", call.dataset.call);
    window.speechSynthesis?.cancel();
    call.remove();
    one(".vp-list").inert = false;
    one(".vp-missed[hidden]").hidden = false;
    refresh();
  }

  function setClock() {
    const time = new Date().toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false });
    for (const clock of phone.querySelectorAll(".vp-time")) {
      if (clock.textContent !== time) clock.textContent = time;
    }
  }

  phone.addEventListener("click", ({ target }) => {
    if (target.closest(".vp-decline")) hangUp();
    if (target.closest(".vp-strip")) {
      strip.ariaExpanded = String(phone.classList.toggle("vp-open"));
    }
  });

  phone.addEventListener("toggle", ({ target }) => {
    if (!target.open) return hangUp();
    live.textContent = target.querySelector(".vp-answered").textContent;
    const { say, lang } = target.dataset;
    if (!say) return;
    remember("answered", target.closest(".vp-call").dataset.call);
    window.speechSynthesis?.speak(Object.assign(new SpeechSynthesisUtterance(say), { lang, rate: 0.8 }));
  }, true);

  async function look() {
    if (document.hidden) return;
    setClock();
    try {
      const answer = await fetch(phone.dataset.url);
      if (answer.ok) show(await answer.text());
    } catch {
      // The site is not running; try again in a second.
    }
  }

  document.addEventListener("visibilitychange", look);
  setInterval(look, 1000);
  refresh();
})();
