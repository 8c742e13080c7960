"""A data set as tar archives of a thousand images instead of a thousand files each, behind the same manifest.

    python -m semdefect.shards FOLDER --images-per-class 12500
    python -m semdefect.shards data/synthetic         # once removed; then stages.split, stages.train_teacher and so on

Writes what `synthesize` would write with the same parameters, to FOLDER/shard-000000.tar and so on, beside each the
rows of its images, and last FOLDER/manifest.csv, whose paths read shard-000000.tar/bridge/00042_rendered.png. A run
that was stopped goes on after its whole shards. Processes, or the Dask cluster of params.yaml, draw a shard at a time.
`tar -xf` of all shards gives the folders that `synthesize` writes, byte for byte.

Every shard holds as many images of one class as of another, so that shard after shard is fit for training.
"""

import argparse
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from semdefect.archive import MAX_MEMBERS, decode, members, read_member, tar_bytes
from semdefect.atomic import replacing, write_json
from semdefect.balance import Job, draw_image, load_base_images, plan, sent_pixels
from semdefect.base_images import REAL
from semdefect.cluster import PATIENCE, fingerprint, in_parallel
from semdefect.edge.options import some_path, whole
from semdefect.errors import UserError
from semdefect.manifest import Row, read_manifest, write_manifest
from semdefect.params import PARAMS, load_params
from semdefect.stage import alone, orderly
from semdefect.startup import start_again

#: Images of a shard: 20 MB at 224 px, which a worker sends at once.
PER_SHARD = 1000
#: What a folder of shards was made from, so that a run does not go on with those of another.
ORIGIN = "shards.json"
#: What a core takes to draw: 20 ms for 224 x 224 px.
_SECONDS_A_PIXEL = 0.02 / 224**2

Bases = Sequence[NDArray[np.uint8] | None]


def write_shards(
    folder: Path, jobs: list[Job], size: int, per_shard: int = PER_SHARD, workers: int = 0, scheduler: str = ""
) -> Path:
    """Write the images of ``jobs`` as archives, and a manifest of them all; the bytes do not depend on who draws.

    Args:
        folder: of shards and manifest; whole shards of an earlier run with the same arguments are kept.
        size: side in px.
        per_shard: images of an archive, at most `MAX_MEMBERS`; the last one may hold fewer.
        workers: processes that draw; 0 for every core.
        scheduler: as in `semdefect.cluster.in_parallel`.

    Returns:
        Path of the manifest.

    Raises:
        UserError: the folder holds shards of other arguments or a data set of unknown origin, a base image cannot be
            read, or the cluster cannot be used.
    """
    if per_shard > MAX_MEMBERS:
        raise UserError(f"{per_shard} images are too many for an archive: at most {MAX_MEMBERS}")
    shards = shards_of(jobs, per_shard)
    _require_same_origin(folder, jobs, size, per_shard)
    missing = {name: own for name, own in shards.items() if not is_whole(folder / name, own)}
    calls = ((name, own, size, [sent_pixels(job, size, scheduler) for job in own]) for name, own in missing.items())
    done = len(jobs) - sum(map(len, missing.values()))
    with tqdm(total=len(jobs), initial=done, desc="shards", unit="image", disable=None) as bar:
        for name, rows, archive in in_parallel(draw_shard, calls, workers, scheduler, _patience(size, per_shard)):
            write_manifest(rows_of(folder / name), rows)  # before the archive, whose presence says that both are there
            with replacing(folder / name) as temporary:
                temporary.write_bytes(archive)
            bar.update(len(rows))
    return _join(folder, shards)


def _patience(size: int, per_shard: int) -> float:
    """Seconds to wait for a shard from a cluster: ten times what a core takes, and no less than for one image."""
    return max(PATIENCE, 10 * _SECONDS_A_PIXEL * size**2 * per_shard)


def shards_of(jobs: Iterable[Job], per_shard: int) -> dict[str, list[Job]]:
    """Archive name → its jobs, sorted: the first images of all classes come first."""
    ordered = sorted(jobs, key=lambda job: (job.index, job.label))
    parts = [ordered[start : start + per_shard] for start in range(0, len(ordered), per_shard)]
    return {f"shard-{number:06d}.tar": sorted(part, key=lambda job: job.path) for number, part in enumerate(parts)}


def rows_of(shard: Path) -> Path:
    """The manifest of one shard alone."""
    return shard.with_suffix(".csv")


def draw_shard(name: str, jobs: list[Job], size: int, bases: Bases) -> tuple[str, list[Row], bytes]:
    """The archive ``name``: its rows and its bytes. ``bases`` as in `semdefect.balance.draw_image`, one a job."""
    drawn = [draw_image(job, size, base) for job, base in zip(jobs, bases, strict=True)]
    archive = tar_bytes((row.path, png) for row, png in drawn)
    return name, [replace(row, path=f"{name}/{row.path}") for row, _ in drawn], archive


def is_whole(shard: Path, jobs: list[Job]) -> bool:
    """Whether an archive is there with all images of ``jobs``, and beside it the rows that say so."""
    wanted = [(f"{shard.name}/{job.path}", job.label, job.seed) for job in jobs]
    try:
        status = shard.stat()
        found = members(shard, status.st_size, status.st_mtime_ns)
        rows = [(row.path, row.label, row.seed) for row in read_manifest(rows_of(shard), shard.parent)]
        return rows == wanted and found.keys() == {job.path for job in jobs}
    except (FileNotFoundError, UserError):
        return False


def _require_same_origin(folder: Path, jobs: Iterable[Job], size: int, per_shard: int) -> None:
    """Note down what the shards are made from, or compare with what an earlier run noted down.

    Raises:
        UserError: that is something else, or there is a data set of which nothing is noted down.
    """
    content = cache(lambda path: hashlib.sha256(path.read_bytes()).hexdigest())  # once for all children
    plan_of = [
        (job.path, job.seed, job.base and (job.base.source_id, job.base.group, content(job.base.path))) for job in jobs
    ]
    digest = hashlib.sha256(json.dumps(plan_of).encode()).hexdigest()
    origin: dict[str, Any] = {
        "drawn_by": list(fingerprint()),
        "image_size": size,
        "images_per_shard": per_shard,
        "images": len(plan_of),
        "plan_sha256": digest,
    }
    path = folder / ORIGIN
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if (folder / "manifest.csv").exists() or any(folder.glob("shard-*.tar")):
            raise UserError(
                f"{folder} holds a data set, and no {ORIGIN} says what from: remove it, or name another folder"
            ) from None
        write_json(path, origin)
        return
    except ValueError:
        earlier = None
    if earlier != origin:
        raise UserError(f"{folder} holds shards of other images or another renderer ({path}): name another folder")


def _join(folder: Path, shards: Iterable[str]) -> Path:
    """The manifest of all shards, line by line, so that it need not fit into memory."""
    path = folder / "manifest.csv"
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as joined:
        for number, name in enumerate(shards):
            with rows_of(folder / name).open(newline="", encoding="utf-8") as part:
                header = part.readline()
                if number == 0:
                    joined.write(header)
                joined.writelines(part)
    return path


def stream(shards: Iterable[Path]) -> Iterator[tuple[Row, NDArray[np.uint8]]]:
    """Rows and pixels ``[size, size]`` of all images of ``shards``, in the order that they are stored in.

    An archive is read from its beginning to its end, which disks serve at their full rate.

    Raises:
        UserError: an archive, its rows or an image in it are missing or damaged.
    """
    for shard in shards:
        for row in read_manifest(rows_of(shard), shard.parent):
            png = read_member(shard, row.path.removeprefix(f"{shard.name}/"))
            yield row, np.asarray(decode(png, row.path))


def run(options: argparse.Namespace) -> None:
    """Plan as `synthesize` does, and write shards.

    Raises:
        UserError: another process writes to the folder, or as `write_shards`.
    """
    folder = options.folder.resolve()
    if not folder.name:
        raise UserError(f"{options.folder}: shards need a folder of their own; name another one")
    folder.mkdir(parents=True, exist_ok=True)
    with alone(folder.with_name(f".{folder.name}.lock"), f"another process writes shards to {folder}", [folder]):
        _write(options)


def _write(options: argparse.Namespace) -> None:
    params = load_params(options.params)
    changes = {"images_per_class": options.images_per_class, "image_size": options.image_size}
    settings = params.synthesize.model_copy(update={key: value for key, value in changes.items() if value})
    jobs = plan(load_base_images(REAL, settings.duplicate_correlation), settings, params.base.seed)
    manifest = write_shards(
        options.folder, jobs, settings.image_size, options.images_per_shard, settings.workers, settings.dask_scheduler
    )
    print(f"{manifest}: {len(jobs)} images in {len(shards_of(jobs, options.images_per_shard))} shards")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument(
        "folder", type=some_path, metavar="FOLDER", help="where shards and manifest go; made if it is missing"
    )
    top.add_argument("--params", default=PARAMS, metavar="FILE", help="parameter file (default: %(default)s)")
    what = "in place of synthesize.images_per_class"
    top.add_argument("--images-per-class", type=whole(8, 100_000), metavar="N", help=what)
    top.add_argument("--image-size", type=whole(64, 1024), metavar="PX", help="in place of synthesize.image_size")
    what = "images of an archive (default: %(default)s)"
    top.add_argument("--images-per-shard", type=whole(8, MAX_MEMBERS), default=PER_SHARD, metavar="N", help=what)
    return top


if __name__ == "__main__":
    options = parser().parse_args()
    start_again()
    with orderly("the same command goes on after the whole shards"):
        run(options)
