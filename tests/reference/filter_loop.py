"""What a filter of interactions leaves, one removal at a time."""

Row = tuple[int, int, int]
"""User, item, time."""


def core_loop(rows: list[Row], user_core: int, item_core: int) -> list[Row]:
    """Remove any interaction whose user or item has too few, until there is none."""
    left = list(rows)
    while True:
        for row in left:
            of_user = sum(other[0] == row[0] for other in left)
            of_item = sum(other[1] == row[1] for other in left)
            if of_user < user_core or of_item < item_core:
                left.remove(row)
                break
        else:
            return left


def filter_loop(
    rows: list[Row], start: int | None, end: int | None, warm: int, length: int, user_core: int, item_core: int
) -> list[Row]:
    """The window, then rare items, then short users, then the core."""
    left = [row for row in rows if (start is None or row[2] >= start) and (end is None or row[2] < end)]
    left = [row for row in left if sum(other[1] == row[1] for other in left) >= warm]
    left = [row for row in left if sum(other[0] == row[0] for other in left) >= length]
    return core_loop(left, user_core, item_core)
