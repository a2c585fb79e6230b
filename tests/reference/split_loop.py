"""The paper's split, user by user."""


def split_loop(
    sequences: dict[int, list[int]], min_length: int, max_length: int, max_history: int
) -> tuple[dict[int, int], dict[int, dict[str, list[int]]]]:
    """Item numbers by id, and for each kept user the train sequence, validation and test history, input and target."""
    cut = {user: items[-max_length:] for user, items in sequences.items() if len(items) >= min_length}
    ids = sorted({item for items in cut.values() for item in items})
    numbers = {item_id: number for number, item_id in enumerate(ids, 1)}
    parts = {}
    for user, items in cut.items():
        renumbered = [numbers[item] for item in items]
        parts[user] = {
            "train": renumbered[:-2][-(max_history + 1) :],
            "valid history": renumbered[:-2],
            "valid input": renumbered[:-2][-max_history:],
            "valid target": renumbered[-2:-1],
            "test history": renumbered[:-1],
            "test input": renumbered[:-1][-max_history:],
            "test target": renumbered[-1:],
        }
    return numbers, parts
