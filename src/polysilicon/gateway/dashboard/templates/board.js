// Puts news into the page that is there: every part marked data-live is taken from the same page,
// fetched again, and put in place where it changed. Without this script the page is read by reloading.
"use strict";
(() => {
  const main = document.querySelector("main[data-every-s]");
  if (!main) return;
  const every_ms = 1000 * Number(main.dataset.everyS);
  const news = document.getElementById("news");
  const pause = document.getElementById("pause");
  let tag = "", timer = 0, paused = false, looking = false, failed = 0;

  // Said only where it changes: a screen reader must not be told every two seconds.
  const say = (text) => { if (news.textContent !== text) news.textContent = text; };

  const selecting = (part) => {
    const chosen = document.getSelection();
    return chosen && !chosen.isCollapsed && part.contains(chosen.anchorNode);
  };

  // What has a data-keep is the same thing before and after: its place, openness and focus stay.
  const named = (part, name) => [...part.querySelectorAll("[data-keep]")].find((each) => each.dataset.keep === name);

  const replace = (part, fresh) => {
    if (part.innerHTML === fresh.innerHTML || selecting(part)) return;
    const kept = [...part.querySelectorAll("[data-keep]")].map((each) => [each.dataset.keep, each.open, each.scrollLeft]);
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    const focus = focused?.closest("[data-keep]");
    const summary = focused?.tagName === "SUMMARY";
    part.replaceChildren(...fresh.childNodes);
    for (const [name, open, left] of kept) {
      const found = named(part, name);
      if (found && open) found.open = true;
      if (found && left) found.scrollLeft = left;
    }
    if (!focused) return;
    const found = focus && named(part, focus.dataset.keep);
    ((summary ? found?.querySelector("summary") : found) ?? main).focus({ preventScroll: true });
  };

  const look = async () => {
    looking = true;
    try {
      const headers = tag ? { "if-none-match": tag } : {};
      const options = { headers, cache: "no-store", credentials: "same-origin", signal: AbortSignal.timeout(10000) };
      const answer = await fetch(location.href, options);
      if (answer.redirected) return location.reload(); // to the login form
      if (answer.status !== 304) {
        if (!answer.ok) throw new Error(String(answer.status));
        tag = answer.headers.get("etag") ?? "";
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const fresh = new Map([...page.querySelectorAll("[data-live]")].map((part) => [part.id, part]));
        for (const part of document.querySelectorAll("[data-live]")) {
          if (!fresh.has(part.id)) return location.reload(); // the page has become another one
          replace(part, fresh.get(part.id));
          fresh.delete(part.id);
        }
        if (fresh.size) return location.reload();
      }
      failed = 0;
      say(paused ? "Paused" : "Live");
    } catch {
      failed += 1;
      say("The gateway does not answer; trying again");
    } finally {
      looking = false;
      plan();
    }
  };

  const plan = () => {
    clearTimeout(timer);
    if (paused || looking || document.hidden) return;
    timer = setTimeout(look, Math.min(every_ms * 2 ** Math.min(failed, 4), 30000));
  };

  pause.hidden = false;
  pause.setAttribute("aria-pressed", "false");
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    say(paused ? "Paused" : "Live");
    if (!paused && !looking) look(); else plan();
  });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused && !looking) look(); });
  say("Live");
  plan();
})();
