// A study: consent, questions and thanks, in a sheet over the feed.

import { ServerError, post } from "./server.js";

const RETRY_MS = 2000;
const CLOSED = {
  none: ["This study does not run now", "Ask the person who has invited you."],
  invitation: ["This feed is a study", "It is by invitation: open the link that you were sent."],
  unknown: ["This link is not known", "Check that it is complete, or ask the person who has invited you."],
  closed: ["This study is closed", "Nobody can begin any more. Thank you for your interest."],
};
const sheet = document.getElementById("study");
const form = sheet.querySelector("form");
const button = form.querySelector("button");
const problem = form.querySelector(".problem");
const heading = form.querySelector("h2");

sheet.addEventListener("cancel", (event) => event.preventDefault());
sheet.addEventListener("keydown", (event) => {
  if (event.key === "Escape") event.preventDefault();
});

// Lead through the study until there are videos to watch; never returns if there are none any more.
export async function takePart(participant) {
  let step = await patiently(() => post("/api/study", { participant }));
  while (step.stage !== "videos") {
    const answers = isEmpty(step) ? {} : await ask(step);
    step = await send(participant, step, answers);
  }
  sheet.close();
}

function isEmpty({ stage, questions, part, parts }) {
  return stage === "questions" && !questions.length && part === parts - 1;
}

async function send(participant, step, answers) {
  const [path, content] =
    step.stage === "consent" ? ["consent", {}] : ["answers", { part: step.part, answers }];
  try {
    return await post(`/api/study/${path}`, { participant, ...content });
  } catch (error) {
    if (!(error instanceof ServerError)) throw error;
    if (isEmpty(step)) await pause();
    problem.textContent = error.status === 422 ? error.message : "The server does not answer. Please try again.";
    return step;
  }
}

// Show a step; resolves with the answers when the participant goes on.
function ask(step) {
  const isShown = form.dataset.step === `${step.stage} ${step.part}`;
  if (!isShown) show(step);
  return new Promise((resolve) => {
    form.onsubmit = (event) => {
      event.preventDefault();
      problem.textContent = "";
      resolve(Object.fromEntries(new FormData(form)));
    };
  });
}

function show(step) {
  const [title, text] = CLOSED[step.stage] ?? [titleOf(step), step.text];
  form.dataset.step = `${step.stage} ${step.part}`;
  heading.textContent = title;
  form.querySelector(".text").replaceChildren(...text.split(/\n\s*\n/).map((words) => element("p", words.trim())));
  form.querySelector(".questions").replaceChildren(...step.questions.map(question));
  problem.textContent = "";
  button.hidden = !["consent", "questions"].includes(step.stage);
  button.textContent = step.stage === "consent" ? "I agree and take part" : "Continue";
  if (!sheet.open) sheet.showModal();
  sheet.scrollTop = 0;
  heading.focus();
}

function titleOf({ stage, title, part, parts }) {
  if (stage !== "questions") return title;
  return part < parts ? `Part ${part + 1} of ${parts} is over` : "The last questions";
}

function question({ name, text, choices, length, required }) {
  const asked = required ? text : `${text} (optional)`;
  if (choices.length) {
    const group = element("fieldset");
    group.append(element("legend", asked), ...choices.map((choice) => option(name, choice, required)));
    return group;
  }
  const label = element("label", asked);
  label.append(Object.assign(element("textarea"), { name, required, maxLength: length, rows: 3 }));
  return label;
}

function option(name, value, required) {
  const label = element("label");
  label.append(Object.assign(element("input"), { type: "radio", name, value, required }), value);
  return label;
}

function element(name, text = "") {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

async function patiently(request) {
  for (;;) {
    try {
      return await request();
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      await pause();
    }
  }
}

function pause() {
  return new Promise((resolve) => setTimeout(resolve, RETRY_MS));
}
