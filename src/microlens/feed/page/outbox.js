// Events on their way to the server. Each is kept in the browser until the server has answered that it is stored, also
// when the page is closed meanwhile; the server knows events by their ids, so that sending one twice counts once.

import { ServerError, post } from "./server.js";

const PREFIX = "microlens.event.";
const MOST_AT_ONCE = 200;
const BEACON_BYTES = 60_000;
const DELAY_MS = 2000;
const LONGEST_WAIT_MS = 30_000;
const NEVER_STORED = [404, 413, 422];

export class Outbox {
  #waiting = new Map(); // {session, event} by event id, oldest first
  #sending = null;
  #timer = 0;
  #failures = 0;
  #onState;
  #onRefused;

  // onState(isAway) follows whether the server answers; onRefused(event, why) is called for events that it refuses.
  constructor(onState, onRefused) {
    this.#onState = onState;
    this.#onRefused = onRefused;
    for (const entry of stored().sort((a, b) => a.event.at - b.event.at)) this.#waiting.set(entry.event.id, entry);
    addEventListener("online", () => this.flush());
  }

  add(session, event) {
    const entry = { session, event };
    this.#waiting.set(event.id, entry);
    try {
      localStorage.setItem(PREFIX + event.id, JSON.stringify(entry));
    } catch {
      // no storage, or no room in it: the event is kept until the page closes
    }
    if (!this.#failures) this.#sendAfter(DELAY_MS);
  }

  // Send everything; false if the server does not store it now.
  flush() {
    this.#sending ??= this.#sendAll().finally(() => {
      this.#sending = null;
    });
    return this.#sending;
  }

  // Send everything without waiting for an answer, because the page may be about to close.
  beacon() {
    for (const session of new Set([...this.#waiting.values()].map((entry) => entry.session))) {
      let events = this.#eventsOf(session);
      let body = JSON.stringify({ session, events });
      while (body.length > BEACON_BYTES) {
        events = events.slice(0, events.length / 2);
        body = JSON.stringify({ session, events });
      }
      navigator.sendBeacon("/api/events", new Blob([body], { type: "text/plain" }));
    }
  }

  #eventsOf(session, most = MOST_AT_ONCE) {
    const entries = [...this.#waiting.values()].filter((entry) => entry.session === session);
    return entries.slice(0, most).map((entry) => entry.event);
  }

  async #sendAll() {
    clearTimeout(this.#timer);
    while (this.#waiting.size) {
      const [{ session }] = this.#waiting.values();
      try {
        await this.#send(session, this.#eventsOf(session));
      } catch (error) {
        this.#failed(error);
        return false;
      }
      this.#failures = 0;
      this.#onState(false);
    }
    return true;
  }

  async #send(session, events) {
    try {
      const { refused } = await post("/api/events", { session, events });
      this.#drop(events);
      for (const { id, why } of refused) this.#onRefused(events.find((event) => event.id === id), why);
    } catch (error) {
      if (!NEVER_STORED.includes(error.status)) throw error;
      if (error.status === 404 || events.length === 1) this.#drop(events);
      else for (const event of events) await this.#send(session, [event]);
    }
  }

  #drop(events) {
    for (const { id } of events) {
      this.#waiting.delete(id);
      try {
        localStorage.removeItem(PREFIX + id);
      } catch {
        // no storage
      }
    }
  }

  #failed(error) {
    if (!(error instanceof ServerError)) throw error;
    this.#failures += 1;
    this.#onState(error.status !== 429);
    this.#sendAfter(Math.max(error.retryMs, Math.min(LONGEST_WAIT_MS, 500 * 2 ** this.#failures)));
  }

  #sendAfter(milliseconds) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.flush(), milliseconds);
  }
}

function stored() {
  try {
    const keys = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
    return keys.map((key) => JSON.parse(localStorage.getItem(key))).filter((entry) => entry?.event?.id);
  } catch {
    return [];
  }
}
