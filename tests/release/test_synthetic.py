"""The synthetic release: its layout, and that its right answer is what it claims to be."""

import csv
import json
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import pytest
import simplejpeg

from microlens.errors import InputError
from microlens.files.writing import LOCK, MARK, claim_folder
from microlens.release import synthetic, synthetic_world
from microlens.release.synthetic import write_release
from microlens.release.synthetic_media import (
    ATTRIBUTES,
    BACKDROPS,
    COLOURS,
    FRAMES,
    MOTIONS,
    PITCHES,
    SAMPLE_RATE,
    SHAPES,
    VIDEO_SIZE,
    Look,
    draw_clip,
    play_sound,
)
from microlens.release.synthetic_world import World, build_world

USERS, ITEMS, SEED = 60, 12, 3


class LeaveOneOut(NamedTuple):
    """B users, N items: train part without the last two, target the last, seen everything before the target."""

    train: np.ndarray  # (B, N) bool
    seen: np.ndarray  # (B, N) bool
    target: np.ndarray  # (B,)
    cold: np.ndarray  # (B,) bool


def leave_one_out(world: World) -> LeaveOneOut:
    length = np.bincount(world.user)
    to_end = np.cumsum(length)[world.user] - np.arange(len(world.user))
    train, seen = np.zeros((2, len(length), len(world.is_new)), dtype=bool)
    train[world.user[to_end > 2], world.item[to_end > 2]] = True
    seen[world.user[to_end > 1], world.item[to_end > 1]] = True
    target = world.item[to_end == 1]
    return LeaveOneOut(train, seen, target, world.is_new[target])


def hits_at_10(scores: np.ndarray, split: LeaveOneOut) -> np.ndarray:
    """Which targets (B,) are among the first ten of all unseen items, ties counted against them."""
    own = np.take_along_axis(scores, split.target[:, None], axis=1)
    return ((scores >= own) & ~split.seen).sum(axis=1) <= 10


def hits_at_10_by_loops(scores: np.ndarray, split: LeaveOneOut) -> list[bool]:
    hits = []
    for user, target in enumerate(split.target):
        better = 0
        for item in range(scores.shape[1]):
            if item != target and not split.seen[user, item] and scores[user, item] >= scores[user, target]:
                better += 1
        hits.append(better < 10)
    return hits


def popularity_scores(split: LeaveOneOut) -> np.ndarray:
    return np.broadcast_to(split.train.sum(axis=0), split.train.shape)


def neighbour_scores(split: LeaveOneOut) -> np.ndarray:
    """Item-item cosine on the train part, summed over all that was seen before the target."""
    train = split.train.astype(np.float32)
    together = train.T @ train
    norm = np.sqrt(np.maximum(np.diag(together), 1))
    np.fill_diagonal(together, 0)
    return split.seen.astype(np.float32) @ (together / norm / norm[:, None])


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, World]:
    folder = tmp_path_factory.mktemp("synthetic") / "new" / "release"
    return folder, write_release(folder, users=USERS, items=ITEMS, seed=SEED, workers=1)


@pytest.fixture(scope="module", params=[0, 1, 2])
def world(request: pytest.FixtureRequest) -> World:
    return build_world(2000, 400, request.param)


# The right answer


def test_hit_rate_equals_its_loop_twin() -> None:
    split = leave_one_out(build_world(100, 40, 5))
    scores = np.random.default_rng(0).integers(0, 12, split.seen.shape)
    assert hits_at_10(scores, split).tolist() == hits_at_10_by_loops(scores, split)


def test_true_content_utility_ranks_cold_targets(world: World) -> None:
    split = leave_one_out(world)
    assert hits_at_10(world.utility(), split)[split.cold].mean() >= 0.55
    assert hits_at_10(world.utility(("colour", "backdrop")), split)[split.cold].mean() >= 0.5


def test_the_rest_adds_to_colour_and_backdrop(world: World) -> None:
    split = leave_one_out(world)
    full, seen_only = (hits_at_10(world.utility(names), split).mean() for names in (ATTRIBUTES, ("colour", "backdrop")))
    assert full >= seen_only + 0.02


def test_ids_learn_warm_targets_and_no_cold_one(world: World) -> None:
    split = leave_one_out(world)
    popular, neighbours = hits_at_10(popularity_scores(split), split), hits_at_10(neighbour_scores(split), split)
    assert popular[~split.cold].mean() <= 0.11
    assert neighbours[~split.cold].mean() >= 3 * popular[~split.cold].mean()
    assert neighbours[split.cold].mean() <= 0.01


def test_popularity_adds_to_content_on_warm_targets(world: World) -> None:
    split = leave_one_out(world)
    log_popularity = np.log(np.where(world.is_new, 1 / len(world.is_new), world.popularity))
    content, both = (hits_at_10(world.utility() + extra, split)[~split.cold].mean() for extra in (0, log_popularity))
    assert both >= content + 0.03


def test_popularity_knows_nothing_of_content(world: World) -> None:
    for name, values in world.attributes.items():
        shares = np.bincount(values, world.popularity, minlength=len(ATTRIBUTES[name]))
        assert shares.max() < 1.6 / len(shares), name


def test_new_items_are_never_in_train_and_end_a_fifth_of_the_histories(world: World) -> None:
    split = leave_one_out(world)
    assert world.is_new.mean() == 0.15
    assert not split.train[:, world.is_new].any()
    assert 0.19 <= split.cold.mean() <= 0.25
    last_but_one = world.is_new[world.item[np.flatnonzero(np.diff(world.user)) - 1]]
    assert 0.01 <= last_but_one.mean() <= 0.06


def test_every_taste_has_warm_and_new_items_of_its_colour_and_backdrop(world: World) -> None:
    pairs = world.attributes["colour"] * len(BACKDROPS) + world.attributes["backdrop"]
    for group, least in ((world.is_new, 1), (~world.is_new, 7)):
        counts = np.bincount(pairs[group], minlength=len(COLOURS) * len(BACKDROPS))
        assert counts.min() >= least
        assert counts.max() <= counts.min() + 1


def test_users_who_change_colour_change_it_midway(world: World) -> None:
    changed = world.favourites["colour"] != world.earlier_colour
    assert 0.25 <= changed.mean() <= 0.35
    length = np.bincount(world.user)
    position = np.arange(len(world.user)) - (np.cumsum(length) - length)[world.user]
    early, of_changed = position < length[world.user] // 2, changed[world.user]
    colour = world.attributes["colour"][world.item]
    for half, wanted, unwanted in ((early, world.earlier_colour, world.favourites["colour"]),
                                   (~early, world.favourites["colour"], world.earlier_colour)):  # fmt: skip
        rows = half & of_changed
        assert (colour == wanted[world.user])[rows].mean() > 4 * (colour == unwanted[world.user])[rows].mean()


def test_histories_are_long_tailed_without_repetition_and_in_time_order(world: World) -> None:
    length = np.bincount(world.user, minlength=2000)
    assert (length.min(), length.max()) == (5, 25)
    assert 9 <= length.mean() <= 10
    assert len(np.unique(world.user * 400 + world.item)) == len(world.user)
    assert (np.diff(world.user) >= 0).all()
    assert (np.diff(world.time)[np.diff(world.user) == 0] > 0).all()


def test_launch_date_parts_train_from_new_items(world: World) -> None:
    length = np.bincount(world.user)
    to_end = np.cumsum(length)[world.user] - np.arange(len(world.user))
    launched = world.time >= synthetic_world.LAUNCH_MS
    assert launched[world.is_new[world.item]].all()
    assert not launched[to_end > 2].any()
    assert launched[to_end == 1].all()
    assert world.time.min() >= synthetic_world.OPENING_MS
    assert world.time.max() < synthetic_world.CLOSING_MS


def test_blocks_of_users_keep_their_own_tastes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic_world, "_CELLS_AT_ONCE", 400 * 70)
    split = leave_one_out(world := build_world(2000, 400, 0))
    assert len(np.unique(world.user * 400 + world.item)) == len(world.user)
    assert hits_at_10(world.utility(), split)[split.cold].mean() >= 0.55


@pytest.mark.parametrize(("users", "items"), [(10, 12), (11, 13), (40, 25)])
def test_smallest_worlds_are_whole(users: int, items: int) -> None:
    small = build_world(users, items, 0)
    assert np.bincount(small.user, minlength=users).min() >= 5
    assert len(np.unique(small.user * items + small.item)) == len(small.user)
    assert small.is_new.sum() >= 2


# The files


def lines_of(path: Path, ending: str) -> list[str]:
    text = path.read_bytes().decode("utf-8")
    assert text.endswith(ending)
    lines = text.split(ending)[:-1]
    assert not any("\n" in line or "\r" in line for line in lines)
    return lines


def test_layout_is_the_official_one(release: tuple[Path, World]) -> None:
    folder, _ = release
    assert {path.name for path in folder.iterdir()} == {
        "synthetic_pairs.csv", "synthetic_pairs.tsv", "synthetic_titles.csv", "synthetic_tags_to_summary.csv",
        "synthetic_likes_and_views.txt", "synthetic_comments.txt", "videos", "covers", "audios", "world.json",
    }  # fmt: skip
    for name, ending in (("videos", "mp4"), ("covers", "jpg"), ("audios", "m4a")):
        assert {path.name for path in (folder / name).iterdir()} == {f"{item + 1}.{ending}" for item in range(ITEMS)}
    assert not list(folder.parent.glob("*.partial"))


def test_pairs_csv_and_tsv_hold_the_same_histories(release: tuple[Path, World]) -> None:
    folder, world = release
    header, *rows = lines_of(folder / "synthetic_pairs.csv", "\r\n")
    assert header == "user,item,timestamp"
    events = np.array([row.split(",") for row in rows], dtype=np.int64)
    assert (np.diff(events[:, 2]) >= 0).all()
    assert (np.diff(events[:, 0]) < 0).any(), "grouped by user, unlike the official file"
    histories = {user: events[events[:, 0] == user][:, 1].tolist() for user in range(1, USERS + 1)}
    written = [row.split("\t") for row in lines_of(folder / "synthetic_pairs.tsv", "\r\n")]
    assert {int(user): list(map(int, items.split(" "))) for user, items in written} == histories
    assert [int(user) for user, _ in written] == list(range(1, USERS + 1))
    by_user = events[np.lexsort((events[:, 2], events[:, 0]))]
    np.testing.assert_array_equal(by_user, np.stack((world.user + 1, world.item + 1, world.time), axis=1))


def test_titles_are_quoted_as_csv(release: tuple[Path, World]) -> None:
    folder, world = release
    lines = lines_of(folder / "synthetic_titles.csv", "\r\n")
    (head, *rows) = csv.reader(lines, strict=True)
    assert head == ["item", "title"]
    assert [int(item) for item, _ in rows] == list(range(1, ITEMS + 1))
    assert any("," in title for _, title in rows)
    assert any('"' in title for _, title in rows)
    assert any('""' in line for line in lines)
    for item, title in rows:
        look = world.look(int(item) - 1)
        assert look.colour in title.lower() or look.shape in title.lower()


def test_tags_likes_and_comments(release: tuple[Path, World]) -> None:
    folder, world = release
    tags = dict(row.split(",") for row in lines_of(folder / "synthetic_tags_to_summary.csv", "\n"))
    assert sorted(map(int, tags)) == list(range(1, ITEMS + 1))
    likes = np.array([row.split("\t") for row in lines_of(folder / "synthetic_likes_and_views.txt", "\r\n")], dtype=int)
    assert likes[:, 0].tolist() == list(range(1, ITEMS + 1))
    assert (likes[:, 1] < likes[:, 2]).all()
    assert (likes[:, 1:] > 0).all()
    views = np.log(likes[:, 2])
    assert np.corrcoef(views, np.log1p(np.bincount(world.item, minlength=ITEMS)))[0, 1] > 0.4
    comments = [row.split("\t") for row in lines_of(folder / "synthetic_comments.txt", "\r\n")]
    assert {len(row) for row in comments} == {3}
    assert {(int(user) - 1, int(item) - 1) for user, item, _ in comments} == set(
        zip(world.user.tolist(), world.item.tolist(), strict=True)
    )
    assert len({text for *_, text in comments}) > 100


def test_truth_names_what_the_world_holds(release: tuple[Path, World]) -> None:
    folder, world = release
    truth = json.loads((folder / "world.json").read_text(encoding="utf-8"))
    for item in range(ITEMS):
        look, told = world.look(item), truth["items"][str(item + 1)]
        assert [told[name] for name in ATTRIBUTES] == [look.colour, look.backdrop, look.shape, look.motion, look.pitch]
        assert told["new"] == world.is_new[item]
    for user in range(USERS):
        told = truth["users"][str(user + 1)]
        assert [told[name] for name in ATTRIBUTES] == [
            ATTRIBUTES[name][world.favourites[name][user]] for name in ATTRIBUTES
        ]
        assert told["earlier_colour"] == ATTRIBUTES["colour"][world.earlier_colour[user]]


# Pictures and sound


def nearest_colour(picture: np.ndarray) -> str:
    """The colour that most pixels of `(H, W, 3)` come close to."""
    distance = np.linalg.norm(picture[..., None, :].astype(float) - np.array(list(COLOURS.values())), axis=-1)
    return list(COLOURS)[int((distance < 60).sum(axis=(0, 1)).argmax())]


def figure_of(picture: np.ndarray, colour: str) -> np.ndarray:
    return np.linalg.norm(picture.astype(float) - COLOURS[colour], axis=-1) < 60


def loudest_frequency(sound: np.ndarray) -> float:
    return float(np.argmax(abs(np.fft.rfft(sound))) * SAMPLE_RATE / len(sound))


def nearest_pitch(frequency: float) -> str:
    return min(PITCHES, key=lambda name: abs(np.log(PITCHES[name] / frequency)))


def decode_sound(path: Path) -> np.ndarray:
    with av.open(path) as container:
        assert container.streams.audio[0].codec_context.sample_rate == SAMPLE_RATE
        return np.concatenate([block.to_ndarray()[0] for block in container.decode(audio=0)])


def decode_pictures(path: Path) -> np.ndarray:
    with av.open(path) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize("item", range(ITEMS))
def test_media_show_and_play_what_the_truth_says(release: tuple[Path, World], item: int) -> None:
    folder, world = release
    look = world.look(item)
    pictures = decode_pictures(folder / "videos" / f"{item + 1}.mp4")
    assert pictures.shape == (FRAMES, *VIDEO_SIZE, 3)
    assert nearest_colour(pictures[FRAMES // 2]) == look.colour
    assert 0.07 < figure_of(pictures[FRAMES // 2], look.colour).mean() < 0.35
    cover = simplejpeg.decode_jpeg((folder / "covers" / f"{item + 1}.jpg").read_bytes())
    assert cover.shape[0] > VIDEO_SIZE[0]
    assert nearest_colour(cover) == look.colour
    for path in (folder / "videos" / f"{item + 1}.mp4", folder / "audios" / f"{item + 1}.m4a"):
        sound = decode_sound(path)
        assert abs(len(sound) / SAMPLE_RATE - 2.5) < 0.2
        assert nearest_pitch(loudest_frequency(sound)) == look.pitch


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("motion", MOTIONS)
def test_figure_moves_as_its_name_says(colour: str, motion: str) -> None:
    clip = draw_clip(Look(colour, "night", "circle", motion, "low", (0, 1)), np.linspace(0, 1, 5), VIDEO_SIZE)
    y, x = np.array([np.argwhere(figure_of(picture, colour)).mean(axis=0) for picture in clip]).T / VIDEO_SIZE[1]
    straight = {"drifting left": (-1, 0), "drifting right": (1, 0), "rising": (0, -1), "falling": (0, 1)}
    if motion in straight:
        right, down = straight[motion]
        assert (np.diff(x) * right + np.diff(y) * down > 0.05).all()
        assert (abs(np.diff(y) * right) + abs(np.diff(x) * down) < 0.02).all()
    elif motion == "resting":
        assert np.ptp(x) < 0.01
        assert np.ptp(y) < 0.01
    else:
        assert np.ptp(x) > 0.15
        assert np.ptp(y) > 0.4
        assert abs(y[0] - y[-1]) < 0.1


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        ("circle", np.pi),
        ("square", 1.76**2),
        ("triangle", 3 * np.sqrt(3) * 0.66**2),
        ("cross", 2 * 2.1 * 0.72 - 0.72**2),
        ("star", 5 * 1.2 * 0.52 * np.sin(np.pi / 5)),
    ],
)
def test_shapes_have_the_area_of_their_outline(shape: str, area: float) -> None:
    y, x = np.mgrid[-1.5:1.5:600j, -1.5:1.5:600j].astype(np.float32)
    assert (SHAPES[shape](x, y) < 0).mean() * 9 == pytest.approx(area, rel=0.01)


def test_items_of_equal_attributes_differ() -> None:
    moments = np.array([0.5])
    one, other = (draw_clip(Look("red", "snow", "star", "resting", "low", (0, n)), moments, VIDEO_SIZE) for n in (1, 2))
    assert (abs(one.astype(int) - other) > 20).mean() > 0.05


@pytest.mark.parametrize("pitch", PITCHES)
@pytest.mark.parametrize("number", range(5))
def test_fundamental_is_the_loudest(pitch: str, number: int) -> None:
    sound = play_sound(Look("red", "snow", "star", "resting", pitch, (0, number)), 2.5)
    assert abs(sound).max() < 1
    assert loudest_frequency(sound) == pytest.approx(PITCHES[pitch], rel=0.02)


# Determinism and faults


def test_same_seed_same_release_in_any_number_of_processes(release: tuple[Path, World], tmp_path: Path) -> None:
    folder, _ = release
    progress = []
    again = tmp_path / "again"
    write_release(
        again, users=USERS, items=ITEMS, seed=SEED, workers=2, on_progress=lambda *count: progress.append(count)
    )
    assert progress == [(done, ITEMS) for done in range(1, ITEMS + 1)]
    for path in folder.glob("*.*"):
        assert (again / path.name).read_bytes() == path.read_bytes(), path.name
    for item in range(1, ITEMS + 1):
        np.testing.assert_array_equal(*(decode_pictures(root / "videos" / f"{item}.mp4") for root in (folder, again)))
        np.testing.assert_array_equal(*(decode_sound(root / "audios" / f"{item}.m4a") for root in (folder, again)))
        assert (again / "covers" / f"{item}.jpg").read_bytes() == (folder / "covers" / f"{item}.jpg").read_bytes()


def test_other_seeds_are_other_worlds() -> None:
    one, other = build_world(60, 12, 0), build_world(60, 12, 1)
    assert one.item.tolist() != other.item.tolist()
    assert any((one.attributes[name] != other.attributes[name]).any() for name in ATTRIBUTES)
    assert len({world.look(item).seed for world in (one, other) for item in range(12)}) == 24


def test_nothing_stays_when_encoding_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_at_five(folder: Path, number: int, look: Look) -> None:
        (folder / "videos" / f"{number}.mp4").write_bytes(b"")
        if number == 5:
            raise OSError("No space left on device")

    monkeypatch.setattr(synthetic, "write_item", fail_at_five)
    with pytest.raises(OSError, match="No space left"):
        write_release(tmp_path / "release", users=USERS, items=ITEMS, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_leftovers_of_a_killed_run_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "write_item", lambda folder, number, look: None)
    claim_folder(tmp_path / "release.partial")
    (tmp_path / "release.partial" / "videos").mkdir()
    (tmp_path / "release.partial" / "videos" / "99.mp4").write_bytes(b"half")
    write_release(tmp_path / "release", users=USERS, items=ITEMS, workers=1)
    assert [path.name for path in tmp_path.iterdir()] == ["release"]
    assert not (tmp_path / "release" / "videos" / "99.mp4").exists()


def test_a_folder_of_somebody_else_is_not_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(synthetic, "write_item", lambda folder, number, look: None)
    thesis = tmp_path / "release.partial" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("four years")
    with pytest.raises(InputError, match=r"thesis\.txt was not written by microlens; move it"):
        write_release(tmp_path / "release", users=USERS, items=ITEMS, workers=1)
    assert [path.name for path in tmp_path.rglob("*")] == ["release.partial", "thesis.txt"]


def test_a_thesis_in_a_folder_of_ours_survives_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(folder: Path, number: int, look: Look) -> None:
        (folder / "videos" / "thesis.txt").write_text("four years")
        raise OSError("No space left on device")

    monkeypatch.setattr(synthetic, "write_item", fail)
    with pytest.raises(OSError, match="No space left"):
        write_release(tmp_path / "release", users=USERS, items=ITEMS, workers=1)
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name not in (MARK, LOCK)]
    assert [path.name for path in left] == ["thesis.txt"]


def test_existing_folder_is_left_alone(tmp_path: Path) -> None:
    for folder in (tmp_path, str(tmp_path)):
        with pytest.raises(InputError, match=r"exists already; name a folder that does not\."):
            write_release(folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"users": 9}, "users is 9; a synthetic release accepts 10 or more."),
        ({"items": 11}, "items is 11; a synthetic release accepts 12 or more."),
        ({"seed": -1}, "seed is -1; accepted are integers from 0 to 9,223,372,036,854,775,807."),
        ({"workers": 0}, "workers is 0; a synthetic release accepts 1 or more."),
    ],
)
def test_too_little_is_refused_before_anything_is_written(tmp_path: Path, given: dict[str, int], message: str) -> None:
    with pytest.raises(InputError) as error:
        write_release(tmp_path / "release", **given)
    assert str(error.value) == message
    assert list(tmp_path.iterdir()) == []
