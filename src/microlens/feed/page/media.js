// The picture of a slide: a video that is loaded ahead and released afterwards, or a still.

import { exists } from "./server.js";
import { Watch } from "./watch.js";

const AGAIN_MS = 2000;
const LONGEST_START_MS = 15_000;
const MEDIA_ERRORS = ["", "aborted", "network error", "cannot be decoded", "format not supported"];

export class Media {
  #video;
  #exposure;
  #watch = new Watch();
  #isVideo;
  #isOn = false; // it is the current one and not paused
  #durationMs;
  #timers = { again: 0, start: 0, still: 0 };
  #told;

  // `told` has the methods started(), moved(share), shaped(width, height), silenced(), paused(isPaused), broken(reason).
  constructor(video, exposure, told) {
    this.#video = video;
    this.#exposure = exposure;
    this.#told = told;
    this.#isVideo = Boolean(exposure.video && exposure.playable);
    this.#durationMs = exposure.duration_ms;
    if (this.#isVideo) this.#listen();
  }

  get isVideo() {
    return this.#isVideo;
  }

  // What has been watched so far, as events tell it.
  get watched() {
    this.#read();
    const facts = { watched_ms: this.#watch.milliseconds, loops: this.#watch.loops };
    return this.#durationMs ? { ...facts, duration_ms: this.#durationMs } : facts;
  }

  load() {
    if (!this.#isVideo || this.#video.hasAttribute("src")) return;
    this.#video.src = this.#exposure.video;
    this.#video.hidden = false;
  }

  release() {
    this.pause();
    if (!this.#isVideo || !this.#video.hasAttribute("src")) return;
    this.#video.removeAttribute("src");
    this.#video.load();
    this.#video.hidden = true;
    this.#video.classList.remove("shown");
  }

  async play(muted) {
    this.#stopTimers();
    this.#isOn = true;
    if (!this.#isVideo) {
      this.#read();
      this.#timers.still = setInterval(() => this.#read(), 1000);
      return;
    }
    this.load();
    this.#video.muted = muted;
    this.#timers.start = setTimeout(() => this.#late(), LONGEST_START_MS);
    try {
      await this.#video.play();
    } catch (error) {
      if (error.name !== "NotAllowedError" || !this.#isOn) return;
      if (muted) this.#told.paused(true);
      else this.#told.silenced(); // browsers let only silent videos start by themselves
    }
  }

  pause() {
    this.#read();
    this.#isOn = false;
    this.#watch.rest();
    this.#stopTimers();
    if (this.#isVideo) this.#video.pause();
  }

  #stopTimers() {
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
  }

  set muted(muted) {
    this.#video.muted = muted;
  }

  #listen() {
    const video = this.#video;
    video.addEventListener("loadedmetadata", () => this.#known());
    video.addEventListener("loadeddata", () => video.classList.add("shown"));
    video.addEventListener("timeupdate", () => this.#read());
    video.addEventListener("playing", () => {
      clearTimeout(this.#timers.start);
      this.#read();
      this.#told.paused(false);
      this.#told.started();
    });
    video.addEventListener("error", () => this.#failed());
  }

  #known() {
    const { videoWidth, videoHeight, duration } = this.#video;
    if (!videoWidth) {
      this.#told.broken("this browser shows no picture of it");
      return;
    }
    if (Number.isFinite(duration)) this.#durationMs = Math.round(1000 * duration);
    this.#told.shaped(videoWidth, videoHeight);
  }

  #read() {
    if (!this.#isOn) return;
    if (!this.#isVideo) {
      this.#watch.read(performance.now());
      return;
    }
    if (!this.#video.hasAttribute("src") || this.#video.seeking) return;
    const { currentTime, duration } = this.#video;
    this.#watch.read(1000 * currentTime, 1000 * duration);
    this.#told.moved(duration ? currentTime / duration : 0);
  }

  async #failed() {
    if (!this.#video.hasAttribute("src")) return;
    const { code = 0, message = "" } = this.#video.error ?? {};
    clearTimeout(this.#timers.start);
    try {
      const isThere = await exists(this.#exposure.video);
      this.#told.broken(isThere ? `${MEDIA_ERRORS[code] ?? "error"} ${message}`.trim() : "the file is gone");
    } catch {
      this.#timers.again = setTimeout(() => this.#retry(), AGAIN_MS); // the server is away, the video may be good
    }
  }

  #retry() {
    if (!this.#video.hasAttribute("src")) return;
    this.#video.load();
    if (this.#isOn) this.play(this.#video.muted);
  }

  async #late() {
    if (this.#video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) return;
    const isThere = await exists(this.#exposure.video).catch(() => null);
    if (isThere === null) this.#retry();
    else if (this.#isOn) this.#told.broken("it did not start");
  }
}
