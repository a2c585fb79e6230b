"""data download and data adopt on the command line."""

from tests.data.test_prepare import run_command
from tests.download import tiny_set
from tests.download.test_release import content


def test_a_download_says_what_came_and_what_to_do_next(server, tmp_path):
    out = tmp_path / "out"
    status, told, _ = run_command("data", "download", "tiny", out, "--mirror", server.address)
    assert status == 0
    assert f"{out}: 27 files fetched (" in told
    assert told.rstrip().endswith(f"Next: microlens data prepare {out} DATASET")
    assert content(out) == tiny_set.released()


def test_missing_files_are_listed_and_the_status_is_1(server, tmp_path):
    server.always["*"] = 404
    status, told, _ = run_command("data", "download", "tiny", tmp_path / "out", "--mirror", server.address)
    assert status == 1
    assert "missing: Tiny_titles.csv (it is not on the server (404))" in told
    assert "missing.txt). Next: the same command again" in told


def test_a_dry_run_shows_a_plan_and_writes_nothing(server, tmp_path, monkeypatch):
    monkeypatch.setenv("MICROLENS_MIRROR", server.address)
    status, told, _ = run_command("data", "download", "tiny", tmp_path / "out", "--dry-run", "--items", "3")
    assert status == 0
    assert "pairs: Tiny_pairs.csv, 1 file, " in told
    assert "videos: Tiny_videos, 3 files, 6" in told
    assert told.splitlines()[-1].startswith("in all: ")
    assert not (tmp_path / "out").exists()


def test_a_wrong_set_kind_or_mirror_is_one_sentence(tiny, tmp_path):
    for arguments, sentence in (
        (("2m", tmp_path), "there is no set called '2m'; the sets are tiny."),
        (
            ("tiny", tmp_path, "--only", "pears"),
            "Tiny has no pears; its kinds are pairs, titles, readme, covers, videos.",
        ),
        (("tiny", tmp_path, "--mirror", "ftp://x/"), "mirror: 'ftp://x/' is no http or https address."),
        (("tiny", tmp_path, "--items", "nowhere.txt"), "nowhere.txt, the list of items, cannot be read"),
    ):
        status, _, told = run_command("data", "download", *arguments)
        assert status == 2
        assert sentence in told


def test_adopting_says_what_was_left_out(tiny, tmp_path):
    folder = tmp_path / "by hand"
    folder.mkdir()
    (folder / "interactions").write_bytes(tiny_set.pairs())
    (folder / "notes").write_bytes(b"to do")
    status, told, _ = run_command("data", "adopt", folder, tmp_path / "out")
    assert status == 0
    assert "1 files of tiny, and 0 were there" in told
    assert "left out: notes (its content is not that of an official file)" in told
    assert f"Next, for the rest: microlens data download tiny {tmp_path / 'out'}" in told
