"""How fast the page of a feed feels in a browser, printed as JSON.

    python speed/feed_page.py [--smoke] [--swipes 40]

Serves a synthetic release by ``microlens feed`` and opens it in Chromium (that of the system, or
``MICROLENS_CHROMIUM``) at the size of a phone and of a desk. Measures the time from the key that brings the next video
to its first frame on the screen, after the person has watched for a second, and the Web Vitals as the browser reports
them: largest contentful paint, layout shift, and the slowest interaction.
"""

import argparse
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from feed_load import Server
from measure import Line, print_result
from playwright.sync_api import Page, sync_playwright

SIZES: dict[str, dict[str, Any]] = {
    "phone": {"viewport": {"width": 360, "height": 780}, "has_touch": True, "is_mobile": True},
    "desk": {"viewport": {"width": 1920, "height": 1080}},
}
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
WATCHED_MS = 1000
OBSERVE = """
window.vitals = { lcp: 0, cls: 0, inp: 0 };
const observe = (type, tell, options = {}) => new PerformanceObserver((list) => list.getEntries().forEach(tell))
    .observe({ type, buffered: true, ...options });
observe("largest-contentful-paint", (entry) => { vitals.lcp = entry.startTime; });
observe("layout-shift", (entry) => { if (!entry.hadRecentInput) vitals.cls += entry.value; });
observe("event", (entry) => { if (entry.interactionId) vitals.inp = Math.max(vitals.inp, entry.duration); },
    { durationThreshold: 16 });
"""
SWIPE = """() => new Promise((resolve) => {
    const begin = performance.now();
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowDown", bubbles: true }));
    const video = document.querySelector("article:not([inert]) video");
    video.requestVideoFrameCallback(() => resolve(performance.now() - begin));
    setTimeout(() => resolve(null), 10_000);
})"""


def make_run(folder: Path, items: int) -> Path:
    """A synthetic release, its dataset, and a run over it."""
    from microlens.config.run_config import RunConfig
    from microlens.data.prepare import prepare
    from microlens.media.decoding import Settings
    from microlens.media.reading import ClipSettings
    from microlens.release.synthetic import write_release
    from microlens.runs.train import train

    write_release(folder / "release", users=2 * items, items=items, seed=0, workers=2)
    prepare(folder / "release", folder / "dataset", Settings(clips=ClipSettings(num_frames=1, size=32)), workers=2)
    train(
        RunConfig.model_validate(
            {"dataset": folder / "dataset", "output": folder / "run", "model": {"name": "popularity"}}
        )
    )
    return folder / "run"


def measure_page(page: Page, address: str, swipes: int) -> dict[str, float]:
    """The figures of one visit."""
    page.add_init_script(OBSERVE)
    page.goto(address)
    page.wait_for_function("() => document.querySelector('article:not([inert]) video')?.currentTime > 0")
    frames = []
    for _ in range(swipes):
        page.wait_for_timeout(WATCHED_MS)
        frames.append(page.evaluate(SWIPE))
    page.keyboard.press("m")
    page.keyboard.press("ArrowDown")
    page.wait_for_timeout(500)
    vitals: dict[str, float] = page.evaluate("vitals")
    shown = [frame for frame in frames if frame is not None]
    p50, p95 = np.percentile(shown, [50, 95]).tolist()
    return {
        "swipes": swipes,
        "without a frame within 10 s": swipes - len(shown),
        "swipe to first frame, median ms": round(p50, 1),
        "swipe to first frame, 95 % ms": round(p95, 1),
        "largest contentful paint, ms": round(vitals["lcp"], 1),
        "layout shift": round(vitals["cls"], 4),
        "slowest interaction, ms": vitals["inp"],
    }


def main() -> None:
    """Measure the page and print the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="few videos and swipes")
    parser.add_argument("--swipes", type=int, default=40)
    options = parser.parse_args()
    if options.smoke:
        options.swipes = 3
    program = os.environ.get("MICROLENS_CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)
    figures = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = make_run(folder, items=20 if options.smoke else 60)
        server = Server(run, folder, "--release", str(folder / "release"))
        try:
            with sync_playwright() as running:
                browser = running.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
                for size, settings in SIZES.items():
                    with browser.new_context(**settings) as context:
                        figures[size] = measure_page(context.new_page(), server.address, options.swipes)
                browser.close()
        finally:
            server.stop()
    print_result("feed_page", options, [1], figures, lines_of(figures))


def lines_of(figures: dict[str, Any]) -> list[Line]:
    """The figures that have a line to reach."""
    reach = {
        "swipe to first frame, 95 % ms": (300, "ms"),
        "largest contentful paint, ms": (2500, "ms"),
        "slowest interaction, ms": (200, "ms"),
        "layout shift": (0.1, ""),
    }
    return [
        Line(what=f"{size}: {what}", measured=found[what], unit=unit, bound="at most", reach=most)
        for size, found in figures.items()
        for what, (most, unit) in reach.items()
    ]


if __name__ == "__main__":
    main()
