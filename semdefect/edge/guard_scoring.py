"""What the guard is worth, in figures: the terms of automatic defect classification.

Arguments are those of `semdefect.edge.scoring`; a figure that has no images to rest on is None.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semdefect.edge.guard import ACCEPTED, AMBIGUOUS, BLANK, HURRIED, UNKNOWN
from semdefect.edge.scoring import CLEAN, checked, share

#: The classes that mean a chip is lost.
KILLERS = ("bridge", "open", "via", "crack")


def guard_figures(
    probabilities: ArrayLike, truth: ArrayLike, codes: NDArray[np.int64], classes: Sequence[str]
) -> dict[str, Any]:
    """What the guard does, for ``codes [N]``, numbers of `semdefect.edge.guard.REASONS`, as JSON can hold it.

    Returns:
        ``rejection_rate`` and its parts ``ambiguous``, ``unknown``, ``blank`` and ``hurried``; ``purity`` of what is
        accepted; ``escape_rate``, defects accepted as clean among all defects, and ``overkill_rate``, clean images
        accepted as a defect among all clean ones (both None for a model without a class ``clean``); ``killers``: for
        each of `KILLERS` that the model knows, ``recall``, the share that is accepted as what it is, and ``kept``, the
        share that is so or reaches a person.
    """
    table, rows = checked(probabilities, truth)
    accepted = codes == ACCEPTED
    called = table.argmax(axis=1) if rows.size else rows
    right = (called == rows) & accepted
    figures: dict[str, Any] = {
        "rejection_rate": share((~accepted).sum(), rows.size),
        "ambiguous": share((codes == AMBIGUOUS).sum(), rows.size),
        "unknown": share((codes == UNKNOWN).sum(), rows.size),
        "blank": share((codes == BLANK).sum(), rows.size),
        "hurried": share((codes == HURRIED).sum(), rows.size),
        "purity": share(right.sum(), accepted.sum()),
        "escape_rate": None,
        "overkill_rate": None,
        "killers": {},
    }
    if CLEAN in classes:
        clean = rows == list(classes).index(CLEAN)
        called_clean = called == list(classes).index(CLEAN)
        figures["escape_rate"] = share((~clean & called_clean & accepted).sum(), (~clean).sum())
        figures["overkill_rate"] = share((clean & ~called_clean & accepted).sum(), clean.sum())
    for name in [killer for killer in KILLERS if killer in classes]:
        of_it = rows == list(classes).index(name)
        kept = share((of_it & (right | ~accepted)).sum(), of_it.sum())
        figures["killers"][name] = {"recall": share((of_it & right).sum(), of_it.sum()), "kept": kept}
    return figures


def purity_curve(probabilities: ArrayLike, truth: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rejection rate and purity, ``[N]`` each, as ever less confident images are accepted one after the other."""
    table, rows = checked(probabilities, truth)
    order = np.argsort(-table.max(axis=1), kind="stable")
    right = (table.argmax(axis=1) == rows)[order]
    accepted = np.arange(1, rows.size + 1)
    return 1 - accepted / max(rows.size, 1), np.cumsum(right) / accepted
