"""Long lists in batches of bounded size."""

from collections.abc import Iterable, Iterator

# Frames that are encoded together: the matrix products pay from about here.
BATCH_FRAMES = 2048


def in_batches[Item](
    items: Iterable[tuple[Item, int]], max_size: int = BATCH_FRAMES
) -> Iterator[list[Item]]:
    """Group items that come with their size, such as frames or samples.

    A larger item has a group of its own.

    Examples
    --------
    >>> list(in_batches([("a", 3), ("b", 3), ("c", 9)], max_size=6))
    [['a', 'b'], ['c']]
    """
    batch: list[Item] = []
    total = 0
    for item, size in items:
        if batch and total + size > max_size:
            yield batch
            batch, total = [], 0
        batch.append(item)
        total += size
    if batch:
        yield batch
