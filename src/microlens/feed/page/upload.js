// The sheet with which a video is uploaded.

import { closeByClick } from "./comments.js";
import { show } from "./messages.js";
import { send } from "./server.js";

const STEP = 0.25; // of the file, between two messages to screen readers

export class UploadSheet {
  #button = document.getElementById("upload");
  #sheet = document.getElementById("upload-sheet");
  #form = this.#sheet.querySelector("form");
  #fields = this.#sheet.querySelector("fieldset");
  #progress = this.#sheet.querySelector("progress");
  #state = this.#sheet.querySelector(".state");
  #fault = this.#sheet.querySelector(".fault");
  #submit = this.#sheet.querySelector("[type=submit]");
  #cancel = this.#sheet.querySelector(".cancel");
  #watch = this.#sheet.querySelector(".watch");
  #mostBytes = 0;
  #stopping = null;

  constructor() {
    this.#button.addEventListener("click", () => this.#sheet.showModal());
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#upload();
    });
    this.#cancel.addEventListener("click", () => this.#stopping?.abort());
    closeByClick(this.#sheet);
  }

  // Offer uploading within the limits of the server, or not at all if it takes no videos.
  offer(limits) {
    this.#button.hidden = !limits;
    if (!limits) return;
    this.#mostBytes = limits.bytes;
    this.#form.elements.title.maxLength = limits.title_length;
    this.#sheet.querySelector("#upload-limits").textContent =
      `At most ${megabytes(limits.bytes)} and ${duration(limits.seconds)}.`;
    this.#sheet.querySelector("#upload-title-hint").textContent =
      `Whom the video is shown to depends on its ${limits.ranked_by.join(" and ")}.`;
    const options = limits.tags.map((tag) => new Option(tag, tag));
    if (limits.tags_only) this.#choice(options);
    else this.#sheet.querySelector("datalist").replaceChildren(...options);
  }

  // Let people choose among some tags only.
  #choice(options) {
    const select = document.createElement("select");
    select.id = this.#form.elements.tag.id;
    select.name = "tag";
    select.append(...options);
    this.#form.elements.tag.replaceWith(select);
    this.#sheet.querySelector("#upload-tag-hint").hidden = true;
  }

  async #upload() {
    const [file] = this.#form.elements.file.files;
    this.#tell("", "");
    this.#watch.hidden = true;
    if (file.size > this.#mostBytes) {
      this.#tell("", `The file has ${megabytes(file.size)}; accepted are up to ${megabytes(this.#mostBytes)}.`);
      return;
    }
    const form = new FormData(this.#form);
    this.#stopping = new AbortController();
    this.#isBusy(true);
    try {
      const sent = (share) => this.#sent(share);
      this.#done(await send("/api/items", form, { signal: this.#stopping.signal, sent }));
    } catch (error) {
      this.#failed(error);
    }
  }

  #isBusy(isBusy) {
    this.#fields.disabled = isBusy;
    this.#submit.hidden = isBusy;
    this.#cancel.hidden = !isBusy;
    this.#progress.hidden = !isBusy;
    this.#progress.value = 0;
    if (isBusy) this.#cancel.focus();
  }

  #sent(share) {
    if (share < 1) {
      this.#progress.value = share;
      const percent = 100 * STEP * Math.floor(share / STEP);
      this.#tell(percent ? `${percent} % sent` : "Sending", "");
    } else {
      this.#progress.removeAttribute("value");
      if (this.#cancel === document.activeElement) this.#sheet.querySelector(".close").focus();
      this.#cancel.hidden = true; // it is in the hands of the server now
      this.#tell("The server checks the video. This can take a minute.", "");
    }
  }

  #done({ item, title }) {
    this.#isBusy(false);
    this.#form.reset();
    this.#tell(`"${title}" is in the feed now.`, "");
    this.#watch.href = `/?item=${encodeURIComponent(item)}`;
    this.#watch.hidden = false;
    if (this.#sheet.open) this.#watch.focus();
    else show("Your video is in the feed now.");
  }

  #failed(error) {
    this.#isBusy(false);
    this.#submit.focus();
    if (error.name === "AbortError") {
      this.#tell("The upload was stopped.", "");
      return;
    }
    const why = error.message.charAt(0).toUpperCase() + error.message.slice(1);
    this.#tell("", /[.!?]$/.test(why) ? why : `${why}.`);
    if (!this.#sheet.open) show("Your video was not accepted.");
  }

  #tell(state, fault) {
    if (this.#state.textContent !== state) this.#state.textContent = state;
    this.#fault.textContent = fault;
  }
}

function megabytes(bytes) {
  const size = bytes / 2 ** 20;
  return size < 10 ? `${Math.ceil(10 * size) / 10} MB` : `${Math.ceil(size)} MB`;
}

function duration(seconds) {
  if (seconds < 120 || seconds % 60) return `${seconds} seconds`;
  return `${seconds / 60} minutes`;
}
