// How long something has been watched: a video by its own clock, all loops included; anything else by the time on screen.

export class Watch {
  loops = 0;
  #milliseconds = 0;
  #last = null;

  get milliseconds() {
    return Math.round(this.#milliseconds);
  }

  // Note the position of the clock, in ms; `length` is where a video begins again.
  read(position, length = Infinity) {
    if (this.#last !== null) {
      const step = position - this.#last;
      if (step < 0) {
        this.loops += 1;
        this.#milliseconds += Math.max(0, length - this.#last) + position;
      } else {
        this.#milliseconds += step;
      }
    }
    this.#last = position;
  }

  // Stop; the next position may be anywhere.
  rest() {
    this.#last = null;
  }
}
