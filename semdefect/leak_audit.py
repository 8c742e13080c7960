"""Whether two splits share a picture: nearest neighbours across splits, whatever the manifest says of their lineage.

    audit = audit_splits({"train": rows, "val": rows, "test": rows}, Path("models/teacher/model.safetensors"), 0.85)
    audit.refuse_leaks()                                  # UserError with the pairs, where there are any
    write_json(path, audit.content())
    pair_sheet(audit.pairs, Path("metrics/evaluate/neighbours.png"))

Nearest neighbours are sought in three ways, each under the eight symmetries of the square (turned by 90°, mirrored): by
perceptual hash (ImageHash's pHash, 64 bits), by features of the teacher (mean activations of its last stage), and by
correlation of thumbnails, the measure by which `synthesize` groups near-duplicates (`semdefect.base_images`). What one
of them finds is a candidate. A candidate is a **duplicate** when

* its thumbnails correlate by more than ``synthesize.duplicate_correlation``, and
* its Fourier transforms agree in their phases by more than `PHASE` (`phase_agreement`); two real images as they came
  need not where they correlate by `REAL_MARGIN` more than that: they would have shared a lineage group.

Why not by correlation alone: different pictures correlate by accident, the simpler they are, the more. Of the default
data set's 1.3 million pairs across splits, all of different seeds, 385 correlate by more than 0.85, one by 0.985: lines
of one pitch, joints of one outline, a blank film and a grating under the same vignette. So do 388 pairs of a rendered
image and one of 740 real ones. Copies under shot noise of 10 % fall to 0.78 (the lowest 1 %), so that no threshold on
the correlation parts the two. Phases do, since lines are few frequencies and a picture is all of them. Of 26 million
pairs of 7200 rendered images 8390 correlate by more than 0.85. Their phases agree by 0.02 (median), 0.16 (99 %) and at
most 0.42, two gratings of one pitch with a spot in the same place. `PHASE` stands above the largest of them. Of copies
of 240 rendered images it finds 99.6 % under JPEG of quality 50 or resampled through 64 px, 99 % brightened with noise
of 3 %, 98 % under shot noise of 4 %, 93 % under all corruptions of the ``noisy`` test set together, 90 % under shot
noise of 10 %; the others are smooth, and have little but noise above the lowest frequencies. Copies that were cropped,
shifted or turned by a few degrees keep neither measure for certain. (Throw-away scripts, seed 17.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from semdefect.archive import open_image
from semdefect.errors import UserError
from semdefect.likeness import (
    SYMMETRIES,
    WAYS,
    Pictures,
    differing_bits,
    phase_agreement,
    read_pictures,
    symmetric,
    vectors_of,
)
from semdefect.manifest import IMAGES, Row
from semdefect.network import load_network
from semdefect.sheet import contact_sheet

#: Agreement of phases above which two images that correlate are one picture.
PHASE = 0.45
#: `synthesize` makes its thumbnails from the files in data/real, here they come from stored images. Where 740 real
#: images correlate by more than 0.84, that changes the correlation by at most this.
REAL_MARGIN = 0.04
#: Neighbours of each image in each way; pairs that an error names; pairs in the picture, and in a line of it.
NEIGHBOURS, NAMED, SHOWN, IN_A_LINE = 3, 10, 12, 4


@dataclass(frozen=True)
class Pair:
    """Two images of different splits that some way takes for neighbours.

    Attributes:
        first, second: paths below `semdefect.manifest.IMAGES`.
        splits: their splits.
        symmetry: under which (`semdefect.likeness.symmetric`) ``second`` correlates most with ``first``.
        correlation: of the thumbnails under it, -1..1.
        phase: `phase_agreement` under it, -1..1; None where the correlation is too low to ask.
        found_by: the ways that found it.
        duplicate: whether it is one; see the head of this file.
    """

    first: str
    second: str
    splits: tuple[str, str]
    symmetry: int
    correlation: float
    phase: float | None
    found_by: tuple[str, ...]
    duplicate: bool

    def __str__(self) -> str:
        """Paths, splits and measure."""
        phase = "" if self.phase is None else f", phases {self.phase:.2f}"
        first, second = IMAGES / self.first, IMAGES / self.second
        return f"{first} ({self.splits[0]}) and {second} ({self.splits[1]}), correlation {self.correlation:.3f}{phase}"


@dataclass(frozen=True)
class Audit:
    """What was found.

    Attributes:
        pairs: all candidates, duplicates first, then by correlation.
        crossing: lineage groups that lie in two splits.
        figures: counts and extremes, as JSON can hold them: ``images``; ``candidates``; ``duplicates``;
            ``duplicates_by_way``, how many of them each way found; ``crossing_groups``; ``correlated``, candidates
            above the threshold of the correlation; ``largest_correlation``; ``largest_phase`` of those above it;
            ``least_hash_distance``, in bits of 64; ``largest_cosine`` of features.
    """

    pairs: list[Pair]
    crossing: list[str]
    figures: dict[str, Any]

    @property
    def duplicates(self) -> list[Pair]:
        """The pairs that are duplicates."""
        return [pair for pair in self.pairs if pair.duplicate]

    def content(self) -> dict[str, Any]:
        """The figures and the closest pairs, as JSON can hold them."""
        return self.figures | {"closest": [asdict(pair) for pair in self.pairs[:SHOWN]]}

    def refuse_leaks(self) -> None:
        """Stop an evaluation whose figures would mean nothing.

        Raises:
            UserError: a lineage group lies in two splits, or images of two splits are duplicates; lists them.
        """
        if self.crossing:
            raise UserError(
                f"{len(self.crossing)} lineage group(s) lie in two splits, the first {self.crossing[0]}: run "
                f"`dvc repro --force split`"
            )
        if found := self.duplicates:
            named = "; ".join(map(str, found[:NAMED]))
            more = f" (and {len(found) - NAMED} more)" if len(found) > NAMED else ""
            raise UserError(
                f"{len(found)} pair(s) of images in two splits are duplicates: {named}{more}. Remove one image of each "
                f"pair from data/real, or lower synthesize.duplicate_correlation until both share a lineage group, and "
                f"run `dvc repro`"
            )


def audit_splits(splits: Mapping[str, Sequence[Row]], teacher: Path, correlation: float) -> Audit:
    """Seek pairs of images in two of ``splits`` that are one picture.

    Each image of a split is turned, mirrored and held against the images of the splits before it: name the largest
    split first.

    Args:
        splits: name → rows.
        teacher: checkpoint of the network whose features are compared.
        correlation: threshold in (0, 1), ``synthesize.duplicate_correlation``.

    Raises:
        UserError: an image or the checkpoint cannot be read.
    """
    split = np.repeat(np.arange(len(splits)), [len(rows) for rows in splits.values()])
    pictures, network = read_pictures([row for rows in splits.values() for row in rows]), load_network(teacher)
    asked = np.flatnonzero(split > 0)
    gallery = vectors_of(pictures, network)
    turned = [{way: vectors[asked] for way, vectors in gallery.items()}] + [
        vectors_of(pictures.take(asked).symmetric(number), network)
        for number in tqdm(range(1, SYMMETRIES), desc="leak audit, turn", disable=None, leave=False)
    ]
    likeness = {way: _likeness(gallery[way], [vectors[way] for vectors in turned]) for way in WAYS}
    allowed = split[asked][:, None] > split[None]
    found = _candidates({way: best for way, (best, _) in likeness.items()}, allowed)
    best, symmetry = likeness["correlation"]
    judge = _Judge(splits, pictures, correlation)
    pairs = [
        judge.pair(other, int(asked[place]), float(best[place, other]), int(symmetry[place, other]), ways)
        for (place, other), ways in found.items()
    ]
    pairs.sort(key=lambda pair: (not pair.duplicate, -round(pair.correlation, 6), pair.first, pair.second))
    crossing = crossing_groups(splits)
    extremes = {way: float(best[allowed].max(initial=-1)) for way, (best, _) in likeness.items()}
    return Audit(pairs, crossing, _figures(pairs, len(split), crossing, extremes))


def crossing_groups(splits: Mapping[str, Sequence[Row]]) -> list[str]:
    """Lineage groups that lie in two splits, sorted."""
    within = [{row.group for row in rows} for rows in splits.values()]
    return sorted(group for group in set().union(*within) if sum(group in groups for groups in within) > 1)


def _likeness(
    gallery: NDArray[np.float32], turned: Sequence[NDArray[np.float32]]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Largest inner product ``[Q, N]`` of each asked image, over its symmetries, with ``gallery [N, D]``, and which."""
    best = np.full((len(turned[0]), len(gallery)), -np.inf, np.float32)
    which = np.zeros(best.shape, np.uint8)
    for number, vectors in enumerate(turned):
        product = vectors @ gallery.T
        which[product > best] = number
        np.maximum(best, product, out=best)
    return best, which


def _candidates(
    likeness: dict[str, NDArray[np.float32]], allowed: NDArray[np.bool_]
) -> dict[tuple[int, int], list[str]]:
    """The `NEIGHBOURS` nearest to each asked image in each way: (asked, in the gallery) → the ways that found it."""
    found: dict[tuple[int, int], list[str]] = {}
    for way, best in likeness.items():
        for place, (likeness_of, may) in enumerate(zip(best, allowed, strict=True)):  # a row at a time: memory
            nearest = np.argsort(np.where(may, -likeness_of, np.inf), kind="stable")[:NEIGHBOURS]
            for other in nearest[may[nearest]]:
                found.setdefault((place, int(other)), []).append(way)
    return found


class _Judge:
    """Measures candidates."""

    def __init__(self, splits: Mapping[str, Sequence[Row]], pictures: Pictures, correlation: float) -> None:
        self.rows = [row for rows in splits.values() for row in rows]
        self.names = [name for name, rows in splits.items() for _ in rows]
        self.small, self.correlation = pictures.small, correlation

    def pair(self, first: int, second: int, correlation: float, symmetry: int, ways: Sequence[str]) -> Pair:
        """The pair of the images of these numbers, whose thumbnails correlate so under this symmetry of the second."""
        phase = None
        if correlation > self.correlation:
            phase = phase_agreement(self.small[first], symmetric(self.small[second], symmetry))
        rows, names = (self.rows[first], self.rows[second]), (self.names[first], self.names[second])
        as_they_came = all(row.original for row in rows)
        grouped = as_they_came and correlation > self.correlation + REAL_MARGIN
        duplicate = phase is not None and (phase > PHASE or grouped)
        return Pair(rows[0].path, rows[1].path, names, symmetry, correlation, phase, tuple(ways), duplicate)


def _figures(pairs: Sequence[Pair], images: int, crossing: Sequence[str], extremes: dict[str, float]) -> dict[str, Any]:
    duplicates = [pair for pair in pairs if pair.duplicate]
    phases = [pair.phase for pair in pairs if pair.phase is not None]
    return {
        "images": images,
        "candidates": len(pairs),
        "duplicates": len(duplicates),
        "duplicates_by_way": {way: sum(way in pair.found_by for pair in duplicates) for way in WAYS},
        "crossing_groups": len(crossing),
        "correlated": len(phases),
        "largest_correlation": round(extremes["correlation"], 4),
        "largest_phase": max(phases, default=None),
        "least_hash_distance": differing_bits(extremes["hash"]),
        "largest_cosine": round(extremes["features"], 4),
    }


def pair_sheet(pairs: Sequence[Pair], path: Path) -> None:
    """The closest of ``pairs`` as tiles, the second of each turned as it is most like the first; PNG at ``path``.

    No image is shown twice. Under the second one stand correlation and, where it was asked, agreement of phases.
    """
    tiles = []
    for pair in _without_repeats(pairs)[:SHOWN]:
        phase = "" if pair.phase is None else f" / {pair.phase:.2f}"
        turned = symmetric(np.asarray(open_image(IMAGES / pair.second)), pair.symmetry)
        tiles.append((open_image(IMAGES / pair.first), f"{pair.splits[0]} {_short(pair.first)}"))
        tiles.append((Image.fromarray(turned), f"{pair.splits[1]} {pair.correlation:.3f}{phase}"))
    width = 2 * IN_A_LINE
    contact_sheet([("", tiles[start : start + width]) for start in range(0, max(len(tiles), 1), width)], path)


def _without_repeats(pairs: Sequence[Pair]) -> list[Pair]:
    """The ``pairs`` of which no image lies in one before."""
    seen: set[str] = set()
    kept = []
    for pair in pairs:
        if not seen & {pair.first, pair.second}:
            kept.append(pair)
            seen |= {pair.first, pair.second}
    return kept


def _short(path: str) -> str:
    """``clean/00012_rendered.png`` as ``clean/00012``."""
    return path.split("_")[0].removesuffix(".png")
