"""Feature vectors found by reading every row."""


def features_loop(matrix: list[list[float]], row_ids: list[int], item_ids: list[int]) -> list[list[float]]:
    """The rows of ``item_ids``, in that order; each item has to have exactly one."""
    found: list[list[float]] = []
    for item in item_ids:
        rows = [row for row, row_id in zip(matrix, row_ids, strict=True) if row_id == item]
        (only,) = rows
        found.append(only)
    return found
