"""What a hyperparameter search needs of Optuna: its ranges, and its study in a SQLite database."""

import errno
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from microlens.config.sections import Range
from microlens.errors import InputError

if TYPE_CHECKING:
    import optuna

REMEDY = "remove it to start a new search; the trained runs of its trials are reused"
_AS_THE_SYSTEM_SAYS = {sqlite3.SQLITE_FULL: errno.ENOSPC, sqlite3.SQLITE_IOERR: errno.EIO}


@contextmanager
def plain_errors(study: Path) -> Iterator[None]:
    """Turn SQLite errors about a damaged study into InputError, and those about the disk into OSError."""
    try:
        yield
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, sqlite3.Error):
            cause = cause.__cause__
        code = getattr(cause, "sqlite_errorcode", 0) & 0xFF  # the primary error code
        if code in _AS_THE_SYSTEM_SAYS:
            raise OSError(_AS_THE_SYSTEM_SAYS[code], str(cause)) from None
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            raise InputError(f"{study} is damaged; remove it, or choose another folder with output=FOLDER.") from None
        raise


def distribution(range_: Range) -> "optuna.distributions.BaseDistribution":
    """The uniform distribution over a range, for Optuna."""
    kinds = installed_optuna().distributions
    if range_.choices is not None:
        return cast("optuna.distributions.BaseDistribution", kinds.CategoricalDistribution(range_.choices))
    low, high = range_.ends
    integers = isinstance(low, int) and isinstance(high, int)
    kind = kinds.IntDistribution if integers else kinds.FloatDistribution
    step = int(range_.step or 1) if integers else range_.step
    return cast("optuna.distributions.BaseDistribution", kind(low, high, log=range_.log, step=step))


def storage_of(database: Path) -> "optuna.storages.RDBStorage":
    """The storage of a study; connected by its path, because in an address ``?`` and ``%`` have a meaning."""
    connect = partial(sqlite3.connect, database, check_same_thread=False)  # the pool hands it from thread to thread
    storage = installed_optuna().storages.RDBStorage("sqlite:///study.db", engine_kwargs={"creator": connect})
    return cast("optuna.storages.RDBStorage", storage)


def check_database(path: Path) -> None:
    """Raise InputError if a database is damaged."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as database:
            whole = database.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
    except sqlite3.Error:
        whole = False
    if not whole:
        raise InputError(f"{path} is damaged; {REMEDY}.")


def installed_optuna() -> Any:
    """Optuna, quiet; InputError if it is not installed."""
    try:
        import optuna
    except ImportError:
        raise InputError(
            "microlens tune needs the package optuna; install it with: pip install 'microlens[tune]'"
        ) from None
    logging.getLogger("optuna").setLevel(logging.WARNING)
    return optuna
