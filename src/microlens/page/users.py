"""The example users of the page: their history, their next item, and the recommendations of every run."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from microlens.data.dataset import Dataset
from microlens.data.interactions import Int64, ItemIds
from microlens.data.split import Split
from microlens.page.comparison import ComparedRun
from microlens.page.examples import Example, choose_examples, first_items
from microlens.page.pictures import Pictures
from microlens.release.ids import Id
from microlens.runs.assembly import open_experiment
from microlens.runs.recommend import Ranker


@dataclass(frozen=True, kw_only=True)
class _Items:
    """How items are drawn, by item number of the split: ids (N+1,), the dataset's numbers (N+1,), titles or ""."""

    ids: ItemIds
    numbers: Int64
    titles: list[str]
    pictures: Pictures

    def card(self, item: int, *, target: bool = False, note: str = "") -> str:
        """A picture with the title below, or the title alone where there is no picture."""
        name = escape(self.titles[item] or f"item {self.ids[item]}")
        jpeg = self.pictures.jpeg(int(self.numbers[item]))
        picture, below = f"<span>{name}</span>", ""
        if jpeg is not None:
            picture, below = (
                f'<img alt="" src="data:image/jpeg;base64,{b64encode(jpeg).decode()}">',
                f"<span>{name}</span>",
            )
        note = f"<b>{note}</b>" if note else ""
        return (
            f'<figure class="card{" target" if target else ""}" title="{name}">'
            f"<div>{picture}</div>{note}{below}</figure>"
        )


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """An example user: ``history`` (H,) item numbers, the target, and its number of training interactions."""

    example: Example
    user_id: Id
    history: Int64
    target: int
    train_count: int


def users_section(runs: Sequence[ComparedRun], dataset: Dataset, split: Split) -> str:
    """The section of example users, as HTML.

    Raises:
        InputError: the weights of a run are missing, or a stored picture is damaged.
    """
    examples = choose_examples(split, np.stack([run.ranks for run in runs]), {run.name: run.report for run in runs})
    shown = [_shown(example, dataset, split) for example in examples]
    rows: list[list[str]] = [[] for _ in shown]
    pictures = Pictures(dataset)
    for run in runs:  # one catalogue in memory at a time
        ranker = Ranker(open_experiment(run.folder, dataset.folder))
        titles = ["", *ranker.titles.to_list()]
        items = _Items(ids=ranker.run.item_ids(), numbers=split.items_kept, titles=titles, pictures=pictures)
        for user, own_rows in zip(shown, rows, strict=True):
            own_rows.append(_run_row(run, ranker, items, user))
    return "\n".join(_user(user, items, own_rows) for user, own_rows in zip(shown, rows, strict=True))


def _shown(example: Example, dataset: Dataset, split: Split) -> _Shown:
    user = np.array([example.user])
    history, target = split.history("test", user)[0], int(split.targets("test")[example.target])
    return _Shown(
        example=example,
        user_id=dataset.user_ids[int(split.users_kept[example.user])],
        history=history[history > 0].astype(np.int64),
        target=target,
        train_count=int(split.train_counts[target]),
    )


def _run_row(run: ComparedRun, ranker: Ranker, items: _Items, user: _Shown) -> str:
    first, rank = first_items(ranker, user.history, user.target, user.example.user)
    candidates = ranker.run.split.num_items - len(user.history)
    cards = [
        items.card(item, target=item == user.target, note=f"{number}{', next item' * (item == user.target)}")
        for number, item in enumerate(first, 1)
    ]
    rank_shown = f'<span class="rank">rank <b>{rank:,}</b> <small>of {candidates:,}</small></span>'
    name = f"{run.label}<br>Next item: {rank_shown}"
    return _row(name, cards)


def _user(user: _Shown, items: _Items, run_rows: Sequence[str]) -> str:
    seen = f"occurs {user.train_count:,} times in training" if user.train_count > 1 else "occurs once in training"
    known = seen if user.train_count else "new: in nobody's training history"
    history = _row("History <small>oldest first</small>", [items.card(item) for item in user.history], small=True)
    target = _row(f"Next item <br><small>{known}</small>", [items.card(user.target, target=True)])
    return (
        f'<section class="user"><h3>{escape(user.example.heading)}</h3>'
        f'<p class="quiet">User {escape(str(user.user_id))}. {escape(user.example.why)}</p>'
        f"{history}{target}{''.join(run_rows)}</section>"
    )


def _row(name: str, cards: Sequence[str], *, small: bool = False) -> str:
    return (
        f'<div class="row{" small" if small else ""}"><div class="name">{name}</div>'
        f'<div class="cards">{"".join(cards)}</div></div>'
    )
