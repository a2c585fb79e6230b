"""Side features item by item, in plain Python."""


def bins_loop(counts: list[int], bins: int) -> list[int]:
    """The bin of each count: the first of the equal intervals from 0 to the most whose upper end is above it."""
    most = max(counts)
    numbers = []
    for count in counts:
        number = 0
        while number < bins - 1 and count * bins >= most * (number + 1):  # count >= upper end, without a division
            number += 1
        numbers.append(number)
    return numbers


def tags_loop(table: list[list[float]], tags: list[str]) -> list[list[float]]:
    """The vector of each item: row 0 for items without a tag, then a row a tag in the order of their names."""
    names = [""]
    while len(names) < len(set(tags) | {""}):
        names.append(min(tag for tag in tags if tag not in names))
    return [table[names.index(tag)] for tag in tags]


def mean_loop(towers: list[list[list[float]]]) -> list[list[float]]:
    """The mean over towers of what each makes of each item."""
    return [
        [sum(values) / len(towers) for values in zip(*rows, strict=True)]  # one number of one item, from each tower
        for rows in zip(*towers, strict=True)
    ]
