// One item on the screen: its picture, its texts and its buttons.

import { Media } from "./media.js";
import { counted, short } from "./numbers.js";

const TALLEST = 9 / 16;
const WIDEST = 16 / 9;
const DOUBLE_TAP_MS = 280;
const template = document.getElementById("slide");
let number = 0;

export class Slide {
  exposure;
  session; // the visit in which it is shown
  element;
  media;
  hasStarted = false;
  hasBeenSeen = false;
  isPaused = false;
  isBroken = false;
  #told;
  #tap = 0;

  // `told` has the methods act(slide, action), started(slide), silenced(), broken(slide, reason).
  constructor(exposure, session, told) {
    this.exposure = exposure;
    this.session = session;
    this.#told = told;
    this.element = template.content.firstElementChild.cloneNode(true);
    this.element.inert = true;
    this.#describe();
    this.#addPicture();
    this.element.querySelector(".actions").addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) told.act(this, button.dataset.action);
    });
    this.#part(".stage").addEventListener("click", (event) => this.#tapped(event));
    this.refresh();
  }

  get name() {
    const { title, item } = this.exposure;
    return title || `Video ${item}`;
  }

  // Show what the person did, and the counts.
  refresh() {
    const { likes, comments, my } = this.exposure;
    this.#button("like").setAttribute("aria-pressed", my.liked);
    this.#button("favourite").setAttribute("aria-pressed", my.favourite);
    this.#button("like").querySelector(".count").textContent = short(likes);
    this.#button("comment").querySelector(".count").textContent = short(comments);
  }

  play(muted) {
    this.#pausedIs(false);
    this.media.play(muted);
  }

  pause() {
    this.media.pause();
  }

  // Pause or go on, as the person wishes; returns whether it is paused now.
  toggle(muted) {
    if (this.isPaused) this.play(muted);
    else this.pause();
    this.#pausedIs(!this.isPaused && this.media.isVideo);
    return this.isPaused;
  }

  load() {
    this.media.load();
    for (const image of this.element.querySelectorAll("img[data-src]")) {
      image.src = image.dataset.src;
      image.removeAttribute("data-src");
    }
  }

  release() {
    this.media.release();
  }

  note(text) {
    this.#part(".note").textContent = text;
    this.#part(".note").hidden = false;
  }

  #part(selector) {
    return this.element.querySelector(selector);
  }

  #button(action) {
    return this.#part(`[data-action="${action}"]`);
  }

  #describe() {
    const { title_original: original, tag, views, video, playable } = this.exposure;
    const title = this.#part(".title");
    title.textContent = this.name;
    title.id = `title-${++number}`;
    this.element.setAttribute("aria-labelledby", title.id);
    this.element.setAttribute("aria-posinset", number);
    this.element.setAttribute("aria-setsize", -1);
    this.#part(".original").textContent = original ?? "";
    this.#part(".original").hidden = !original || original === this.exposure.title;
    this.#part(".tag").textContent = tag;
    this.#part(".tag").hidden = !tag;
    this.#part(".views").textContent = counted(views, "view");
    this.#part(".card").textContent = this.name;
    if (video && !playable) this.note("Browsers do not play the format of this video.");
  }

  #addPicture() {
    const { cover, width, height } = this.exposure;
    if (width && height) this.#shape(width, height);
    for (const image of this.element.querySelectorAll("img")) {
      if (!cover) continue;
      image.dataset.src = cover;
      image.addEventListener("load", () => {
        image.hidden = false;
        this.element.classList.add("covered");
        if (!width) this.#shape(image.naturalWidth, image.naturalHeight);
      });
    }
    const video = this.#part("video");
    video.setAttribute("aria-label", this.name);
    this.media = new Media(video, this.exposure, {
      started: () => this.#started(),
      moved: (share) => this.#part(".watched div").style.setProperty("--share", share),
      shaped: (wide, high) => this.#shape(wide, high),
      silenced: () => this.#told.silenced(),
      paused: (isPaused) => this.#pausedIs(isPaused),
      broken: (reason) => this.#told.broken(this, reason),
    });
    this.element.classList.toggle("still", !this.media.isVideo);
  }

  #started() {
    if (this.hasStarted) return;
    this.hasStarted = true;
    this.#told.started(this);
  }

  #shape(width, height) {
    this.element.style.setProperty("--ratio", Math.min(WIDEST, Math.max(TALLEST, width / height)));
  }

  #pausedIs(isPaused) {
    this.isPaused = isPaused;
    this.element.classList.toggle("paused", isPaused);
  }

  // One tap pauses or goes on, two taps like.
  #tapped(event) {
    if (this.#tap) {
      clearTimeout(this.#tap);
      this.#tap = 0;
      this.#burst(event);
      if (!this.exposure.my.liked) this.#told.act(this, "like");
      return;
    }
    this.#tap = setTimeout(() => {
      this.#tap = 0;
      this.#told.act(this, "pause");
    }, DOUBLE_TAP_MS);
  }

  #burst(event) {
    const heart = this.#part(".burst");
    const { left, top } = this.#part(".stage").getBoundingClientRect();
    heart.style.left = `${event.clientX - left}px`;
    heart.style.top = `${event.clientY - top}px`;
    heart.classList.remove("flying");
    heart.getBoundingClientRect(); // so that the animation begins again
    heart.classList.add("flying");
  }
}
