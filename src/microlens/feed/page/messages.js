// Short messages: shown for a moment, and read out by screen readers.

const SHOWN_MS = 2600;
const toast = document.getElementById("toast");
const away = document.getElementById("away");
const spoken = document.getElementById("spoken");
let timer = 0;

export function say(text) {
  spoken.textContent = text;
}

export function show(text) {
  toast.textContent = text;
  toast.hidden = false;
  say(text);
  clearTimeout(timer);
  timer = setTimeout(() => {
    toast.hidden = true;
  }, SHOWN_MS);
}

export function showAway(isAway) {
  away.hidden = !isAway;
  away.textContent = isAway ? "Waiting for the server. What you do is kept." : "";
}
