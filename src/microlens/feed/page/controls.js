// Keys and the mouse wheel; swiping is scrolling, which the browser does.

const WHEEL_STEP = 30;
const WHEEL_REST_MS = 160;
const WHEEL_LOCK_MS = 450;
const KEYS = { ArrowDown: 1, PageDown: 1, ArrowUp: -1, PageUp: -1 };

// `told` has the methods go(step), pause() and mute().
export function listenToKeys(told) {
  addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
    if (target.closest("dialog, input, textarea, select, #why")) return;
    if (key in KEYS) told.go(KEYS[key]);
    else if (key === " " && !target.closest("button")) told.pause();
    else if (key === "m" || key === "M") told.mute();
    else return;
    event.preventDefault();
  });
}

// One turn of the wheel, or one stroke over a touchpad with the motion that follows, is one step.
export function listenToWheel(element, go) {
  let turned = 0;
  let lastEvent = 0;
  let lastStep = 0;
  element.addEventListener(
    "wheel",
    (event) => {
      if (event.ctrlKey) return; // zooms
      event.preventDefault();
      const hasRested = event.timeStamp - lastEvent > WHEEL_REST_MS;
      lastEvent = event.timeStamp;
      if (hasRested) turned = 0;
      else if (event.timeStamp - lastStep < WHEEL_LOCK_MS) return;
      turned += event.deltaY * (event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1);
      if (Math.abs(turned) < WHEEL_STEP) return;
      go(Math.sign(turned));
      turned = 0;
      lastStep = event.timeStamp;
    },
    { passive: false },
  );
}
