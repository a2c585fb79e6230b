"""Downloading a set from a server that works, and from one that fails in every way."""

import re
from pathlib import Path

import pytest

from microlens.download.release import download_release, plan_release
from microlens.download.server import USER_AGENT
from microlens.download.state import FOLDER
from microlens.download.work import Download
from microlens.errors import InputError
from microlens.release.folder import find_release
from tests.download import tiny_set
from tests.download.file_server import FileServer, serving
from tests.download.zip_files import split_zip

VIDEO_ZIP, COVER_ZIP = "Tiny-Dataset/Tiny_videos.zip", "Tiny-Dataset/Tiny_covers.zip"
TITLES = "Tiny-Dataset/Tiny_titles.csv"


def download(server: FileServer, out: Path, **options) -> Download:
    return download_release("tiny", out, mirror=server.address, **options)


def content(out: Path) -> dict[str, bytes]:
    """The files of a release without hidden ones, by path."""
    paths = [path for path in out.rglob("*") if path.is_file() and FOLDER not in path.parts]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize(("singles", "archives"), [(True, True), (True, False), (False, True)])
def test_a_set_is_downloaded_from_zips_or_single_files(tiny, tmp_path, singles, archives):
    with serving(tiny_set.served(singles=singles, archives=archives)) as server:
        done = download(server, tmp_path / "out")
        assert done.missing == {}
        assert content(tmp_path / "out") == tiny_set.released()
        assert len(done.fetched) == len(tiny_set.released())
        server.requests.clear()
        again = download(server, tmp_path / "out")
    assert (again.fetched, again.missing, again.present) == ({}, {}, len(tiny_set.released()))
    assert server.requests == []


def test_the_server_sees_a_user_agent_of_ours(server, tmp_path):
    download(server, tmp_path / "out", only=["titles"])
    assert {request.agent for request in server.requests} == {USER_AGENT}


def test_prepare_does_not_report_the_state_of_the_download(server, tmp_path):
    download(server, tmp_path / "out", only=["pairs", "titles", "covers"])
    release = find_release(tmp_path / "out")
    assert release.unused == {"no part of a release is called so": []} or release.unused == {}
    assert [path.name for path in release.covers] == ["Tiny_covers"]


def test_only_the_chosen_kinds_are_fetched(server, tmp_path):
    download(server, tmp_path / "out", only=["titles"])
    assert content(tmp_path / "out").keys() == {"Tiny_titles.csv"}
    with pytest.raises(InputError, match=r"Tiny has no sounds; its kinds are pairs, titles, readme, covers, videos\."):
        download(server, tmp_path / "out", only=["sounds"])


@pytest.mark.parametrize("archives", [True, False])
def test_a_number_of_items_is_drawn_with_the_seed_whatever_the_way(tiny, tmp_path, archives):
    drawn = []
    for seed in (0, 0, 1):
        with serving(tiny_set.served(archives=archives)) as server:
            out = tmp_path / f"{len(drawn)}"
            download(server, out, items=4, seed=seed, only=["videos"])
            drawn.append(sorted(name for name in content(out) if name.endswith("mp4")))
            assert len(drawn[-1]) == 4
            assert server.sent("singles") == 0
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] == ["Tiny_videos/1.mp4", "Tiny_videos/12.mp4", "Tiny_videos/5.mp4", "Tiny_videos/7.mp4"]


def test_named_items_are_read_by_range_from_the_parts_that_hold_them(server, tmp_path):
    (tmp_path / "ids.txt").write_text("3\n\n 7 \n99\n")
    done = download(server, tmp_path / "out", items=tmp_path / "ids.txt", only=["videos"])
    assert sorted(content(tmp_path / "out")) == ["Tiny_videos/3.mp4", "Tiny_videos/7.mp4"]
    assert list(done.missing) == ["Tiny_videos/99.mp4"]
    assert re.fullmatch(
        r"in the zip: it is not there; as a single file: it is not .* \(404\)", done.missing.popitem()[1]
    )
    assert sum(map(server.sent, (".zip", ".z01", ".z02", ".z03"))) < 3 * 22_000


def test_a_wrong_list_of_items_is_an_error_with_its_line(server, tmp_path):
    (tmp_path / "ids.txt").write_text("3\nseven\n")
    with pytest.raises(InputError, match=r"ids\.txt, line 2: 'seven' is no item id"):
        download(server, tmp_path / "out", items=tmp_path / "ids.txt")
    with pytest.raises(InputError, match="13 items are asked for, and there are 12"):
        download(server, tmp_path / "out", items=13)


FAULTS = [
    "cut", "cut_at_once", "no_ranges", "too_long", 429, 503, 500, "redirect_here",
]  # fmt: skip


@pytest.mark.parametrize("archives", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
def test_faults_that_pass_change_nothing(tiny, tmp_path, fault, archives):
    with serving(tiny_set.served(archives=archives, singles=not archives)) as server:
        for path in server.files:
            server.faults[path].extend([fault] * 2)
        done = download(server, tmp_path / "out")
    assert done.missing == {}
    assert content(tmp_path / "out") == tiny_set.released()


@pytest.mark.parametrize("archives", [True, False])
@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (403, "refuses it \\(403\\)"), (404, "not on the server \\(404\\)"), (401, "asks for a login"),
        (400, "status 400"),
        ("page", "a web page was sent"), ("hidden_page", "a web page was sent"),
        ("error_message", "an error message of a server was"), ("error_of_a_store", "an error message of a server was"),
        ("lfs_pointer", "a Git LFS pointer was sent"),
        ("redirect_elsewhere", "redirects to http://127.0.0.1:1, which is not allowed"),
    ],
)  # fmt: skip
def test_faults_that_stay_are_told_by_file_and_the_same_command_repairs_them(tiny, tmp_path, fault, why, archives):
    with serving(tiny_set.served(archives=archives, singles=not archives)) as server:
        for path in server.files:
            if "pairs" not in path:
                server.always[path] = fault
        done = download(server, tmp_path / "out")
        assert content(tmp_path / "out").keys() == {"Tiny_pairs.csv"}
        assert done.missing.keys() == tiny_set.released().keys() - {"Tiny_pairs.csv"}
        assert re.search(why, done.missing["Tiny_titles.csv"])
        listed = (tmp_path / "out" / FOLDER / "missing.txt").read_text()
        assert len(listed.splitlines()) == len(done.missing)
        server.always.clear()
        assert download(server, tmp_path / "out").missing == {}
        assert content(tmp_path / "out") == tiny_set.released()


def test_a_zip_that_cannot_be_had_is_replaced_by_single_files_and_the_other_way_round(server, tmp_path):
    server.always |= {VIDEO_ZIP: 404, "Tiny-Dataset/Tiny_covers/3.jpg": 404, COVER_ZIP: "page"}
    done = download(server, tmp_path / "out")
    assert list(done.missing) == ["Tiny_covers/3.jpg"]
    assert len(content(tmp_path / "out")) == len(tiny_set.released()) - 1
    assert any(note.startswith("Tiny_videos.zip is not read: it is not on the server (404)") for note in done.notes)


def test_a_missing_part_of_a_split_zip_costs_only_the_members_in_it(tiny, tmp_path):
    with serving(tiny_set.served(singles=False)) as server:
        server.always["Tiny-Dataset/Tiny_videos.z03"] = 404
        done = download(server, tmp_path / "out")
        assert 1 <= len(done.missing) <= 3
        assert all("the part Tiny_videos.z03: it is not on the server (404)" in why for why in done.missing.values())
        assert len(content(tmp_path / "out")) == len(tiny_set.released()) - len(done.missing)
        server.always.clear()
        assert download(server, tmp_path / "out").missing == {}
    assert content(tmp_path / "out") == tiny_set.released()


def test_a_wrong_crc_in_the_zip_costs_one_file_which_is_taken_as_a_single_one(tiny, tmp_path):
    videos = {name: body for name, body in tiny_set.released().items() if name.endswith("mp4")}
    parts = split_zip(videos, tiny_set.PART_SIZE, wrong_crc="Tiny_videos/5.mp4")
    files = tiny_set.served()
    files |= {f"Tiny-Dataset/Tiny_videos.z{number:02}": part for number, part in enumerate(parts[:-1], 1)}
    files[VIDEO_ZIP] = parts[-1]
    with serving(files) as server:
        server.always["Tiny-Dataset/Tiny_videos/5.mp4"] = 404
        done = download(server, tmp_path / "out")
        assert re.match("in the zip: its CRC-32 is", done.missing["Tiny_videos/5.mp4"])
        assert len(done.missing) == 1
        server.always.clear()
        assert download(server, tmp_path / "out").missing == {}
    assert content(tmp_path / "out") == tiny_set.released()


def test_a_zip_that_has_changed_is_read_anew(tiny, tmp_path):
    with serving(tiny_set.served(singles=False)) as server:
        download(server, tmp_path / "out", items=[1, 2], only=["videos"])
        server.files |= {
            path: body for path, body in tiny_set.served(singles=False).items() if ".z" in path
        }  # the same parts, and one that was cut off
        old = server.files["Tiny-Dataset/Tiny_videos.z02"]
        server.files["Tiny-Dataset/Tiny_videos.z02"] = old[:-1]
        broken = download(server, tmp_path / "out")
        assert "has changed on the server" in " ".join(broken.missing.values())
        server.files["Tiny-Dataset/Tiny_videos.z02"] = old
        assert download(server, tmp_path / "out").missing == {}
    assert content(tmp_path / "out") == tiny_set.released()


def test_where_ranges_are_ignored_a_single_zip_is_fetched_whole(tiny, tmp_path):
    with serving(tiny_set.served(singles=False)) as server:
        server.always["*"] = "no_ranges"
        done = download(server, tmp_path / "out", only=["covers"], items=[1, 2, 3])
        assert done.missing == {}
        assert sorted(content(tmp_path / "out"))[-3:] == [f"Tiny_covers/{item}.jpg" for item in (1, 2, 3)]
        videos = download(server, tmp_path / "out", only=["videos"], items=[1])
        assert list(videos.missing) == ["Tiny_videos/1.mp4"]
        assert "does not send parts" in videos.notes[0]


def test_covers_are_unpacked_from_the_whole_zip_which_is_removed(server, tmp_path):
    download(server, tmp_path / "out", only=["pairs", "covers"])
    assert server.sent("covers.zip") < 1.1 * len(server.files[COVER_ZIP])
    assert not list((tmp_path / "out").rglob("*.part"))


def test_members_that_lead_out_links_and_archives_within_are_left_out(tiny, tmp_path):
    covers = {f"x/{item}.jpg": tiny_set.cover(item) for item in (1, 2)}
    strange = {"../3.jpg": b"3", "/4.jpg": b"4", "C:/5.jpg": b"5", "x/more.zip": b"6", "__MACOSX/x/._1.jpg": b"7"}
    [whole] = split_zip(covers | strange | {"x/note.txt": b"8", "y/1.jpg": b"other"}, 10**9)
    with serving(tiny_set.served(singles=False) | {COVER_ZIP: whole}) as server:
        done = download(server, tmp_path / "out", only=["covers"])
    found = {name for name in content(tmp_path / "out") if name.endswith("jpg")}
    assert found == {"Tiny_covers/1.jpg", "Tiny_covers/2.jpg"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    notes = sorted(done.notes)
    assert [re.search(r"'(.*)' in the zip is left out: (.*)\.", note).groups() for note in notes] == [
        ("../3.jpg", "its name points out of the folder"),
        ("/4.jpg", "its name points out of the folder"),
        ("C:/5.jpg", "its name points out of the folder"),
        ("x/more.zip", "it is an archive within the archive"),
        ("x/note.txt", "it is not called ID.jpg"),
        ("y/1.jpg", "another file of the same item comes first"),
    ]


def test_a_file_with_another_checksum_than_the_registry_is_refused_and_kept(server, tmp_path):
    right = server.files["Tiny-Dataset/Tiny_pairs.csv"]
    server.files["Tiny-Dataset/Tiny_pairs.csv"] = right.replace(b"1", b"2")
    done = download(server, tmp_path / "out", only=["pairs"])
    assert re.search(
        r"are not the file of the registry; what came is kept as .*refused-", done.missing["Tiny_pairs.csv"]
    )
    assert content(tmp_path / "out") == {}
    server.files["Tiny-Dataset/Tiny_pairs.csv"] = right
    assert download(server, tmp_path / "out", only=["pairs"]).missing == {}


def test_what_the_registry_does_not_know_is_recorded_at_the_first_download(server, tmp_path, settings):
    download(server, tmp_path / "first", only=["titles"])
    server.files[TITLES] += b"13,new\n"
    done = download(server, tmp_path / "second", only=["titles"])
    assert re.search("are not the file of the first download on 20.*first-seen.json", done.missing["Tiny_titles.csv"])
    (settings / "first-seen.json").unlink()
    assert download(server, tmp_path / "second", only=["titles"]).missing == {}


def test_files_of_the_user_are_never_overwritten(server, tmp_path):
    out = tmp_path / "out"
    (out / "Tiny_covers").mkdir(parents=True)
    (out / "Tiny_titles.csv").write_bytes(b"mine")
    (out / "Tiny_covers" / "1.jpg").write_bytes(b"mine")
    (out / "Tiny_covers" / "2.jpg").write_bytes(tiny_set.cover(2))
    (out / "Tiny_pairs.csv").write_bytes(tiny_set.pairs())
    done = download(server, out)
    assert done.missing.keys() == {"Tiny_titles.csv", "Tiny_covers/1.jpg"}
    assert all("move it away to fetch the official one" in why for why in done.missing.values())
    assert (out / "Tiny_titles.csv").read_bytes() == (out / "Tiny_covers" / "1.jpg").read_bytes() == b"mine"
    assert server.sent("pairs.csv") == 0
    assert done.present == 2


def test_a_folder_that_is_gone_is_not_asked_for_every_item(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr("microlens.download.work.FAILURES_WITHOUT_SUCCESS", 3)
    with serving(tiny_set.served(singles=False, archives=False)) as server:
        done = download(server, tmp_path / "out", only=["videos"], jobs=1)
    assert len(done.missing) == 12
    assert sum(request.path.endswith("mp4") for request in server.requests) <= 5
    assert "not tried, as 3 others failed" in done.missing["Tiny_videos/12.mp4"]


def test_a_plan_names_files_and_bytes_and_writes_nothing(server, tmp_path):
    steps = plan_release("tiny", tmp_path / "out", mirror=server.address)
    assert [(step.path, step.files, step.present) for step in steps] == [
        ("Tiny_pairs.csv", 1, 0), ("Tiny_titles.csv", 1, 0), ("readme.txt", 1, 0), ("Tiny_covers", 12, 0),
        ("Tiny_videos", 12, 0),
    ]  # fmt: skip
    assert steps[1].size == len(server.files[TITLES])
    assert steps[4].size == pytest.approx(sum(len(tiny_set.video(item)) for item in tiny_set.ITEMS), rel=0.01)
    assert not (tmp_path / "out").exists()


def test_a_disk_that_is_too_small_is_noticed_before(server, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 100_000}))
    with pytest.raises(InputError, match=r"0\.0 GB are to be fetched, and the disk of .* has 0\.0 GB left; name fewer"):
        download(server, tmp_path / "out")
    assert server.sent("z01") <= 1


def test_progress_counts_files_and_bytes(server, tmp_path, monkeypatch):
    monkeypatch.setattr("microlens.download.progress.SECONDS_BETWEEN_CALLS", 0.0)
    seen = []
    download(
        server,
        tmp_path / "out",
        on_progress=lambda counts: seen.append((counts.files_done, counts.files, counts.size_done)),
    )
    assert seen == sorted(seen)
    assert seen[-1][0] >= seen[-1][1] == len(tiny_set.released())


def test_a_file_that_ends_early_is_fetched_once_more(tiny, tmp_path):
    with serving(tiny_set.served(archives=False)) as server:
        for path in server.files:
            server.faults[path].append("too_short" if path.endswith("csv") else "too_short_whole")
        server.always["Tiny-Dataset/Tiny_videos/2.mp4"] = "too_short_whole"
        server.faults[TITLES].appendleft(None)  # sizes are asked for first
        done = download(server, tmp_path / "out")
    assert done.notes[2:] == ["Tiny_videos/2.mp4 is cut short on the server."]
    wrong = {path for path, body in content(tmp_path / "out").items() if body != tiny_set.released()[path]}
    assert wrong == {"Tiny_videos/2.mp4"}


@pytest.mark.parametrize("archives", [True, False])
def test_a_file_that_was_changed_since_it_was_fetched_is_told(tiny, tmp_path, archives):
    out = tmp_path / "out"
    with serving(tiny_set.served(archives=archives)) as server:
        download(server, out)
        for name in ("Tiny_titles.csv", "Tiny_videos/3.mp4"):
            changed = bytearray((out / name).read_bytes())
            changed[-1] ^= 1
            (out / name).write_bytes(changed)
        (out / "readme.txt").touch()
        done = download(server, out)
        assert done.missing.keys() == {"Tiny_titles.csv", "Tiny_videos/3.mp4"}
        assert all(why.endswith("move it away to fetch the official one") for why in done.missing.values())
        (out / "Tiny_videos" / "3.mp4").unlink()
        assert download(server, out).missing.keys() == {"Tiny_titles.csv"}


def test_a_git_blob_is_computed_only_of_files_that_have_one(server, tmp_path, monkeypatch):
    monkeypatch.setattr("microlens.download.first_seen.git_blob", lambda path: pytest.fail(f"{path} is read again"))
    assert download(server, tmp_path, only=["pairs", "titles"]).missing == {}


def test_a_sentence_in_place_of_a_table_is_refused(server, tmp_path):
    server.files[TITLES] = b"Service is not available\n"
    assert download(server, tmp_path, only=["titles"]).missing == {"Tiny_titles.csv": "it is no table"}


@pytest.mark.real_data
def test_the_real_files_agree_with_the_registry(shared_data, tmp_path):
    base = "MicroLens-50k-Dataset"
    files = {path.name: path.read_bytes() for path in (shared_data / "microlens-50k").iterdir()}
    videos = {path.name: path.read_bytes() for path in (shared_data / "videos" / "microlens").iterdir()}
    covers = {f"covers/{path.name}": path.read_bytes() for path in (shared_data / "covers").iterdir()}
    served = {f"{base}/{name}": body for name, body in files.items()}
    served["MicroLens-100k-Dataset/tags_to_summary.csv"] = files["MicroLens-100k_tags_to_summary.csv"]
    served |= {f"{base}/MicroLens-50k_videos/{name}": body for name, body in videos.items()}
    served[f"{base}/MicroLens-50k_covers.zip"] = split_zip(covers, 10**9)[0]
    with serving(served) as server:
        tables = download_release("50k", tmp_path, only=["pairs", "titles", "tags", "likes"], mirror=server.address)
        assert list(tables.missing) == ["MicroLens-50k_pairs.csv"]
        items = [int(Path(name).stem) for name in videos]
        done = download_release("50k", tmp_path, only=["videos"], items=items, mirror=server.address)
        assert done.missing == {}
        items = [int(Path(name).stem) for name in covers]
        done = download_release("50k", tmp_path, only=["covers"], items=items, mirror=server.address)
        assert done.missing == {}
    there = content(tmp_path)
    assert there["MicroLens-50k_titles.csv"] == files["MicroLens-50k_titles.csv"]
    assert {path: there[f"MicroLens-50k_videos/{path}"] for path in videos} == videos
    assert {path: there[f"MicroLens-50k_{path}"] for path in covers} == covers
