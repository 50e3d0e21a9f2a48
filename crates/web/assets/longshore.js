// Follows the hub: each event carries the page's new <main>. Times are kept up to date in between. Commands are copied.
"use strict";

const live = document.body.dataset.live;
const sign = document.getElementById("live");
const main = document.querySelector("main");
/** Milliseconds until a connection that the browser has given up is tried again. */
const RETRY_MS = 3000;
/** The hub's clock less the browser's, in microseconds. */
let ahead = 0;

function spanWords(micros) {
  const seconds = Math.max(0, Math.floor(micros / 1e6));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

function clockRead() {
  const now = Number(document.getElementById("overview")?.dataset.now);
  if (now) ahead = now - Date.now() * 1000;
}

function timesRefresh() {
  const now = Date.now() * 1000 + ahead;
  for (const time of document.querySelectorAll("time[data-micros]")) {
    const words = spanWords(now - Number(time.dataset.micros));
    if (time.textContent !== words) time.textContent = words;
  }
}

// Said once to those who listen: only when it changes.
function signSet(state, words) {
  if (!sign || sign.textContent === words) return;
  sign.className = `live ${state}`;
  sign.textContent = words;
}

/** Makes `old` like `fresh` and leaves alone what is alike: focus, selection, scrolling, what a person has opened. */
function become(old, fresh) {
  if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
    old.replaceWith(fresh);
    return;
  }
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if (old.nodeName === "TIME" && old.dataset.micros === fresh.dataset.micros) return;
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  let place = old.firstChild;
  for (const child of [...fresh.childNodes]) {
    // What has an id is found again wherever it stood before.
    const same = child.id ? [...old.children].find((element) => element.id === child.id) : null;
    if (same && same !== place) old.insertBefore(same, place);
    const there = same ?? (place?.id ? null : place);
    if (there) {
      place = there.nextSibling;
      become(there, child);
    } else {
      old.insertBefore(child, place);
    }
  }
  while (place) {
    const next = place.nextSibling;
    // What this script has put there is not the hub's to take away.
    if (!(place.dataset && "own" in place.dataset)) place.remove();
    place = next;
  }
}

function follow() {
  const events = new EventSource(live);
  events.addEventListener("open", () => signSet("good", "live"));
  events.addEventListener("problem", (event) => signSet("bad", event.data));
  events.addEventListener("error", () => {
    signSet("bad", "the hub does not answer; what runs goes on");
    // The browser comes back by itself from a lost connection, but not from a refusal.
    if (events.readyState === EventSource.CLOSED) setTimeout(follow, RETRY_MS);
  });
  events.addEventListener("main", (event) => {
    const fresh = new DOMParser().parseFromString(`<main>${event.data}</main>`, "text/html").querySelector("main");
    become(main, fresh);
    signSet("good", "live");
    clockRead();
    copyButtonsAdd();
    timesRefresh();
  });
}

/** Copies what is in an element. Without TLS there is no clipboard to write to, but a selection can be copied. */
async function copy(element) {
  if (navigator.clipboard) return navigator.clipboard.writeText(element.textContent);
  getSelection().selectAllChildren(element);
  if (!document.execCommand("copy")) throw new Error("not copied");
}

function copyButtonsAdd() {
  for (const command of document.querySelectorAll("pre.command")) {
    if (!command.querySelector("button")) copyButtonAdd(command);
  }
}

function copyButtonAdd(command) {
  const button = document.createElement("button");
  button.type = "button";
  button.dataset.own = "";
  button.textContent = "Copy";
  button.setAttribute("aria-label", `Copy: ${command.textContent.split(" ", 2).join(" ")}`);
  button.addEventListener("click", () => {
    copy(command.querySelector("code")).then(
      () => (button.textContent = "Copied"),
      () => (button.textContent = "Select it"),
    );
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
  command.append(button);
}

clockRead();
copyButtonsAdd();
if (live) {
  signSet("busy", "connecting");
  follow();
}
setInterval(timesRefresh, 1000);
