// A part of a study: it ends with a slide after its last video, or when its time is up.

const MARGIN_MS = 1000; // the server counts from the first video, a little later than the page
const template = document.getElementById("part-end");

export class Part {
  #end = null;
  #timer = 0;

  get hasEnded() {
    return this.#end !== null;
  }

  // Begin a part; `onTimeUp` is called after `milliseconds`, if there is a limit.
  begin(milliseconds, onTimeUp) {
    this.#end?.remove();
    this.#end = null;
    clearTimeout(this.#timer);
    if (milliseconds !== null) this.#timer = setTimeout(onTimeUp, milliseconds + MARGIN_MS);
  }

  // The slide that comes after the last video; it calls `onGoOn`.
  end(onGoOn) {
    clearTimeout(this.#timer);
    if (!this.#end) {
      this.#end = template.content.firstElementChild.cloneNode(true);
      this.#end.querySelector("button").addEventListener("click", onGoOn);
    }
    return this.#end;
  }

  // The participant is at that slide; false if there is none yet.
  arrive() {
    if (this.#end) this.#end.inert = false;
    return this.hasEnded;
  }
}
