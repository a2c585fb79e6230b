// The sheet of comments of a video.

import { say } from "./messages.js";
import { ago, short } from "./numbers.js";
import { get } from "./server.js";

const template = document.getElementById("comment");

export class Comments {
  #sheet = document.getElementById("comments");
  #list = this.#sheet.querySelector("ol");
  #older = this.#sheet.querySelector(".older");
  #empty = this.#sheet.querySelector(".empty");
  #text = this.#sheet.querySelector("textarea");
  #slide = null;
  #before = null;
  #write;

  // write(slide, text) is called for a new comment.
  constructor(write) {
    this.#write = write;
    this.#older.addEventListener("click", () => this.#read(this.#slide));
    this.#sheet.querySelector("form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    this.#text.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.#send();
      }
    });
    this.#text.addEventListener("input", () => this.#grow());
    closeByClick(this.#sheet);
  }

  set longest(length) {
    this.#text.maxLength = length;
  }

  get isOpen() {
    return this.#sheet.open;
  }

  open(slide) {
    this.#slide = slide;
    this.#before = null;
    this.#list.replaceChildren();
    this.#empty.hidden = true;
    this.#showCount();
    this.#sheet.showModal();
    return this.#read(slide);
  }

  async #read(slide) {
    const page = this.#before ? `?before=${this.#before}` : "";
    this.#older.hidden = true;
    try {
      const { comments, before } = await get(`/api/items/${encodeURIComponent(slide.exposure.item)}/comments${page}`);
      if (slide !== this.#slide) return;
      this.#list.append(...comments.map(entry));
      this.#before = before;
      this.#older.hidden = before === null;
      this.#empty.hidden = this.#list.childElementCount > 0;
    } catch {
      this.#empty.hidden = true;
      say("The comments cannot be read now.");
    }
  }

  #send() {
    const text = this.#text.value.trim();
    if (!text) return;
    this.#write(this.#slide, text);
    this.#list.prepend(entry({ mine: true, by: "", text, at: Date.now() }));
    this.#empty.hidden = true;
    this.#text.value = "";
    this.#grow();
    this.#showCount();
    this.#list.firstElementChild.scrollIntoView({ block: "nearest" });
    say("Comment sent");
  }

  #grow() {
    this.#text.style.height = "auto";
    this.#text.style.height = `${this.#text.scrollHeight}px`;
  }

  #showCount() {
    const { comments } = this.#slide.exposure;
    this.#sheet.querySelector("h2").textContent = comments ? `Comments ${short(comments)}` : "Comments";
  }
}

// Close a sheet by its button, and by a click beside it.
export function closeByClick(sheet) {
  sheet.querySelector(".close").addEventListener("click", () => sheet.close());
  sheet.addEventListener("click", (event) => {
    const { left, right, top, bottom } = sheet.getBoundingClientRect();
    const { clientX: x, clientY: y } = event;
    if (event.target === sheet && (x < left || x > right || y < top || y > bottom)) sheet.close();
  });
}

function entry({ mine, by, text, at }) {
  const element = template.content.firstElementChild.cloneNode(true);
  element.querySelector(".by").textContent = `${mine ? "You" : by} · ${ago(at)}`;
  element.querySelector(".text").textContent = text;
  return element;
}
