// What a person does with a video: shown at once, recorded, and sent.

import { Comments } from "./comments.js";
import { show, showAway } from "./messages.js";
import { identifier } from "./numbers.js";
import { Outbox } from "./outbox.js";
import { copyLink } from "./share.js";

export class Actions {
  comments = new Comments((slide, text) => this.#comment(slide, text));
  outbox = new Outbox(showAway, (event, why) => this.#refused(event, why));
  #told;

  // `told` has the methods go(step) and pause().
  constructor(told) {
    this.#told = told;
  }

  act(slide, action) {
    const { my } = slide.exposure;
    if (action === "like") {
      my.liked = !my.liked;
      slide.exposure.likes += my.liked ? 1 : -1;
      this.#do(slide, my.liked ? "like" : "unlike");
    } else if (action === "favourite") {
      my.favourite = !my.favourite;
      this.#do(slide, my.favourite ? "favourite" : "unfavourite");
    } else if (action === "not-interested") {
      this.#do(slide, "not-interested");
      show("You will see less of this.");
      this.#told.go(1);
    } else if (action === "comment") this.comments.open(slide);
    else if (action === "share") this.#share(slide);
    else this.#told.pause();
  }

  // Record an event of a slide, which is sent with the next ones.
  record(slide, kind, facts = {}) {
    const { request_id, position } = slide.exposure;
    const event = { id: identifier(), kind, request_id, position, at: Date.now(), ...facts };
    this.outbox.add(slide.session, event);
  }

  // Record something that the person did on purpose, and send it at once.
  #do(slide, kind, facts = {}) {
    slide.refresh();
    this.record(slide, kind, facts);
    this.outbox.flush();
  }

  #comment(slide, text) {
    slide.exposure.comments += 1;
    this.#do(slide, "comment", { text });
  }

  async #share(slide) {
    await copyLink(slide.exposure.item);
    this.#do(slide, "share");
  }

  #refused(event, why) {
    if (event?.kind === "comment") show(`Your comment was not accepted: ${why}.`);
  }
}
