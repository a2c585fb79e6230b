// The panel that says why a video was chosen.

const REASONS = {
  model: "highest score of the model",
  popular: "popular, because you have no history yet",
  explored: "explored, to learn what people think of it",
  pinned: "pinned by the operator",
  opened: "opened by its link",
  again: "shown again, because you have seen everything",
};
const panel = document.getElementById("why");

export function showWhy({ model, why }) {
  panel.hidden = !why;
  if (!why) return;
  const facts = {
    Model: model,
    Reason: REASONS[why.reason] ?? why.reason,
    Score: why.score === null ? "none" : why.score.toFixed(3),
    Rank: why.rank === null ? "none" : `${why.rank.toLocaleString("en")} of ${why.of.toLocaleString("en")}`,
    Item: why.cold ? "cold: nobody had it in training" : "warm: known from training",
    Exploration: why.explored ? "yes" : "no",
    Propensity: why.propensity.toPrecision(3),
  };
  panel.querySelector("dl").replaceChildren(
    ...Object.entries(facts).flatMap(([name, value]) => [element("dt", name), element("dd", value)]),
  );
  const nearest = why.nearest.map((near) => {
    const line = element("li", near.title || near.item);
    line.prepend(element("span", near.similarity.toFixed(2)));
    return line;
  });
  panel.querySelector("ul").replaceChildren(...nearest);
  for (const part of panel.querySelectorAll("h3, ul")) part.hidden = !nearest.length;
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}
