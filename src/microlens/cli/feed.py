"""Commands of the feed."""

import gc
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microlens.cli.output import bar, console
from microlens.feed import DEFAULT_EVENTS, require_packages
from microlens.seeds import LARGEST_SEED

if TYPE_CHECKING:
    from microlens.feed.off_policy import PolicyEstimate


def serve(
    runs: Annotated[list[Path], typer.Argument(help="Run folders; several are compared on people.")],
    dataset: Annotated[Path | None, typer.Option(help="Folder of the dataset, if it was moved.")] = None,
    release: Annotated[Path | None, typer.Option(help="Folder of the release, with videos and covers.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; other than 127.0.0.1 needs --token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    token: Annotated[str | None, typer.Option(envvar="MICROLENS_FEED_TOKEN", help="Secret that admits people.")] = None,
    operator_token: Annotated[
        str | None, typer.Option(envvar="MICROLENS_FEED_OPERATOR_TOKEN", help="Secret that admits operators.")
    ] = None,
    events: Annotated[
        str, typer.Option(envvar="MICROLENS_FEED_EVENTS", help="Event store: sqlite:///PATH or postgresql://...")
    ] = DEFAULT_EVENTS,
    settings: Annotated[Path | None, typer.Option(help="A TOML file with settings.")] = None,
    user: Annotated[str | None, typer.Option(help="A user of the dataset whom everybody continues.")] = None,
    interleave: Annotated[
        bool, typer.Option("--interleave", help="Let the models choose in turn, instead of one for each person.")
    ] = False,
    study: Annotated[
        Path | None, typer.Option(help="A TOML file of a study, which is served to its participants only.")
    ] = None,
    uploads: Annotated[
        Path | None, typer.Option(help="Folder for videos that people upload; by default beside a SQLite file.")
    ] = None,
) -> None:
    """Serve a feed of videos, chosen by a trained run, at an address to open in a browser."""
    require_packages()
    gc.disable()  # until everything is loaded: the collections would find nothing, in a fifth of the time to start
    from microlens.feed.server.running import serve as serve_feed
    from microlens.feed.settings import FeedSettings
    from microlens.feed.study.settings import StudySettings

    serve_feed(
        runs,
        dataset=dataset,
        release=release,
        events=events,
        settings=None if settings is None else FeedSettings.load(settings),
        host=host,
        port=port,
        token=token,
        operator_token=operator_token,
        user=user,
        interleave=interleave,
        study=None if study is None else StudySettings.load(study),
        uploads=uploads,
        on_ready=_say,
    )


def _say(address: str, items: int) -> None:
    console.print(f"{items:,} items. Open {address} (stop with Ctrl+C)")


_Json = Annotated[Path | None, typer.Option("--json", help="Also write the result as JSON to this file.")]
_Figure = Annotated[Path | None, typer.Option(help="Also draw the result as a PNG file.")]


def simulate(
    release: Annotated[Path, typer.Argument(help="The synthetic release that is served.")],
    url: Annotated[str, typer.Option(help="Address of the feed.")] = "http://127.0.0.1:8000",
    people: Annotated[int, typer.Option(min=1, max=1_000_000, help="Number of people.")] = 100,
    videos: Annotated[int, typer.Option(min=1, max=1_000_000, help="Number of videos that each watches.")] = 40,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of their tastes and draws.")] = 0,
    at_once: Annotated[int, typer.Option(min=1, max=10_000, help="Number of people at the same time.")] = 8,
    only: Annotated[
        str | None, typer.Option(help="An attribute, such as colour, whose favourite value is all that people like.")
    ] = None,
    new_videos: Annotated[
        int,
        typer.Option(min=0, max=1_000_000, help="Number of videos that the feed lacks, uploaded after half of them."),
    ] = 0,
    token: Annotated[str | None, typer.Option(envvar="MICROLENS_FEED_TOKEN", help="Secret that admits people.")] = None,
    before: Annotated[
        Path | None, typer.Option(help="JSON of an earlier simulation of the same people, to compare with.")
    ] = None,
    json: _Json = None,
    figure: _Figure = None,
) -> None:
    """Let simulated people use a running feed of a synthetic release, and tell how well they like what they see."""
    require_packages()
    from microlens.feed.charts import draw_like_rates, draw_new_shares
    from microlens.feed.simulation.simulate import Simulation, simulate
    from microlens.files.json_files import read_json

    former = None if before is None else read_json(before, Simulation, "name a file that feed simulate --json wrote")
    with bar("people") as on_progress:
        done = simulate(
            release,
            url,
            people=people,
            videos=videos,
            seed=seed,
            at_once=at_once,
            only=only,
            new_videos=new_videos,
            uploaded=None if former is None else former.uploaded,
            token=token,
            on_progress=on_progress,
        )
    ahead = None if former is None else done.ahead_of(former)
    _write_json(asdict(done), json)
    if figure is not None:
        simulations = {**({} if former is None else {"before": former}), "now": done}
        (draw_new_shares if done.new_shares else draw_like_rates)(simulations, figure)
    for model, rate in done.models.items():
        console.print(f"{model}: like-rate {_percent(rate.mean, rate.low, rate.high)}, {rate.people:,} people")
    console.print(f"at random: {100 * done.chance:.1f} %")
    if ahead is not None:
        console.print(f"like-rate of the same people against before: {_percent(ahead.mean, *ahead.interval)}")
    console.print(f"next video: median {done.next_ms['median']:.1f} ms, 99 % within {done.next_ms['p99']:.1f} ms")


def report(
    events: Annotated[
        str, typer.Argument(envvar="MICROLENS_FEED_EVENTS", help="Event store: sqlite:///PATH or postgresql://...")
    ] = DEFAULT_EVENTS,
    study: Annotated[
        Path | None, typer.Option(help="A TOML file of a study, whose participants alone are counted.")
    ] = None,
    estimate: Annotated[
        list[Path] | None, typer.Option(help="A run folder: estimate what this run would have got; may be repeated.")
    ] = None,
    settings: Annotated[Path | None, typer.Option(help="Settings of the feed, a TOML file; for --estimate.")] = None,
    json: _Json = None,
    figure: _Figure = None,
) -> None:
    """Compare the models of a feed on the people who used it; the feed may run meanwhile."""
    require_packages()
    from microlens.feed.report import report_feed
    from microlens.feed.settings import FeedSettings
    from microlens.feed.study.settings import StudySettings

    loaded = None if settings is None else FeedSettings.load(settings)
    found, estimates = report_feed(events, None if study is None else StudySettings.load(study).name), {}
    for run in estimate or ():
        from microlens.feed.off_policy import estimate_run

        with bar(str(run)) as on_progress:
            estimates[str(run)] = estimate_run(events, run, settings=loaded, on_progress=on_progress)
    _write_json({**asdict(found), "estimates": {run: asdict(one) for run, one in estimates.items()}}, json)
    if figure is not None:
        from microlens.feed.charts import draw_arms

        draw_arms(found, figure)
    for arm in found.arms:
        console.print(f"{arm.name}: {arm.people:,} people, {arm.exposures:,} items seen")
        for metric, mean in arm.means.items():
            console.print(f"{metric:>12}  {_percent(mean.mean, mean.low, mean.high)}")
        console.print(f"{'coverage':>12}  {100 * arm.coverage:.1f} % of the items that any model has shown")
        if arm.start_ms is not None:
            console.print(f"{'start':>12}  median {arm.start_ms[0]:.0f} ms, 95 % within {arm.start_ms[1]:.0f} ms")
    for one in found.differences:
        console.print(
            f"{one.metric}: {one.first} - {one.second} {_percent(one.mean, one.low, one.high)}, p = {one.holm:.3g}"
        )
    for name, policy in estimates.items():
        _say_estimate(name, policy)


def _say_estimate(name: str, policy: "PolicyEstimate") -> None:
    from microlens.feed.off_policy import ENOUGH

    covered = policy.covered
    console.print(
        f"{name}, estimated from {policy.decisions:,} decisions, effective sample size {policy.effective:,.0f}, "
        f"covered {_percent(covered.mean, covered.low, covered.high)}"
    )
    for metric, value in policy.values.items():
        told = {"propensities": value.ips, "self-normalised": value.self_normalised, "the feed itself": value.logged}
        parts = (f"{name} {_percent(m.mean, m.low, m.high)}" for name, m in told.items() if m is not None)
        console.print(f"{metric:>12}  {'; '.join(parts)}")
    if policy.effective < ENOUGH:
        console.print(f"note: with an effective sample size below {ENOUGH} the intervals are too short")


def _write_json(result: dict[str, Any], path: Path | None) -> None:
    from json import dumps

    from microlens.files.writing import write_text

    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, dumps(result, indent=1) + "\n")


def _percent(mean: float, low: float | None, high: float | None) -> str:
    interval = "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"
    return f"{100 * mean:.1f} %{interval}"


def from_events(
    events: Annotated[str, typer.Argument(help="Event store of the feed: sqlite:///PATH or postgresql://...")],
    out: Annotated[Path, typer.Argument(help="Output folder of the release.")],
    release: Annotated[
        Path | None, typer.Option(help="The release that was served, for titles, tags, likes, views and media.")
    ] = None,
    merge: Annotated[
        bool, typer.Option("--merge", help="Take over the interactions of --release, too; people come after its users.")
    ] = False,
    keep_users: Annotated[
        bool, typer.Option("--keep-users", help="Call users by the ids of the event store instead of 1, 2, ...")
    ] = False,
    settings: Annotated[Path | None, typer.Option(help="Settings of the feed, a TOML file.")] = None,
) -> None:
    """Write what people did in a feed as a release in the official layout; the feed may run meanwhile."""
    require_packages()
    from microlens.feed.from_events import release_from_events
    from microlens.feed.settings import FeedSettings

    loaded = None if settings is None else FeedSettings.load(settings)
    with bar("media files") as on_progress:
        done = release_from_events(
            events, out, release=release, merge=merge, keep_users=keep_users, settings=loaded, on_progress=on_progress
        )
    if done.unknown:
        console.print(f"note: left out are {done.unknown:,} positive items that the release does not have")
    for note in done.notes:
        console.print(f"note: {note}")
    console.print(
        f"{out}: {done.users:,} users, {done.items:,} items, {done.interactions:,} interactions, {done.from_feed:,} of "
        f"them from the feed, {done.comments:,} comments, {done.media:,} media files. "
        f"Next: microlens data prepare {out} DATASET"
    )
