"""Whether a share changed by more than chance between two runs: on the same images, or on different ones."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest, fisher_exact, norm

from semdefect.intervals import LEVEL, share_interval

#: Probability, over a whole report, that chance alone marks a figure as changed.
RISK = 0.05


@dataclass(frozen=True)
class Change:
    """A share of images before and now.

    Attributes:
        before: 0..1.
        now: 0..1.
        low: lower end of the 95 % interval of ``now - before``.
        high: upper end of it.
        p: probability of a difference of this size or more where nothing but chance differs.
        images: how many, before and now.
        gained: images that count now and did not before; None where the images are others.
        lost: the other way round.
    """

    before: float
    now: float
    low: float
    high: float
    p: float
    images: tuple[int, int]
    gained: int | None = None
    lost: int | None = None

    @property
    def difference(self) -> float:
        """``now - before``."""
        return self.now - self.before


def paired(before: NDArray[np.bool_], now: NDArray[np.bool_]) -> Change | None:
    """The change on the same N images, ``[N]`` each; None where N is 0.

    Test: McNemar (1947), exact, by a sign test on the images that differ. Interval: adjusted Wald (Bonett and Price,
    "Adjusted Wald confidence interval for a difference of binomial proportions based on paired data", 2012).
    """
    number = len(before)
    if not number:
        return None
    gained, lost = int((now & ~before).sum()), int((before & ~now).sum())
    p = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    more, less = (gained + 1) / (number + 2), (lost + 1) / (number + 2)
    width = norm.ppf((1 + LEVEL) / 2) * np.sqrt((more + less - (more - less) ** 2) / (number + 2))
    low, high = max(more - less - width, -1.0), min(more - less + width, 1.0)
    shares = float(before.mean()), float(now.mean())
    return Change(*shares, float(low), float(high), p, (number, number), gained, lost)


def unpaired(before: tuple[int, int], now: tuple[int, int]) -> Change | None:
    """The change between different images, each run's as (images that count, images); None where one has no images.

    Test: Fisher's, exact. Interval: from both runs' Wilson intervals (Newcombe, "Interval estimation for the difference
    between independent proportions", 1998, method 10).
    """
    first, second = share_interval(*before), share_interval(*now)
    if first is None or second is None:
        return None
    (low_0, high_0), (low_1, high_1) = first, second
    share_0, share_1 = before[0] / before[1], now[0] / now[1]
    low = share_1 - share_0 - np.hypot(share_1 - low_1, high_0 - share_0)
    high = share_1 - share_0 + np.hypot(high_1 - share_1, share_0 - low_0)
    table = [[before[0], before[1] - before[0]], [now[0], now[1] - now[0]]]
    p = float(fisher_exact(table).pvalue)
    return Change(share_0, share_1, float(low), float(high), p, (before[1], now[1]))


def beyond_chance(changes: Sequence[Change]) -> list[bool]:
    """Which of the changes of a report are more than chance: those that Holm's procedure (1979) rejects at `RISK`.

    With many figures, some differ at any level by chance: the least p has to be below `RISK` over their number, the
    next below `RISK` over one less, and so on. It needs no independence.
    """
    order = np.argsort([change.p for change in changes], kind="stable")
    marked = [False] * len(changes)
    for rank, index in enumerate(order):
        if changes[index].p > RISK / (len(changes) - rank):
            break
        marked[index] = True
    return marked
