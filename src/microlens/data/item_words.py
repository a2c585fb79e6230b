"""The words of titles, weighted by TF-IDF."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from microlens.data.interactions import Int64

WORD = r"[\p{L}\p{N}']+"
# Scripts without blanks between words; neighbouring characters stand for their words.
UNSPACED = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}"
PAIR = f"[{UNSPACED}]{{2}}"
HASHTAG = r"#[^#]+"


@dataclass(frozen=True, kw_only=True)
class ItemWords:
    """Words of items as sparse rows of unit length.

    The words of item number i are ``words[offsets[i]:offsets[i+1]]``, numbers below V, with ``weights`` (E,);
    ``offsets`` is (N+2,), because row 0, padding, has no words. ``vocabulary`` has a row for each word, in the order of
    their numbers: the word, its number and its idf.
    """

    offsets: Int64
    words: Int64
    weights: npt.NDArray[np.float32]
    vocabulary: pl.DataFrame

    @property
    def names(self) -> list[str]:
        """The words themselves, (V,)."""
        return self.vocabulary["word"].to_list()


def item_words(titles: Sequence[str], min_items: int = 2) -> ItemWords:
    """Split titles into words and weight them by TF-IDF, scaled to unit length.

    Words are runs of letters and digits in lower case; in scripts without blanks, single characters and pairs of
    neighbours; and hashtags as a whole. A word that occurs k times in a title and in n of N titles has the weight
    (1 + log k) (1 + log((1 + N) / (1 + n))), as in scikit-learn's TfidfVectorizer with sublinear_tf (Salton and Buckley
    1988).

    Args:
        titles: titles of items 1 to N.
        min_items: words that occur in fewer titles are left out.
    """
    counted = _counted(titles)
    spread = counted.group_by("word").len("items").filter(pl.col("items") >= min_items).sort("word")
    idf = 1 + ((1 + len(titles)) / (1 + pl.col("items"))).log()
    return _rows(counted, len(titles), spread.with_row_index("number").select("word", "number", idf=idf))


def words_of(titles: Sequence[str], vocabulary: pl.DataFrame) -> ItemWords:
    """Split titles (A,) of other items into the words of a ``vocabulary``, with its idf; other words are left out.

    A title gets the same words and weights as in :func:`item_words`, where the vocabulary is from.
    """
    return _rows(_counted(titles), len(titles), vocabulary)


def _counted(titles: Sequence[str]) -> pl.DataFrame:
    """How often each word occurs in each title: columns item, word and count."""
    return _found(titles).group_by("item", "word").len("count")


def _rows(counted: pl.DataFrame, num_items: int, vocabulary: pl.DataFrame) -> ItemWords:
    rows = counted.join(vocabulary, on="word").sort("item", "number")
    rows = rows.with_columns(weight=(1 + pl.col("count").log()) * pl.col("idf"))
    rows = rows.with_columns(pl.col("weight") / pl.col("weight").pow(2).sum().sqrt().over("item"))
    lengths = np.bincount(rows["item"].to_numpy(), minlength=num_items + 1)
    return ItemWords(
        offsets=np.concatenate([[0], lengths.cumsum()]).astype(np.int64),
        words=rows["number"].cast(pl.Int64).to_numpy(writable=True),
        weights=rows["weight"].cast(pl.Float32).to_numpy(writable=True),
        vocabulary=vocabulary,
    )


def _found(titles: Sequence[str]) -> pl.DataFrame:
    """Every word of every title: columns item and word."""
    text = pl.col("title").str.normalize("NFKC").str.to_lowercase()
    # Matches of a pattern do not overlap: every other pair is found without the first character of each run.
    later = text.str.replace_all(f"(^|[^{UNSPACED}])[{UNSPACED}]", "${1} ")
    words = [text.str.extract_all(pattern) for pattern in (WORD, f"[{UNSPACED}]", PAIR, HASHTAG)]
    table = pl.DataFrame({"title": pl.Series(titles, dtype=pl.String)}).with_row_index("item", 1)
    found = table.select("item", word=pl.concat_list(*words, later.str.extract_all(PAIR))).explode("word")
    stripped = pl.col("word").str.replace(r"^#\s*", "#").str.strip_chars()
    return found.drop_nulls().with_columns(stripped).filter(pl.col("word") != "#")
