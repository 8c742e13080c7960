"""Train, validation and test splits that no lineage group crosses."""

from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np

from semdefect import CLASSES
from semdefect.errors import UserError
from semdefect.manifest import Row


def split_rows(rows: Iterable[Row], shares: dict[str, float], seed: int) -> dict[str, list[Row]]:
    """Assign whole lineage groups to splits, stratified by class and origin.

    Groups are taken in random order, large ones first, and each goes to the split that lacks most of its
    images, counted by (class, origin) and relative to the split's share; by class alone where splits lack equally
    much, so that two real and one rendered group reach all three. A class needs as many groups as there are splits
    with a share; with fewer it is refused, since a split without the class, or a group in two splits, would make
    every figure of that class meaningless.

    Args:
        rows: the manifest.
        shares: split name → share in [0, 1), summing to 1; a split without a share stays empty.
        seed: of the random order.

    Raises:
        UserError: a class has too few lineage groups; names it.
    """
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.group].append(row)
    splits: dict[str, list[Row]] = {name: [] for name in shares}
    shares = {name: share for name, share in shares.items() if share}
    _refuse_small_classes(groups, len(shares))
    totals = _counts(row for members in groups.values() for row in members)
    order = np.random.default_rng(seed).permutation(sorted(groups))
    filled: dict[str, Counter[tuple[str, str]]] = {name: Counter() for name in shares}
    for group in sorted(order, key=lambda name: -len(groups[name])):
        counts = _counts(groups[group])
        name = max(shares, key=lambda split: _lack(counts, filled[split], totals, shares[split]))
        splits[name] += groups[group]
        filled[name] += counts
    _refuse_empty_classes({name: splits[name] for name in shares})
    return splits


def _counts(rows: Iterable[Row]) -> Counter[tuple[str, str]]:
    """Images by (class, origin), and by class alone under the origin "any"."""
    return Counter(stratum for row in rows for stratum in ((row.label, row.origin), (row.label, "any")))


def _lack(
    group: Counter[tuple[str, str]],
    filled: Counter[tuple[str, str]],
    totals: Counter[tuple[str, str]],
    share: float,
) -> tuple[float, float]:
    """How much of its share a split still lacks of what ``group`` holds, by (class, origin) and by class alone.

    1: nothing there yet, 0: full. Sorted before the sum, so that its last bits do not depend on the rows' order.
    """
    lacks = {stratum: group[stratum] * (1 - filled[stratum] / (share * totals[stratum])) for stratum in sorted(group)}
    by_class = sum(lack for (_, origin), lack in lacks.items() if origin == "any")
    by_origin = sum(lack for (_, origin), lack in lacks.items() if origin != "any")
    return by_origin, by_class


def _refuse_small_classes(groups: dict[str, list[Row]], needed: int) -> None:
    of_class = {
        label: {name for name, members in groups.items() if any(row.label == label for row in members)}
        for label in CLASSES
    }
    for label, names in of_class.items():
        if len(names) < needed:
            raise UserError(
                f"class {label} has {len(names)} lineage groups and needs {needed}, one for each split: add real "
                f"images of it that are no copies of each other, or lower synthesize.augmented_share"
            )


def _refuse_empty_classes(splits: dict[str, list[Row]]) -> None:
    """Groups that span classes can leave a split without one of them."""
    for name, rows in splits.items():
        for label in CLASSES:
            if not any(row.label == label for row in rows):
                raise UserError(
                    f"no lineage group of class {label} is left for the {name} split: add images of it that are "
                    f"no copies of other images, or raise synthesize.images_per_class"
                )
