// The items on the page of the operator: search, take down, restore, pin.

import { ago } from "./numbers.js";
import { fill } from "./rows.js";
import { get, post } from "./server.js";

const PAUSE_MS = 250; // in typing
const template = document.getElementById("item");

export class ItemList {
  #section = document.getElementById("items");
  #form = this.#section.querySelector("form");
  #timer = 0;
  #asked = 0;
  #act;
  #tell;

  // act(button, doing, request) does something on the server; tell(text, isWrong) says what happened.
  constructor(act, tell) {
    this.#act = act;
    this.#tell = tell;
    this.#form.addEventListener("submit", (event) => event.preventDefault());
    this.#form.addEventListener("input", () => {
      clearTimeout(this.#timer);
      this.#timer = setTimeout(() => this.#read(), PAUSE_MS);
    });
    this.#read();
  }

  async #read() {
    const asked = ++this.#asked;
    const { search, among } = this.#form.elements;
    try {
      const query = new URLSearchParams({ search: search.value, among: among.value });
      const { items, found } = await get(`/api/admin/items?${query}`);
      if (asked === this.#asked) this.#show(items, found);
    } catch (error) {
      this.#tell(`The items cannot be read: ${error.message}`, true);
    }
  }

  #show(items, found) {
    const listed = items.length < found ? `, the first ${items.length} of them` : "";
    this.#section.querySelector(".found").textContent = `${found.toLocaleString("en")} items${listed}`;
    fill(this.#section.querySelector("ul"), items, {
      key: ({ item }) => item,
      make: ({ item }) => this.#make(item),
      show: describe,
    });
  }

  #make(item) {
    const row = template.content.firstElementChild.cloneNode(true);
    const on = (selector, rule, done) =>
      row.querySelector(selector).addEventListener("click", (event) => this.#rule(event.target, item, rule, done));
    on(".down", { state: "taken-down" }, "is taken down");
    on(".restore", {}, "may be shown again");
    on(".unpin", {}, "is not pinned any more");
    row.querySelector(".pin").addEventListener("submit", (event) => {
      event.preventDefault();
      const pin = row.querySelector(".pin input").valueAsNumber;
      this.#rule(row.querySelector(".pin button"), item, { pin }, `comes at position ${pin} of every session`);
    });
    return row;
  }

  async #rule(button, item, rule, done) {
    const row = button.closest("li");
    await this.#act(button, "...", async () => {
      await post(`/api/admin/items/${encodeURIComponent(item)}`, rule);
      await this.#read();
      return `Item ${item} ${done}.`;
    });
    // the button that was pressed may have given way to another one
    const buttons = [button, ...row.querySelectorAll("button")];
    buttons.find((one) => one.checkVisibility())?.focus();
  }
}

function describe(row, { item, title, tag, state, pin, hidden, uploaded }) {
  const isDown = state === "taken-down";
  const name = title || `Item ${item}`;
  const facts = [`item ${item}`, tag, uploaded && `uploaded ${ago(uploaded)}`, isDown && "taken down"];
  facts.push(pin && `pinned to position ${pin}`, hidden && "not shown because of its tag");
  row.querySelector("h3").textContent = name;
  row.querySelector(".facts").textContent = facts.filter(Boolean).join(" · ");
  row.classList.toggle("off", isDown || hidden);
  row.querySelector(".down").hidden = isDown;
  row.querySelector(".restore").hidden = !isDown;
  row.querySelector(".unpin").hidden = isDown || !pin;
  row.querySelector(".pin").hidden = isDown || Boolean(pin);
  for (const button of row.querySelectorAll("button")) button.setAttribute("aria-label", `${button.textContent}: ${name}`);
}
