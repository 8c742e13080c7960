"""A balanced data set: real images first, then their class-preserving children and rendered images."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from semdefect import CLASSES
from semdefect.atomic import replacing
from semdefect.base_images import THUMBNAIL, duplicate_groups, find_real_images
from semdefect.cluster import in_parallel
from semdefect.edge.image import open_gray, to_pixels
from semdefect.errors import UserError
from semdefect.manifest import Row
from semdefect.params import Synthesize
from semdefect.seeds import DATA_SET, image_seed
from semdefect.synthesis import Rendered, augment, render

#: More children of one real image add copies, not information.
MAX_CHILDREN = 8


@dataclass(frozen=True)
class BaseImage:
    """A real image with its place in the lineage."""

    path: Path
    label: str
    source_id: str
    group: str


@dataclass(frozen=True)
class Job:
    """One image to write: a real one as it is, a child of one (``augmented``), or a rendered one."""

    label: str
    index: int
    seed: int
    base: BaseImage | None = None
    augmented: bool = False

    @property
    def path(self) -> str:
        """Path of the image below the data folder."""
        kind = "rendered" if self.base is None else "augmented" if self.augmented else "real"
        return f"{self.label}/{self.index:05d}_{kind}.png"


def load_base_images(folder: Path, correlation: float) -> list[BaseImage]:
    """All real images below ``folder``, with near-duplicates grouped across classes.

    Raises:
        UserError: the folder's shape is wrong (see `find_real_images`) or images cannot be read; names them.
    """
    found = [(label, path) for label, paths in find_real_images(folder).items() for path in paths]
    thumbnails, faults = [], []
    for _, path in tqdm(found, desc="read real images", disable=None, leave=False):
        try:
            thumbnails.append(to_pixels(open_gray(path), THUMBNAIL))
        except UserError as fault:
            faults.append(str(fault))
    if faults:
        more = f" (and {len(faults) - 3} more like this)" if len(faults) > 3 else ""
        raise UserError("; ".join(faults[:3]) + more)
    groups = duplicate_groups(thumbnails, correlation).tolist() if found else []
    return [
        BaseImage(path, label, path.relative_to(folder).as_posix(), f"real-{group:05d}")
        for (label, path), group in zip(found, groups, strict=True)
    ]


def conflicting_labels(bases: Iterable[BaseImage]) -> list[list[BaseImage]]:
    """Groups of near-duplicates whose members have different labels: mistakes, or a defect as small as the noise."""
    groups: dict[str, list[BaseImage]] = {}
    for base in bases:
        groups.setdefault(base.group, []).append(base)
    return [members for members in groups.values() if len({base.label for base in members}) > 1]


def plan(bases: Iterable[BaseImage], settings: Synthesize, seed: int) -> list[Job]:
    """The images of a balanced data set: ``settings.images_per_class`` of each class.

    Real images come first; of what is missing, ``augmented_share`` are children of these (at most
    `MAX_CHILDREN` each) and the rest is rendered. Of more real images than ``images_per_class`` a seeded choice
    is taken.
    """
    jobs: list[Job] = []
    by_class: dict[str, list[BaseImage]] = {label: [] for label in CLASSES}
    for base in bases:
        by_class[base.label].append(base)
    for number, (label, real) in enumerate(by_class.items()):
        wanted = settings.images_per_class
        if len(real) > wanted:
            chosen = np.random.default_rng([seed, number]).choice(len(real), wanted, replace=False)
            real = [real[index] for index in sorted(chosen)]
        missing = wanted - len(real)
        children = min(round(missing * settings.augmented_share), MAX_CHILDREN * len(real))
        parents = [real[index % len(real)] for index in range(children)]
        sources: list[tuple[BaseImage | None, bool]] = [(base, False) for base in real]
        sources += [(base, True) for base in parents]
        sources += [(None, False)] * (wanted - len(sources))
        jobs += [
            Job(label, index, image_seed(seed, DATA_SET, number * wanted + index), base, augmented)
            for index, (base, augmented) in enumerate(sources)
        ]
    return jobs


def write_images(jobs: list[Job], folder: Path, size: int, workers: int, scheduler: str = "") -> list[Row]:
    """Write every job's image below ``folder``; the bytes do not depend on who draws them.

    Args:
        workers: processes that draw; 0 for every core.
        scheduler: address of a Dask scheduler whose workers draw instead; empty for none (see `semdefect.cluster`).

    Returns:
        The manifest rows, in the order of ``jobs``.

    Raises:
        UserError: a base image cannot be read, or the cluster cannot be used.
    """
    for label in CLASSES:
        (folder / label).mkdir(parents=True, exist_ok=True)
    calls = ((job, size, sent_pixels(job, size, scheduler)) for job in jobs)
    rows = []
    drawn = in_parallel(draw_image, calls, workers, scheduler)
    for row, png in tqdm(drawn, total=len(jobs), desc="synthesize", unit="image", disable=None):
        with replacing(folder / row.path, flush=False) as temporary:  # `replacing_folder` flushes them all
            temporary.write_bytes(png)
        rows.append(row)
    return rows


def sent_pixels(job: Job, size: int, scheduler: str) -> NDArray[np.uint8] | None:
    """The job's base image ``[size, size]`` for workers that do not see its file; None where none is needed."""
    return to_pixels(open_gray(job.base.path), size) if scheduler and job.base else None


def draw_image(job: Job, size: int, base: NDArray[np.uint8] | None = None) -> tuple[Row, bytes]:
    """One image of ``size``² px: its row, and the PNG file.

    Args:
        base: pixels of the job's base image; read from its file where they are not given.
    """
    if job.base is None:
        drawn = render(job.label, job.seed, size)
        pixels, source_id = drawn.image, f"rendered/{job.label}/{job.seed}"
        box = " ".join(map(str, drawn.bbox)) if drawn.bbox else ""
        row = Row(job.path, job.label, "rendered", drawn.family, source_id, source_id, job.seed, size, box)
    else:
        family = "augmented" if job.augmented else "original"
        if base is None:
            base = to_pixels(open_gray(job.base.path), size)
        pixels = _varied(base, job.label, family, job.seed)
        row = Row(job.path, job.label, "real", family, job.base.source_id, job.base.group, job.seed, size, "")
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return row, file.getvalue()


def _varied(base: NDArray[np.uint8], label: str, family: str, seed: int) -> NDArray[np.uint8]:
    """A real image's pixels, or those of its child of this ``seed``."""
    return augment(np.random.default_rng(seed), base, label)[0] if family == "augmented" else base


def redraw(row: Row, real: Path) -> tuple[NDArray[np.uint8], Rendered | None]:
    """Draw an image of the data set again, from its row alone; real ones need their base image below ``real``.

    Returns:
        Pixels ``[row.size, row.size]`` uint8, and for a rendered image all that is known about it.

    Raises:
        UserError: the row names no place below ``real``, or the base image cannot be read.
    """
    if row.origin == "rendered":
        drawn = render(row.label, row.seed, row.size, row.family)
        return drawn.image, drawn
    source = Path(row.source_id)
    if source.is_absolute() or ".." in source.parts:
        raise UserError(f"{row.path}: its base image {row.source_id!r} is not below {real}; run `dvc repro synthesize`")
    base = to_pixels(open_gray(real / source), row.size)
    return _varied(base, row.label, row.family, row.seed), None
