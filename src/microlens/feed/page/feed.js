// The feed: asks for items, shows one at a time, and tells the server what the person does.

import { Actions } from "./actions.js";
import { listenToKeys, listenToWheel } from "./controls.js";
import { say, show, showAway } from "./messages.js";
import { Part } from "./part.js";
import { post } from "./server.js";
import { Slide } from "./slide.js";
import { UploadSheet } from "./upload.js";
import { showWhy } from "./why.js";

const MOST_AT_ONCE = 5;
const PROGRESS_MS = 5000;
const RELEASE_MS = 700;
const SKIP_MS = 1500;
const MOST_BROKEN = 5;
const LONGEST_WAIT_MS = 10_000;

class Feed {
  #list = document.getElementById("feed");
  #sound = document.getElementById("sound");
  #actions = new Actions({ go: (step) => this.#go(step), pause: () => this.#pause() });
  #uploads = new UploadSheet();
  #address = new URLSearchParams(location.search);
  #opened = this.#address.get("item");
  #participant = this.#address.get("participant"); // in a study
  #part = new Part();
  #going = null; // on with the study, while it has something to say
  #session = null;
  #preload = 2;
  #slides = [];
  #current = -1;
  #aim = null; // the slide that is being scrolled to
  #isMuted = true;
  #isAsking = false;
  #brokenInRow = 0;
  #seen = new IntersectionObserver(() => this.#scrolled(), { root: this.#list, threshold: 0.6 });

  async start() {
    document.getElementById("next").addEventListener("click", () => this.#go(1));
    document.getElementById("previous").addEventListener("click", () => this.#go(-1));
    this.#sound.addEventListener("click", () => this.#mute(!this.#isMuted));
    this.#list.addEventListener("scrollend", () => this.#scrolled(true));
    this.#list.addEventListener("pointerdown", () => (this.#aim = null)); // a finger goes where it wants
    listenToWheel(this.#list, (step) => this.#go(step));
    listenToKeys({
      go: (step) => this.#go(step),
      pause: () => this.#pause(),
      mute: () => this.#mute(!this.#isMuted),
    });
    addEventListener("pagehide", () => this.#leave());
    addEventListener("pageshow", (event) => event.persisted && this.#slide?.play(this.#isMuted));
    document.addEventListener("visibilitychange", () => this.#visibility());
    setInterval(() => this.#progress(), PROGRESS_MS);
    this.#mute(true);
    await this.#more();
  }

  get #slide() {
    return this.#slides[this.#current];
  }

  async #begin() {
    const answer = await post("/api/sessions", { participant: this.#participant });
    this.#session = answer.session;
    this.#part.begin(answer.ends_in_ms, () => this.#endPart());
    this.#preload = answer.preload;
    this.#actions.comments.longest = answer.comment_length;
    this.#uploads.offer(answer.upload);
  }

  // Ask for items until enough lie ahead.
  async #more() {
    if (this.#isAsking || this.#part.hasEnded) return;
    this.#isAsking = true;
    this.#list.setAttribute("aria-busy", "true");
    for (let failures = 0; this.#missing() > 0; ) {
      try {
        if (!(await this.#ask())) break;
        showAway(false);
        failures = 0;
      } catch (error) {
        failures += 1;
        await this.#recover(error);
        await pause(Math.max(error.retryMs ?? 0, Math.min(LONGEST_WAIT_MS, 250 * 2 ** failures)));
      }
    }
    this.#list.setAttribute("aria-busy", "false");
    this.#isAsking = false;
  }

  #missing() {
    return Math.max(0, this.#current) + 1 + Math.max(1, this.#preload) - this.#slides.length;
  }

  async #ask() {
    if (!this.#session) await this.#begin();
    const wanted = { session: this.#session, count: Math.min(MOST_AT_ONCE, this.#missing()) };
    await this.#actions.outbox.flush(); // what was done changes what comes next
    if (this.#opened) wanted.item = this.#opened;
    if (this.#address.has("why")) wanted.why = true;
    const { exposures, used_up: isUsedUp, ended: hasEnded } = await post("/api/next", wanted);
    this.#opened = null;
    if (this.#part.hasEnded) return false; // its time is up meanwhile
    if (isUsedUp) show("You have seen everything. It begins again.");
    for (const exposure of exposures) this.#append(exposure);
    if (hasEnded) return this.#addEnd();
    if (!this.#slides.length) show("There is nothing to show.");
    return exposures.length > 0;
  }

  async #recover(error) {
    if (error.status === 403) {
      await (this.#going ??= this.#goOn());
    } else if (error.status === 404 && this.#opened) {
      this.#opened = null;
      show("The video of this link is not here any more.");
    } else if (error.status === 401 || error.status === 404) {
      this.#session = null;
    } else if (error.status !== undefined) {
      showAway(true);
    } else {
      throw error;
    }
  }

  // A study says what comes next: consent, questions, or videos again.
  async #goOn() {
    const { takePart } = await import("./study.js");
    await takePart(this.#participant);
    this.#list.scrollTo({ top: 0, behavior: "instant" }); // ends a movement that is still on its way
    this.#cut(0);
    this.#current = -1;
    this.#session = this.#going = null;
    this.#part.begin(null);
  }

  #addEnd() {
    const end = this.#part.end(() => this.#leavePart());
    this.#list.append(end);
    this.#seen.observe(end);
    if (!this.#slides.length) this.#leavePart();
    return false;
  }

  // The time of a part is up: the present video may be watched to its end.
  #endPart() {
    this.#cut(this.#current + 1);
    this.#addEnd();
    show("The time of this part is up. Go on when you like.");
  }

  async #leavePart() {
    if (!this.#session) return;
    this.#session = null;
    if (this.#slide) this.#leaveSlide(this.#slide);
    while (!(await this.#actions.outbox.flush())) await pause(1000);
    await (this.#going ??= this.#goOn());
    this.#more();
  }

  #cut(index, count = Infinity) {
    for (const slide of this.#slides.splice(index, count)) {
      slide.release();
      this.#seen.unobserve(slide.element);
      slide.element.remove();
    }
  }

  #append(exposure) {
    const slide = new Slide(exposure, this.#session, {
      act: (acting, action) => this.#actions.act(acting, action),
      started: (started) => this.#started(started),
      silenced: () => this.#mute(true),
      broken: (broken, reason) => this.#broken(broken, reason),
    });
    this.#slides.push(slide);
    this.#list.append(slide.element);
    this.#seen.observe(slide.element);
    if (this.#current >= 0) this.#loadAhead();
  }

  // On the way to a slide that was asked for, the slides in between do not count, nor the end of an earlier movement.
  #scrolled(hasRested = false) {
    const index = Math.round(this.#list.scrollTop / this.#list.clientHeight);
    if (index === this.#slides.length && this.#part.arrive() && hasRested) this.#leavePart();
    if (!(index in this.#slides) || (this.#aim !== null && index !== this.#aim)) return;
    this.#aim = null;
    if (index !== this.#current) this.#enter(index);
  }

  #enter(index) {
    const former = this.#slide;
    if (former) this.#leaveSlide(former);
    const hadFocus = !former || former.element.contains(document.activeElement);
    this.#current = index;
    const slide = this.#slide;
    for (const other of this.#slides) other.element.inert = other !== slide;
    if (hadFocus && former && !this.#actions.comments.isOpen) slide.element.focus({ preventScroll: true });
    if (!slide.hasBeenSeen) this.#actions.record(slide, "impression");
    slide.hasBeenSeen = true;
    slide.load();
    if (!document.hidden) slide.play(this.#isMuted);
    this.#loadAhead();
    setTimeout(() => this.#releaseOthers(), RELEASE_MS);
    showWhy(slide.exposure);
    say([slide.name, slide.exposure.tag].filter(Boolean).join(", "));
    this.#more();
  }

  #leaveSlide(slide) {
    slide.pause();
    this.#actions.record(slide, "end", slide.media.watched);
  }

  #loadAhead() {
    for (const slide of this.#slides.slice(this.#current + 1, this.#current + 1 + this.#preload)) slide.load();
  }

  #releaseOthers() {
    this.#slides.forEach((slide, index) => {
      if (index < this.#current || index > this.#current + this.#preload) slide.release();
    });
  }

  #go(step) {
    const last = this.#slides.length - 1;
    const wanted = this.#current + step;
    if (wanted > last && this.#part.hasEnded) this.#leavePart();
    if (wanted < 0 || wanted > last) return;
    this.#aim = wanted;
    this.#enter(wanted); // plays before the scrolling ends
    const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "instant" : "smooth";
    this.#slides[wanted].element.scrollIntoView({ behavior, block: "start" });
  }

  #pause() {
    const isPaused = this.#slide?.toggle(this.#isMuted);
    say(isPaused ? "Paused" : "Playing");
    if (isPaused) this.#actions.record(this.#slide, "progress", this.#slide.media.watched);
  }

  #mute(isMuted) {
    const isChanged = isMuted !== this.#isMuted;
    this.#isMuted = isMuted;
    this.#sound.setAttribute("aria-pressed", !isMuted);
    this.#sound.querySelector("use").setAttribute("href", isMuted ? "#silent" : "#speaker");
    if (isChanged) this.#sound.classList.add("known");
    if (!this.#slide) return;
    this.#slide.media.muted = isMuted;
    if (!this.#slide.isPaused) this.#slide.play(isMuted);
  }

  #started(slide) {
    this.#brokenInRow = 0;
    this.#actions.record(slide, "start");
  }

  #progress() {
    const slide = this.#slide;
    if (slide && !slide.isPaused && !document.hidden) this.#actions.record(slide, "progress", slide.media.watched);
  }

  // A video that cannot be played is reported; one ahead is left out, the current one is skipped after a moment.
  #broken(slide, reason) {
    const index = this.#slides.indexOf(slide);
    if (index < 0 || slide.isBroken) return;
    slide.isBroken = true;
    this.#actions.record(slide, "error", { reason: reason.slice(0, 500) });
    this.#brokenInRow += 1;
    slide.release();
    slide.note("This video cannot be played.");
    if (this.#brokenInRow > MOST_BROKEN) return;
    if (index > this.#current) {
      this.#cut(index, 1);
      this.#more();
    } else if (index === this.#current) {
      show("This video cannot be played. Going on.");
      setTimeout(() => this.#slide === slide && this.#go(1), SKIP_MS);
    }
  }

  #visibility() {
    if (document.hidden) this.#leave();
    else if (this.#slide && !this.#slide.isPaused) this.#slide.play(this.#isMuted);
  }

  #leave() {
    if (!this.#slide) return;
    this.#slide.media.pause();
    this.#actions.record(this.#slide, "progress", this.#slide.media.watched);
    this.#actions.outbox.beacon();
  }
}

function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

history.scrollRestoration = "manual";
new Feed().start();
