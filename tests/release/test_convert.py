"""Datasets in other formats become releases with the same content, or are refused in one sentence."""

import gzip
from collections.abc import Mapping
from pathlib import Path

import polars as pl
import pytest

import microlens as ml
from microlens.data.prepare import ReleaseSource
from microlens.errors import InputError
from microlens.release.convert import convert
from microlens.release.folder import find_release
from microlens.release.pairs import pairs_of, read_pairs
from microlens.release.remote import OpenRelease
from tests.data.test_prepare import run_command

Files = Mapping[str, str | bytes]
INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
U_DATA = "196\t242\t3\t881250949\n186\t302\t3\t891717742\n196\t302\t1\t881250955\n"
EVENTS = [(186, 302, 891717742000), (196, 242, 881250949000), (196, 302, 881250955000)]
TITLES = [(242, "Misérables, Les (1995)"), (302, 'Say "Yes" | No')]
TAGS = [(242, "Drama")]
U_GENRE = "unknown|0\nAction|1\nDrama|2\nWar|3\n\n"


def write(folder: Path, files: Files) -> Path:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def read(folder: Path) -> tuple[list[tuple[object, ...]], dict[str, list[tuple[object, ...]]]]:
    """The events of a release as `prepare` reads them, and the rows of titles and tags by column."""
    source = ReleaseSource(OpenRelease(find_release(folder)))
    pairs = pairs_of(source.events())
    tables = source.read_items(pairs.text_ids)
    assert not any(table.metadata.unreadable for table in tables)
    assert not source.unused
    rows = {table.metadata.table.columns[1]: table.metadata.table.rows() for table in tables}
    return pairs.with_ids().rows(), rows


MOVIELENS: dict[str, Files] = {
    "100k": {
        "u.data": U_DATA,
        "u.genre": U_GENRE,
        "u.item": (
            "242|Misérables, Les (1995)|01-Jan-1995||http://us.imdb.com/M|0|0|1|1\n"
            '302|Say "Yes" / No|01-Jan-1997||http://us.imdb.com/N|1|0|0|0\n'
        ).encode("latin-1"),
    },
    "1m": {
        "ratings.dat": U_DATA.replace("\t", "::"),
        "movies.dat": (
            '242::Misérables, Les (1995)::Drama|War\n302::Say "Yes" | No::(no genres listed)\n'
        ).encode("latin-1"),
    },
    "10m": {
        "ratings.dat": U_DATA.replace("\t3\t", "\t3.5\t").replace("\t", "::"),
        "movies.dat": '242::Misérables, Les (1995)::Drama|War\n302::Say "Yes" | No::\n',
    },
    "25m": {
        "ratings.csv": "userId,movieId,rating,timestamp\n" + U_DATA.replace("\t", ","),
        "movies.csv": (
            'movieId,title,genres\r\n242,"Misérables, Les (1995)",Drama|War\r\n'
            '302,"Say ""Yes"" | No",(no genres listed)\r\n'
        ),
    },
}  # fmt: skip


@pytest.mark.parametrize("layout", MOVIELENS)
def test_movielens(tmp_path: Path, layout: str) -> None:
    source = write(tmp_path / "ml", {**MOVIELENS[layout], "README": "About."})
    done = convert(source, tmp_path / "out")
    titles = [TITLES[0], (302, 'Say "Yes" / No')] if layout == "100k" else TITLES
    assert read(tmp_path / "out") == (EVENTS, {"title": titles, "tag": TAGS})
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "ml_pairs.csv",
        "ml_tags.csv",
        "ml_titles.csv",
    ]
    assert (done.format, done.users, done.items, done.interactions) == ("movielens", 2, 2, 3)
    assert (done.titles, done.tags) == (2, 1)
    assert "not read: README" in done.notes


def test_pairs_keep_the_order_of_the_file_and_texts_are_written_in_utf_8(tmp_path: Path) -> None:
    convert(write(tmp_path / "ml", MOVIELENS["1m"]) / "ratings.dat", tmp_path / "out")
    written = (tmp_path / "out" / "ml_pairs.csv").read_text()
    assert written == "user,item,timestamp\n196,242,881250949000\n186,302,891717742000\n196,302,881250955000\n"
    titles = (tmp_path / "out" / "ml_titles.csv").read_bytes().decode()
    assert titles == 'item,title\n242,"Misérables, Les (1995)"\n302,"Say ""Yes"" | No"\n'


@pytest.mark.parametrize("name", ["u1.base", "mine.txt", "u.data.gz"])
def test_ratings_of_any_name_are_recognised_by_their_first_line(tmp_path: Path, name: str) -> None:
    content = gzip.compress(U_DATA.encode()) if name.endswith(".gz") else U_DATA
    assert convert(write(tmp_path / "ml", {name: content}) / name, tmp_path / "out").format == "movielens"
    assert read(tmp_path / "out") == (EVENTS, {})


def test_without_the_names_of_genres_there_are_titles_and_no_tags(tmp_path: Path) -> None:
    files = {name: content for name, content in MOVIELENS["100k"].items() if name != "u.genre"}
    convert(write(tmp_path / "ml", files), tmp_path / "out")
    assert read(tmp_path / "out")[1] == {"title": [TITLES[0], (302, 'Say "Yes" / No')]}


def test_what_is_not_read_of_movielens_is_said(tmp_path: Path) -> None:
    ratings = "userId,movieId,rating,timestamp,device\n1,2,4.0,978300760,phone\n"
    films = {"ratings.csv": ratings, "movies.csv": "movieId,title,genres,runtime\n2,A,Drama,90\n"}
    done = convert(write(tmp_path / "ml", films), tmp_path / "out")
    assert {"ratings.csv: columns not read: device", "movies.csv: columns not read: runtime"} <= set(done.notes)
    done = convert(write(tmp_path / "empty", {"ratings.csv": ratings, "movies.csv": ""}), tmp_path / "without")
    assert "movies.csv is empty" in done.notes


@pytest.mark.parametrize("to", ["official", "recbole", "parquet", "mmrec"])
def test_rows_of_items_whose_ids_cannot_be_those_of_the_interactions_are_counted(tmp_path: Path, to: str) -> None:
    header = "item_id:token\ttitle:token_seq\n"
    files = {
        "a.inter": INTER + "1\t1\t3\t978300760\n1\t2\t3\t978300761\n",
        "a.item": header + "1.0\tx\nabc\tq\n[PAD]\tz\n1\ty\n",
    }
    done = convert(write(tmp_path / "a", files), tmp_path / "out", to=to)
    said = "titles: dropped are rows whose ids are no integers, as those of the interactions are: 2, such as 'abc'"
    assert said in done.notes
    assert done.titles == 1
    if to == "official":
        assert read(tmp_path / "out")[1] == {"title": [(1, "x")]}


RECBOLE_ITEMS = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"


def test_recbole(tmp_path: Path) -> None:
    files = {
        "ab.inter": INTER + "u1\tx,1\t5.0\t978302109\nü 2\tx2\t1\t978302000\nu1\tx2\t\t978300760\n",
        "ab.item": RECBOLE_ITEMS + 'x,1\tAmi, "le" (2001)\t2001\tSci-Fi War\nx2\tB\t\t\nx3\t\t1\tAction\n',
        "ab.user": "user_id:token\tage:token\n",
    }
    done = convert(write(tmp_path / "recbole", files), tmp_path / "out")
    events = [("u1", "x2", 978300760000), ("u1", "x,1", 978302109000), ("ü 2", "x2", 978302000000)]
    titles = [("x,1", 'Ami, "le" (2001)'), ("x2", "B")]
    assert read(tmp_path / "out") == (events, {"title": titles, "tag": [("x,1", "Sci-Fi"), ("x3", "Action")]})
    assert {"not read: ab.user", "ab.inter: columns not read: rating"} <= set(done.notes)


@pytest.mark.parametrize(
    ("header", "rows", "expected"),
    [
        ("item_id:token\ttimestamp:float\tuser_id:token", "5\t978300760\t1\n", [(1, 5, 978300760000)]),
        ("session_id:token\ttrack:token\ttimestamp:float", "1\t5\t978300760.5\n", [(1, 5, 978300760500)]),
        ("who:token\tvideo_id:token\ttime:float", "1\t5\t978300760123\n", [(1, 5, 978300760123)]),
        ("user_id:token\titem_id:token\ttimestamp:float", "\n1\t5\t9\n\n1\t4\t8\n", [(1, 4, 8), (1, 5, 9)]),
        ("user_id:token\titem_id:token\ttimestamp:float", "1\t4\t4.0\n1\t5\t2.0\n1\t6\t3.0\n",
         [(1, 5, 2), (1, 6, 3), (1, 4, 4)]),
        ("user_id:token\titem_id:token\ttimestamp:float", "007\t5.0\t978300760\n7\t4\t978300761\n",
         [("007", 5, 978300760000), ("7", 4, 978300761000)]),
        ("user_id:token\titem_id:token", "2\t9\n1\t5\n2\t3\n2\t9\n1\t1\n",
         [(1, 5, 0), (1, 1, 1), (2, 9, 0), (2, 3, 1)]),
    ],
)  # fmt: skip
def test_columns_of_recbole(tmp_path: Path, header: str, rows: str, expected: list[tuple[object, ...]]) -> None:
    source = write(tmp_path / "source", {"x.inter": f"{header}\n{rows}"}) / "x.inter"
    convert(source, tmp_path / "out")
    assert read(tmp_path / "out") == (expected, {})


def test_recbole_of_any_name_is_recognised_by_its_header(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"x.txt": INTER + "1\t5\t3\t978300760\n"}) / "x.txt"
    assert convert(source, tmp_path / "out").format == "recbole"
    assert read(tmp_path / "out") == ([(1, 5, 978300760000)], {})


def test_a_tag_that_is_no_sequence_is_kept_whole(tmp_path: Path) -> None:
    items = "title:token\titem_id:token\tcategory:token\nOne\t5\tHair care\n"
    convert(write(tmp_path / "x", {"x.inter": INTER + "1\t5\t1\t978300760\n", "x.item": items}), tmp_path / "out")
    assert read(tmp_path / "out")[1] == {"title": [(5, "One")], "tag": [(5, "Hair care")]}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("1 5 3 5 4\n2 5\n", [(1, 5, 0), (1, 3, 1), (1, 4, 2), (2, 5, 0)]),  # S3-Rec
        ("1 5\n2 5\n1 3\n", [(1, 5, 0), (1, 3, 1), (2, 5, 0)]),  # SASRec
        ("\ufeff1 5 3 \r\n\r\n2  5\r\n", [(1, 5, 0), (1, 3, 1), (2, 5, 0)]),
    ],
)
def test_s3rec(tmp_path: Path, content: str, expected: list[tuple[int, ...]]) -> None:
    done = convert(write(tmp_path / "s3", {"Beauty.txt": content}) / "Beauty.txt", tmp_path / "out")
    assert read(tmp_path / "out") == (expected, {})
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["Beauty_pairs.tsv"]
    assert done.format == "s3rec"


def test_text_ids_of_s3rec_need_the_format(tmp_path: Path) -> None:
    source = write(tmp_path / "s3", {"x.txt": "ann b07,x 5\nbob b07,x\n"}) / "x.txt"
    with pytest.raises(InputError, match="no known format"):
        convert(source, tmp_path / "out")
    convert(source, tmp_path / "out", "s3rec")
    assert read(tmp_path / "out")[0] == [("ann", "b07,x", 0), ("ann", "5", 1), ("bob", "b07,x", 0)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.inter", "", r"x\.inter is empty; expected a header such as user_id:token"),
        ("x.inter", "user_id\titem_id\n1\t2\n", r"x\.inter, line 1: 'user_id' is not a name and a type"),
        ("x.inter", "user_id:token,item_id:token\n1,2\n", r"line 1: 'user_id:token,item_id:token' is not a name and a"),
        ("x.inter", "user_id:token\ttimestamp:float\n1\t2\n", "line 1: no columns of type token for users and items"),
        ("x.inter", "\nitem_id:token\n1\n", "line 2: no columns of type token for users and items"),
        ("x.inter", INTER, r"x\.inter holds no rows"),
        ("x.inter", INTER + "1\t2\t3\t978300760\n\n1\t2\t3\n", "line 4: 3 columns instead of 4"),
        ("x.inter", INTER + "1\t2\t3\t978300760\n1,2,3,978300760\n", "line 3: 1 column instead of 4"),
        ("x.inter", INTER + "1\t2\t3\t978300760\n1\t2\t3\t978300760\t1\n", "line 3: 5 columns instead of 4"),
        ("x.inter", INTER + "1\t2\t3\t978300760\n1\t2\t3\tsoon\n", "line 3: 'soon' is not a time"),
        ("x.inter", INTER + "1\t2\t3\t978300760\n1\t2\t3\t\n", "line 3: '' is not a time"),
        ("x.inter", INTER + "1\t2\t3\t978300760\n1\tb\t3\t978300760\n", "line 3: 'b' is not an integer"),
        ("x.inter", INTER + "1\tb\t3\t978300760\n1\t\t3\t978300760\n", "line 3: an id is empty"),
        ("x.inter", INTER.encode() + b"1\tb\xe9\t3\t978300760\n", "line 2: the byte 0xe9 is not UTF-8"),
        ("x.inter", "user_id:token\titem_id_list:token_seq\titem_id:token\n", "line 1: 'item_id_list' holds sequences"),
        ("x.inter", "user_id:token\titem_id:token\n1\ta b\n", r"x\.inter: the item id 'a b' holds a blank"),
        ("x.inter", INTER + "1\t2\t3\t2023-01-01T08:00+24:00\n", r"line 2: '.*' has an impossible time zone"),
        ("u.data", "\n \n", r"u\.data is empty; expected user, item, rating and timestamp"),
        ("u.data", U_DATA + "1 2 3 978300760\n", "line 4: 1 column instead of 4"),
        ("u.data", U_DATA + "1\t2\t3\tx\n", "line 4: 'x' is not a time"),
        ("u.data", U_DATA + "1\t2\t3\t978300760000\n", "line 4: '978300760000' is a time in milliseconds"),
        ("ratings.dat", "1::2::3::978300760\n1\t2\t3\t978300760\n", "line 2: 1 column instead of 4"),
        ("ratings.dat", "1::2::3::978300760\n1::2::3\n", "line 2: 3 columns instead of 4"),
        ("ratings.csv", "userId,movieId,rating\n1,2,3\n", "line 1: the columns are 'userId,movieId,rating'"),
        ("ratings.csv", "userId,movieId,rating,timestamp\n1,2,3,4\n1;2;3;4\n", "line 3: 1 column instead of 4"),
        ("x.txt", "1 2 3\n4\n", r"x\.txt, line 2: '4' has no items; expected a user and the user's items"),
        ("x.txt", "1 2 3\n4 5 x\n", "line 2: 'x' is not an integer"),
        ("x.txt", "1 2 3\n4\t5 6\n", r"line 2: '4 5' is not an integer"),
    ],
)  # fmt: skip
def test_bad_interactions_are_refused(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    source = write(tmp_path / "source", {name: content}) / name
    with pytest.raises(InputError, match=message) as caught:
        convert(source, tmp_path / "out")
    assert str(source) in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


@pytest.mark.parametrize(
    ("layout", "name", "content", "message"),
    [
        ("100k", "u.item", "1|One|01-Jan-1995||x|0|1\n", r"u\.item, line 1: 7 columns; expected item\|title"),
        ("100k", "u.item", "1|One|||x|0|1|0|0\n2|Two|||x|0|1\n", r"u\.item, line 2: 7 columns instead of 9"),
        ("100k", "u.genre", "Action|0\nDrama|2\n", r"u\.genre: the genres are not numbered 0, 1"),
        ("1m", "movies.dat", "1::One::War\n2::Two\n", r"movies\.dat, line 2: 2 columns instead of 3"),
        ("25m", "movies.csv", "movieId,title,genres\n1,One,War\n2,Two\n", r"movies\.csv, line 3: 2 instead of 3"),
        ("25m", "movies.csv", "a,b,c\nd,e,f\n", r"movies\.csv, line 1: 'a,b,c'; expected the columns item, title, tag"),
    ],
)  # fmt: skip
def test_bad_films_are_refused(tmp_path: Path, layout: str, name: str, content: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        convert(write(tmp_path / "ml", {**MOVIELENS[layout], name: content}), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        (
            {"notes.txt": "Some prose here.\n"},
            {},
            r"holds no file of interactions .* RecBole's .* S3Rec's .* MovieLens'",
        ),
        ({"a.inter": INTER, "b.inter": INTER}, {}, r"several files of interactions \(a\.inter, b\.inter\); name one"),
        ({"a.inter": INTER, "u.data": U_DATA}, {}, r"several files of interactions \(a\.inter, u\.data\); name one"),
        ({"u.data": U_DATA}, {"format": "recbole"}, r"in a known format; accepted are RecBole's atomic files"),
        (
            {"u.data": U_DATA},
            {"format": "netflix"},
            "no format 'netflix'; accepted are mmrec, recbole, s3rec, parquet, .*release",
        ),
    ],
)
def test_folders_without_one_dataset_are_refused(
    tmp_path: Path, files: Files, options: dict[str, str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        convert(write(tmp_path / "source", files), tmp_path / "out", **options)


def test_sources_that_are_no_dataset_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing does not exist; accepted are MMRec's"):
        convert(tmp_path / "nothing", tmp_path / "out")
    source = write(tmp_path / "source", {"x.csv": gzip.compress(b"Some prose.\n")}) / "x.csv"
    with pytest.raises(InputError, match=r"x\.csv is in no known format; accepted are MMRec's"):
        convert(source, tmp_path / "out")


def test_a_forced_format_settles_which_file_of_a_folder_is_read(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {"a.inter": INTER, "u.data": U_DATA})
    convert(source, tmp_path / "out", "movielens")
    assert read(tmp_path / "out")[0] == EVENTS


def test_an_existing_folder_is_left_alone(tmp_path: Path) -> None:
    source, out = write(tmp_path / "ml", MOVIELENS["100k"]), write(tmp_path / "out", {"x_pairs.csv": "mine"})
    with pytest.raises(InputError, match=r"out exists already; name a folder that does not"):
        convert(source, out)
    assert [path.read_text() for path in out.iterdir()] == ["mine"]


def test_nothing_is_left_if_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(table: pl.DataFrame, path: Path, **options: object) -> None:
        path.write_text("half")
        if "titles" in path.name:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_csv", full)
    with pytest.raises(OSError, match="No space left"):
        convert(write(tmp_path / "ml", MOVIELENS["100k"]), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ml"]


@pytest.mark.parametrize("name", ["hashtags", "my titles", "pairs", ".hidden", "..."])
def test_names_that_would_be_taken_for_another_part(tmp_path: Path, name: str) -> None:
    source = write(tmp_path / "ml", {**MOVIELENS["10m"]}).rename(tmp_path / f"{name}-")
    convert(source, tmp_path / "out")
    assert read(tmp_path / "out") == (EVENTS, {"title": TITLES, "tag": TAGS})


def test_the_command(tmp_path: Path) -> None:
    source = write(tmp_path / "ml", MOVIELENS["100k"])
    status, told, _ = run_command("data", "convert", source, tmp_path / "out")
    assert status == 0
    assert "3 interactions, 2 users, 2 items, 2 titles and 1 tags, converted from movielens to official." in told
    assert "note: u.item was read as latin-1, such as 'é'" in told
    status, _, told = run_command("data", "convert", source, tmp_path / "out")
    assert (status, told) == (2, f"microlens: {tmp_path / 'out'} exists already; name a folder that does not.\n")
    status, _, told = run_command("data", "convert", source, tmp_path / "other", "--format", "recbole")
    assert status == 2
    assert "NAME.inter" in told
    assert ml.convert(source, tmp_path / "third", format="movielens").interactions == 3


@pytest.mark.parametrize(
    ("name", "content", "hinted"),
    [
        ("x.inter", INTER, "RecBole's atomic files"),
        ("u.data", U_DATA, "MovieLens' own files"),
        ("Beauty.txt", "1 5 3\n", "S3Rec's or SASRec's text file"),
    ],
)
def test_preparing_a_source_names_the_command(tmp_path: Path, name: str, content: str, hinted: str) -> None:
    folder = write(tmp_path / "source", {name: content, "about.txt": "Some prose.\n"})
    for path in (folder, folder / name):
        with pytest.raises(InputError, match=rf"; microlens data convert reads {hinted}.*\.$"):
            find_release(path)


@pytest.mark.parametrize(
    ("name", "content", "hinted"),
    [
        ("x_pairs.tsv", "user_id:token\titem_id:token\trating:float\n1\t2\t3\n", "RecBole's"),
        ("x_pairs.csv", "user_id:token\titem_id:token\trating:float\n1\t2\t3\n", "RecBole's"),
        ("x_pairs.tsv", U_DATA, "MovieLens'"),
        ("x_pairs.csv", U_DATA, "MovieLens'"),
        ("x_pairs.tsv", "1 5 3\n", "S3Rec's"),
        ("x_pairs.csv", "1 5 3\n", "S3Rec's"),
    ],
)
def test_pairs_in_another_format_name_the_command(tmp_path: Path, name: str, content: str, hinted: str) -> None:
    with pytest.raises(InputError, match=rf"line [12]: .*; microlens data convert reads {hinted}.*\.$"):
        read_pairs(write(tmp_path / "source", {name: content}) / name)


def test_other_mistakes_have_no_hint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"without control characters\.$"):
        read_pairs(write(tmp_path / "source", {"x_pairs.csv": "1,2\n"}) / "x_pairs.csv")
    with pytest.raises(InputError, match=r"item \.\.\.\)\.$"):
        find_release(write(tmp_path / "other", {"about.txt": "Some prose.\n"}))


def test_the_release_beside_its_source_is_no_file_that_was_not_read(tmp_path: Path) -> None:
    source = tmp_path / "ours.inter"
    source.write_text("user_id:token\titem_id:token\n1\t2\n")
    assert convert(source, tmp_path / "ours").notes == ()
