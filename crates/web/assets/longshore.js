// Follows the hub: each event carries the page's new <main>. Times are kept up to date in between.
"use strict";

const live = document.body.dataset.live;
const sign = document.getElementById("live");

function spanWords(micros) {
  const seconds = Math.max(0, Math.floor(micros / 1e6));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

function timesRefresh() {
  const now = Date.now() * 1000;
  for (const time of document.querySelectorAll("time[data-micros]")) {
    time.textContent = spanWords(now - Number(time.dataset.micros));
  }
}

function signSet(state, words) {
  if (!sign) return;
  sign.className = `live ${state}`;
  sign.textContent = words;
}

if (live) {
  signSet("busy", "connecting");
  const events = new EventSource(live);
  events.addEventListener("open", () => signSet("good", "live"));
  events.addEventListener("error", () => signSet("bad", "the hub does not answer; what runs goes on"));
  events.addEventListener("main", (event) => {
    const main = document.querySelector("main");
    // What a person has opened stays open.
    const open = [...main.querySelectorAll("details")].map((details) => details.open);
    main.innerHTML = event.data;
    main.querySelectorAll("details").forEach((details, place) => { details.open = open[place] ?? false; });
    signSet("good", "live");
    timesRefresh();
  });
}

setInterval(timesRefresh, 1000);
