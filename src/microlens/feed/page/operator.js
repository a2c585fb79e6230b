// The page of the operator: shows the state of the server, and changes models and rules.

import { ItemList } from "./items.js";
import { ago, short } from "./numbers.js";
import { fill } from "./rows.js";
import { get, post } from "./server.js";

const EVERY_MS = 2000;
const state = document.getElementById("state");
const swap = document.getElementById("swap");
const part = (selector) => document.querySelector(selector);
let timer = 0;

function tell(text, isWrong = false) {
  state.textContent = text;
  state.classList.toggle("wrong", isWrong);
}

async function refresh() {
  clearTimeout(timer);
  try {
    show(await get("/api/admin/overview"));
    if (state.dataset.away) tell("");
    delete state.dataset.away;
  } catch (error) {
    state.dataset.away = "yes";
    tell(error.status === 401 ? "Open this page with ?token=TOKEN." : `No news: ${error.message}.`, true);
  }
  clearTimeout(timer); // of a refresh that began meanwhile
  if (!document.hidden) timer = setTimeout(refresh, EVERY_MS);
}

function show(overview) {
  showFigures(overview);
  showModels(overview.models);
  showStudy(overview.study);
  showSessions(overview.live);
  fill(part("#times tbody"), Object.entries(overview.milliseconds), {
    key: ([route]) => route,
    make: () => cells(3),
    show: (row, [route, { median, p99 }]) => write(row, [route.replace(/\{.*?\}/, "ID"), milliseconds(median), milliseconds(p99)]),
  });
  showErrors(overview);
}

function showFigures(overview) {
  const { median, p99 } = overview.milliseconds["/api/next"] ?? {};
  const figures = {
    "People now": short(overview.people_now),
    "Sessions now": short(overview.sessions_now),
    "Events a minute": short(overview.events_a_minute),
    "Next video, median": median === undefined ? "-" : milliseconds(median),
    "Next video, 99 %": p99 === undefined ? "-" : milliseconds(p99),
    "People in all": short(overview.people),
    "Videos shown in all": short(overview.exposures),
    Items: short(overview.items),
    Uploads: short(overview.uploads),
  };
  fill(part("#now dl"), Object.entries(figures), {
    key: ([name]) => name,
    make: figure,
    show: (row, texts) => write(row, texts),
  });
}

function figure() {
  const row = document.createElement("div");
  row.append(document.createElement("dt"), document.createElement("dd"));
  return row;
}

function showModels(models) {
  fill(part("#models ul"), models, {
    key: ({ arm }) => arm,
    make: ({ arm }) => {
      const row = document.getElementById("model").content.firstElementChild.cloneNode(true);
      row.querySelector(".back").addEventListener("click", () => back(arm));
      return row;
    },
    show: (row, { arm, model, digest, run, exposures, former, uploads_by: by }) => {
      const name = model.startsWith(`${arm}@`) ? model : `${arm}: ${model}`;
      write(row, { h3: name, ".run": run, ".digest": digest.slice(0, 16), ".exposures": short(exposures) });
      write(row, { ".uploads": by.length ? `by ${by.join(" and ")}` : "no" });
      row.querySelector(".back").hidden = !former;
      write(row, { ".back": former ? `Back to ${former}` : "" });
    },
  });
  fill(swap.elements.arm, models, {
    key: ({ arm }) => arm,
    make: ({ arm }) => new Option(arm, arm),
    show: () => {},
  });
  swap.querySelector(".arm").hidden = models.length < 2;
}

function showStudy(study) {
  const section = part("#study");
  section.hidden = !study;
  if (!study) return;
  const { title, invited, consented, finished, closed } = study;
  const open = closed ? "Closed: nobody can begin any more." : "Open.";
  write(section, {
    h2: `Study: ${title}`,
    ".facts": `${open} ${invited} invited, ${consented} have begun, ${finished} have finished.`,
    button: closed ? "Open the study again" : "Close the study",
  });
  section.querySelector("button").onclick = ({ target }) =>
    act(target, "...", async () => {
      await post("/api/admin/study", { closed: !closed });
      return closed ? "The study is open again." : "The study is closed; those who have begun may finish.";
    });
}

function showSessions(live) {
  part("#sessions .empty").hidden = live.length > 0;
  part("#sessions table").hidden = !live.length;
  fill(part("#sessions tbody"), live, {
    key: ({ session }) => session,
    make: () => cells(5),
    show: (row, one) =>
      write(row, [one.person.slice(0, 6), one.model, short(one.items), short(one.events), ago(one.seen)]),
  });
}

function showErrors({ mistakes, errors }) {
  const lines = [
    ...errors.map(({ item, reason, at }) => `${new Date(at).toLocaleString()} page, item ${item}: ${reason}`),
    ...mistakes.map((mistake) => `${mistake} (server)`),
  ];
  part("#errors .empty").hidden = lines.length > 0;
  fill(part("#errors ul"), lines, {
    key: (line) => line,
    make: () => document.createElement("li"),
    show: (row, line) => write(row, { "": line }),
  });
}

function cells(count) {
  const row = document.createElement("tr");
  for (let index = 0; index < count; index += 1) row.append(document.createElement(index ? "td" : "th"));
  row.firstElementChild.scope = "row";
  return row;
}

// Write texts into an element: by selector, or into its children in turn. What is there already is left alone.
function write(element, texts) {
  for (const [selector, text] of Object.entries(texts)) {
    const place = Array.isArray(texts) ? element.children[selector] : selector ? element.querySelector(selector) : element;
    if (place.textContent !== text) place.textContent = text;
  }
}

function milliseconds(value) {
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
}

// Do something on the server, say what became of it, and show the new state.
async function act(button, doing, request) {
  button.disabled = true;
  tell(doing);
  try {
    tell(await request());
    await refresh();
  } catch (error) {
    tell(`Not done: ${error.message}`, true);
  } finally {
    button.disabled = false;
  }
}

function back(arm) {
  const row = [...part("#models ul").children].find((child) => child.dataset.key === arm);
  return act(row.querySelector(".back"), "Going back ...", async () => {
    const { serving } = await post("/api/admin/model/back", { arm });
    return `${serving[arm]} serves again.`;
  });
}

swap.addEventListener("submit", (event) => {
  event.preventDefault();
  const { arm, run } = swap.elements;
  act(swap.querySelector("button"), `Loading ${run.value} ...`, async () => {
    const { serving } = await post("/api/admin/model", { run: run.value, arm: arm.value });
    run.value = "";
    return `${serving[arm.value]} serves now.`;
  });
});

document.addEventListener("visibilitychange", () => document.hidden || refresh());
new ItemList(act, tell);
refresh();
