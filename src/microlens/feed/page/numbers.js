// Numbers and times as people read them.

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const UNITS = [
  ["year", 31_536_000],
  ["month", 2_592_000],
  ["day", 86_400],
  ["hour", 3600],
  ["minute", 60],
];

export function short(number) {
  return compact.format(number);
}

export function counted(number, what) {
  return `${short(number)} ${what}${number === 1 ? "" : "s"}`;
}

export function ago(milliseconds) {
  const seconds = Math.max(0, (Date.now() - milliseconds) / 1000);
  const [unit, size] = UNITS.find(([, size]) => seconds >= size) ?? [null, 0];
  return unit ? relative.format(-Math.floor(seconds / size), unit) : "just now";
}

export function identifier() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
