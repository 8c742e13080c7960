"""A data set in tar shards against the same one in folders of PNG files: writing, listing, reading, hashing.

    nice -n 19 python -m benchmarks.shards FOLDER                  # 10⁵ images of 128 px: 0.9 GB, six minutes
    python -m benchmarks.shards FOLDER --images-per-class 40       # whether it works, in a minute; writes no result

Draws what is missing in FOLDER/shards (`semdefect.shards`; a run that was stopped goes on), draws some images from all
over it once more and compares the bytes, unpacks the first shards to FOLDER/folders, and measures both: files and
bytes, reading in stored and in random order with files dropped from the page cache before, listing, `dvc add` and `dvc
status` in a repository of their own, and time and memory of the manifest. Figures of 10⁵ images or more, of 128 px, go
to benchmarks/results/shards.json.

Processor seconds stand beside seconds of wall time, since other work on the machine stretches these. The rate of the
whole run is told only where it was not stopped, and knows nothing of the processor seconds of a Dask cluster.
"""

import argparse
import os
import resource
import shutil
import tarfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from joblib.externals.loky import get_reusable_executor

from benchmarks import smoke
from benchmarks.environment import run_benchmark, write_if_whole
from semdefect.archive import members, open_image, read_member
from semdefect.atomic import remove_unfinished
from semdefect.balance import Job, draw_image, plan
from semdefect.edge.options import whole
from semdefect.errors import UserError
from semdefect.manifest import Row, read_manifest
from semdefect.params import load_params
from semdefect.shards import PER_SHARD, is_whole, rows_of, shards_of, stream, write_shards
from semdefect.startup import start_again

DEFAULTS = {"images_per_class": 12_500, "image_size": 128, "compared": 10_000}
#: Images that are drawn once more, and read in random order.
DRAWN, AT_RANDOM = 160, 2_000


class Timed:
    """Seconds of a block, and processor seconds of this process and of those it waited for."""

    def __enter__(self) -> "Timed":
        """Start."""
        self._start, self._cpu = time.perf_counter(), _cpu_seconds()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.seconds, self.cpu_seconds = time.perf_counter() - self._start, _cpu_seconds() - self._cpu

    def figures(self, images: int) -> dict[str, Any]:
        """Both, and images a second by each."""
        return {
            "images": images,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "images_per_second": images / self.seconds,
            "images_per_cpu_second": images / self.cpu_seconds,
        }


def _cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def drop_from_cache(paths: Sequence[Path]) -> None:
    """Let the kernel forget the contents of files, so that they come from the disk."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def unpack(shards: Sequence[Path], folder: Path, count: int) -> list[Row]:
    """The first ``count`` images of ``shards`` as files below ``folder``; their rows."""
    rows = [row for shard in shards for row in read_manifest(rows_of(shard))][:count]
    wanted = {row.path for row in rows}
    for shard in shards:
        with tarfile.open(shard) as archive:
            chosen = [member for member in archive if f"{shard.name}/{member.name}" in wanted]
            archive.extractall(folder, chosen, filter="data")
    return rows


def reading(rows: list[Row], sharded: Path, folder: Path) -> dict[str, Any]:
    """Rates of reading and decoding ``rows`` one by one from shards and from files, each in two orders."""
    shuffled = [rows[index] for index in np.random.default_rng(0).permutation(len(rows))[:AT_RANDOM]]
    shards = sorted({sharded / row.path.split("/", 1)[0] for row in rows})
    files = [folder / row.path.split("/", 1)[1] for row in rows]
    ways: dict[str, tuple[list[Path], Callable[[], int]]] = {
        "stream_of_shards": (shards, lambda: sum(1 for _ in stream(shards))),
        "shards_in_order": (shards, lambda: _read(sharded / row.path for row in rows)),
        "shards_at_random": (shards, lambda: _read(sharded / row.path for row in shuffled)),
        "files_in_order": (files, lambda: _read(files)),
        "files_at_random": (files, lambda: _read(folder / row.path.split("/", 1)[1] for row in shuffled)),
    }
    found = {}
    for name, (needed, read) in ways.items():
        drop_from_cache(needed)
        members.cache_clear()
        with Timed() as timed:
            count = read()
        found[name] = timed.figures(count)
    return found


def _read(paths: Sequence[Path] | Iterator[Path]) -> int:
    return sum(open_image(path).width > 0 for path in paths)


def listing(folder: Path) -> dict[str, Any]:
    """Time of listing all files below a folder with their sizes."""
    with Timed() as timed:
        sizes = [path.stat() for path in folder.rglob("*") if path.is_file()]
    return {
        "files": len(sizes),
        "bytes": sum(one.st_size for one in sizes),
        "bytes_on_disk": sum(one.st_blocks * 512 for one in sizes),
        "seconds": timed.seconds,
    }


def dvc(folder: Path, scratch: Path) -> dict[str, Any]:
    """Time of `dvc add`, and of `dvc status` with nothing changed: as it is, and where all has to be hashed again."""
    scratch = scratch.resolve()  # DVC takes the path of a cache as it stands
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(folder, scratch / "data")

    def timed(*command: str) -> dict[str, float]:
        with Timed() as one:
            smoke.run(scratch, *command)
        return {"seconds": one.seconds, "cpu_seconds": one.cpu_seconds}

    timed("git", "init", "-q")
    timed(*smoke.dvc("init", "-q"))
    timed(*smoke.dvc("config", "core.site_cache_dir", str(scratch / ".hashes")))
    found = {"start": timed(*smoke.dvc("--version")), "add": timed(*smoke.dvc("add", "-q", "data"))}
    found["status"] = timed(*smoke.dvc("status"))
    shutil.rmtree(scratch / ".hashes")
    found["status_rehashed"] = timed(*smoke.dvc("status"))
    shutil.rmtree(scratch)
    return found


def manifest(path: Path) -> dict[str, Any]:
    """Size of a manifest, time of reading it, and memory of what was read."""
    with Timed() as timed:
        rows = len(read_manifest(path))
    tracemalloc.start()  # makes reading slow, so once more: the process itself grows by less where it has room left
    kept = read_manifest(path)
    memory, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del kept
    return {
        "rows": rows,
        "bytes_per_row": path.stat().st_size / rows,
        "memory_bytes_per_row": memory / rows,
        "seconds": timed.seconds,
        "cpu_seconds": timed.cpu_seconds,
    }


def drawn_again(jobs: Sequence[Job], folder: Path, size: int) -> dict[str, Any]:
    """Rate at which one core draws some of ``jobs`` from all over the shards in ``folder``.

    Raises:
        UserError: an image has not the bytes that are in its shard.
    """
    shards = {job.path: folder / name for name, own in shards_of(jobs, PER_SHARD).items() for job in own}
    chosen = jobs[:: max(1, len(jobs) // DRAWN)]
    with Timed() as timed:
        images = [draw_image(job, size)[1] for job in chosen]
    for job, png in zip(chosen, images, strict=True):
        if read_member(shards[job.path], job.path) != png:
            raise UserError(
                f"{shards[job.path]}/{job.path} is damaged, or drawing it does not give the same bytes twice"
            )
    return timed.figures(len(chosen))


def measure(folder: Path, images_per_class: int, image_size: int, compared: int) -> dict[str, Any]:
    """All figures."""
    params = load_params()
    settings = params.synthesize.model_copy(update={"images_per_class": images_per_class})
    jobs = plan([], settings, params.base.seed)
    sharded, folders = folder / "shards", folder / "folders"
    begun = any(is_whole(sharded / name, own) for name, own in shards_of(jobs, PER_SHARD).items())
    remove_unfinished(sharded)
    with Timed() as drawn:
        path = write_shards(sharded, jobs, image_size, PER_SHARD, settings.workers, settings.dask_scheduler)
        get_reusable_executor().shutdown(wait=True)  # else what drew is counted where it ends, minutes later
    shards = sorted(sharded.glob("shard-*.tar"))
    found: dict[str, Any] = {"manifest": manifest(path), "image_size": image_size, "images_per_shard": PER_SHARD}
    found["drawing"] = {"one_core": drawn_again(jobs, sharded, image_size)}
    if not begun:
        found["drawing"]["whole_run"] = drawn.figures(len(jobs))
    shutil.rmtree(folders, ignore_errors=True)
    first = shards[: -(-compared // PER_SHARD)]
    with Timed() as unpacked:
        rows = unpack(first, folders, compared)
    found["unpacking"] = unpacked.figures(len(rows))
    found["reading"] = reading(rows, sharded, folders)
    with Timed() as streamed:
        count = sum(1 for _ in stream(shards))
    found["stream_of_all_shards"] = streamed.figures(count)
    found["shards"], found["folders"] = listing(sharded), listing(folders)
    found["dvc"] = {"shards": dvc(sharded, folder / "dvc"), "folders": dvc(folders, folder / "dvc")}
    shutil.rmtree(folders)
    return {"images": len(jobs), "images_in_folders": len(rows)} | found


def text(found: dict[str, Any]) -> str:
    """The figures that matter, one a line."""
    lines = [f"{found['images']} images in shards, {found['images_in_folders']} of them in folders"]
    lines += [f"{name:<18}{one['images_per_second']:>8.0f} images/s" for name, one in found["reading"].items()]
    for name in ("shards", "folders"):
        kept, times = found[name], found["dvc"][name]
        sizes = f"{kept['bytes'] / 1e6:.0f} MB, {kept['bytes_on_disk'] / 1e6:.0f} MB on disk"
        seconds = ", ".join(f"dvc {key} {one['seconds']:.1f} s" for key, one in times.items())
        lines.append(f"{name}: {kept['files']} files, {sizes}; {seconds}")
    read = found["manifest"]
    lines.append(f"manifest: {read['rows']} rows in {read['seconds']:.2f} s, {read['memory_bytes_per_row']:.0f} B each")
    return "\n".join(lines)


def run(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    found = measure(options.folder, **{key: getattr(options, key) for key in DEFAULTS})
    print(text(found))
    asked = {key: getattr(options, key) for key in DEFAULTS}
    many = asked["images_per_class"] >= DEFAULTS["images_per_class"]
    write_if_whole("shards", found, many and asked | {"images_per_class": DEFAULTS["images_per_class"]} == DEFAULTS)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("folder", type=Path, metavar="FOLDER", help="scratch; shards there are kept")
    for name, bounds, what in (
        ("images_per_class", (8, 100_000), "images of each class"),
        ("image_size", (64, 1024), "side in px"),
        ("compared", (8, 100_000), "images that are compared with files"),
    ):
        flag, what = "--" + name.replace("_", "-"), f"{what} (default: %(default)s)"
        top.add_argument(flag, type=whole(*bounds), default=DEFAULTS[name], metavar="N", help=what)
    return top


if __name__ == "__main__":
    start_again()
    run_benchmark(run, parser())
