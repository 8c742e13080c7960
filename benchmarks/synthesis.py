"""The renderer: how fast it is, and how its images compare with real ones.

    python -m benchmarks.synthesis                                   # images/s by class and family, about a minute
    python -m benchmarks.synthesis --compare ../shared/real_sem      # image statistics, and sheets to look at

Speed is that of one core, and the ratio of two workers to one, measured in the same run; it goes to
benchmarks/results/synthesis.json. Slowest is other/blocks, 1.8 times the mean at 224 px: each of up to sixteen blocks
draws its cells over the whole frame. Next is clean/cmp_off: a twin is exposed twice, with the defect (the gate judges
that picture) and without it, which is half of its time.

The sheets (three lines of real images above three of rendered ones, a file a class) go to benchmarks/sheets/, which
git ignores: real images are never committed.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from scipy.ndimage import convolve, gaussian_filter, gaussian_filter1d
from scipy.signal import find_peaks
from tqdm import tqdm

from benchmarks.environment import run_benchmark, write_result
from benchmarks.real_images import RealImages, load_real
from semdefect import CLASSES
from semdefect.edge.image import open_gray, to_pixels
from semdefect.sheet import contact_sheet, spread
from semdefect.synthesis import families_of, render

SHEETS = Path("benchmarks/sheets")
SIZES = (128, 224)
#: Images timed for each family, after one that is not.
TIMED = 12
#: Images of one batch for a worker, and batches, when workers are compared.
BATCH, BATCHES = 40, 24
#: Images of each class whose statistics are taken, and their side: that of the real ones.
COMPARED, COMPARED_SIZE = 120, 128
ON_A_LINE = 12


def seconds_per_image(class_name: str, family: str, size: int) -> float:
    """Mean time of one image of a family, on this core."""
    times = []
    for seed in range(TIMED + 1):
        start = time.perf_counter()
        render(class_name, seed, size, family)
        times.append(time.perf_counter() - start)
    return float(np.mean(times[1:]))


def speeds() -> dict[str, Any]:
    """Images a second on one core: ``mean`` over the classes, by ``classes`` and by ``families``, each by side in px.

    A class's families count by their shares.
    """
    cells = [(name, family, size) for size in SIZES for name in CLASSES for family in families_of(name)]
    seconds = {cell: seconds_per_image(*cell) for cell in tqdm(cells, desc="time", disable=None, leave=False)}
    result: dict[str, Any] = {}
    for size in SIZES:
        classes = {}
        for name in CLASSES:
            members = families_of(name)
            total = sum(member.weight for member in members.values())
            spent = sum(member.weight / total * seconds[name, key, size] for key, member in members.items())
            classes[name] = 1 / spent
        families = {f"{name}/{family}": 1 / seconds[name, family, size] for name, family, side in cells if side == size}
        result[str(size)] = {
            "mean": len(CLASSES) / sum(1 / rate for rate in classes.values()),
            "classes": classes,
            "families": families,
        }
    return result


def worker_gain(size: int) -> float:
    """How many times as fast two workers are as one, on the same images; the time to start them is left out."""
    batches = [(CLASSES[batch % len(CLASSES)], batch * BATCH) for batch in range(BATCHES)]
    times = []
    for workers in (1, 2):
        with Parallel(n_jobs=workers) as parallel:
            parallel(delayed(_batch)("via", 0, size, 2) for _ in range(workers))
            start = time.perf_counter()
            parallel(delayed(_batch)(name, seed, size, BATCH) for name, seed in batches)
            times.append(time.perf_counter() - start)
    return times[0] / times[1]


def _batch(class_name: str, first: int, size: int, count: int) -> None:
    for seed in range(first, first + count):
        render(class_name, seed, size)


def immerkaer_noise(pixels: NDArray[np.uint8]) -> float:
    """Standard deviation of the noise in gray levels, from the median response to a kernel blind to edges.

    Source: Immerkær, "Fast noise variance estimation", 1996; the median in place of the mean keeps texture out.
    """
    kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    return float(np.median(np.abs(convolve(pixels.astype(np.float32), kernel)[1:-1, 1:-1])) / (0.6745 * 6))


def line_roughness(pixels: NDArray[np.uint8]) -> float | None:
    """Roughness of an image of lines: edge deviation along the lines over pitch; None where no lines are found.

    Edges are where the gradient of the mean across the lines is large; on each row an edge lies at the centroid of the
    gradient around that place, and its straight trend is taken off. Noise and the beam's blur change the figure, so it
    compares images with images, not with a drawn σ.
    """
    found = [result for result in (_upright_roughness(turned) for turned in (pixels, pixels.T)) if result]
    return max(found, key=lambda result: result[0])[1] if found else None


def _upright_roughness(pixels: NDArray[np.uint8]) -> tuple[float, float] | None:
    """Share of the contrast that is that of vertical lines, and their roughness; None for less than 60 %."""
    image = pixels[6:-6, 6:-6].astype(np.float32)
    smooth = gaussian_filter(image, (1.0, 0.8))
    profile = gaussian_filter1d(image.mean(axis=0), 0.7)
    share = float(profile.std() / max(gaussian_filter(image, 0.8).std(), 1e-6))
    slope, gradients = np.gradient(profile), np.gradient(smooth, axis=1)
    steep = np.abs(slope)
    peaks, _ = find_peaks(steep[4:-4], height=0.35 * np.percentile(steep, 97), distance=3)
    if len(peaks) < 2 or share < 0.6:
        return None
    window = np.arange(-4, 5)
    rows = np.arange(len(smooth))
    deviations = []
    for peak in peaks + 4:
        weight = np.clip(gradients[:, peak + window] * np.sign(slope[peak]), 0, None) * np.exp(-((window / 3) ** 2))
        place = (weight * window).sum(axis=1) / (weight.sum(axis=1) + 1e-6)
        deviations.append(gaussian_filter1d(place - np.polyval(np.polyfit(rows, place, 1), rows), 0.8).std())
    pitch = 2 * len(profile) / len(peaks)
    return share, float(np.median(deviations) / pitch)


STATISTICS: dict[str, Callable[[NDArray[np.uint8]], float]] = {
    "mean": lambda pixels: float(pixels.mean()),
    "std": lambda pixels: float(pixels.std()),
    "noise": immerkaer_noise,
    "P1": lambda pixels: float(np.percentile(pixels, 1)),
    "P99": lambda pixels: float(np.percentile(pixels, 99)),
}


def compare(images: RealImages) -> Table:
    """Median and 10-90 % band of every statistic, real beside rendered, by class and over all; saves the sheets."""
    table = Table("class", "images", *STATISTICS, title="Gray levels: median (10 % - 90 %)")
    everything: dict[str, list[NDArray[np.uint8]]] = {"real": [], "rendered": []}
    for number, name in enumerate(tqdm(CLASSES, desc="compare", disable=None, leave=False)):
        paths = [path for path, truth in zip(images.paths, images.truth, strict=True) if truth == number]
        sets = {
            "real": [to_pixels(open_gray(path), COMPARED_SIZE) for path in paths],
            "rendered": [render(name, seed, COMPARED_SIZE).image for seed in range(COMPARED)],
        }
        _save_sheet(sets, SHEETS / f"{name}.png")
        for origin, members in sets.items():
            if not members:
                continue
            table.add_row(name, origin, *_bands(members))
            everything[origin] += members
    for origin, members in everything.items():
        table.add_row("all", origin, *_bands(members))
    return table


def compare_lines(images: RealImages) -> Table:
    """Median and quartiles of the roughness of lines, real beside rendered, for the classes that lines tell apart."""
    table = Table("class", "images", "of lines", "roughness", title="Edge deviation over pitch, %: median (quartiles)")
    for name in ("bridge", "clean", "ler", "open"):
        paths = [path for path, truth in zip(images.paths, images.truth, strict=True) if truth == CLASSES.index(name)]
        sets = {
            "real": (to_pixels(open_gray(path), COMPARED_SIZE) for path in paths),
            "rendered": (render(name, seed, COMPARED_SIZE).image for seed in range(COMPARED)),
        }
        for origin, members in sets.items():
            found = [roughness for roughness in map(line_roughness, members) if roughness is not None]
            if found:
                low, middle, high = 100 * np.percentile(found, [25, 50, 75])
                table.add_row(name, origin, str(len(found)), f"{middle:.1f} ({low:.1f} - {high:.1f})")
    return table


def _bands(images: list[NDArray[np.uint8]]) -> list[str]:
    cells = []
    for statistic in STATISTICS.values():
        low, middle, high = np.percentile([statistic(pixels) for pixels in images], [10, 50, 90])
        digits = 1 if statistic is immerkaer_noise else 0
        cells.append(f"{middle:.{digits}f} ({low:.{digits}f} - {high:.{digits}f})")
    return cells


def _save_sheet(sets: dict[str, list[NDArray[np.uint8]]], path: Path) -> None:
    """Three lines of each set, spread evenly over it."""
    lines = []
    for origin, members in sets.items():
        tiles = [(Image.fromarray(pixels), "") for pixels in spread(members, 3 * ON_A_LINE)]
        lines += [(origin, tiles[start : start + ON_A_LINE]) for start in range(0, len(tiles), ON_A_LINE)]
    contact_sheet(lines, path)


def show(figures: dict[str, Any]) -> None:
    """Print the speeds."""
    table = Table("class / family", *(f"{size}²" for size in SIZES), title="Images a second on one core")
    rates = [figures["images_per_second"][str(size)] for size in SIZES]
    for name in CLASSES:
        table.add_row(name, *(f"{rate['classes'][name]:.0f}" for rate in rates), style="bold")
        for family in families_of(name):
            table.add_row(f"  {family}", *(f"{rate['families'][f'{name}/{family}']:.0f}" for rate in rates))
    table.add_row("mean of the classes", *(f"{rate['mean']:.0f}" for rate in rates), style="bold")
    Console().print(table)
    print(f"two workers are {figures['two_workers_to_one']:.2f} times as fast as one")


def run(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    if options.compare:
        images = load_real(options.compare)
        Console().print(compare(images))
        Console().print(compare_lines(images))
        print(f"sheets: {SHEETS}/<class>.png")
        return
    measured = speeds()
    figures = {
        "images_per_second_128": measured["128"]["mean"],
        "images_per_second_224": measured["224"]["mean"],
        "two_workers_to_one": worker_gain(SIZES[0]),
        "images_per_second": measured,
    }
    show(figures)
    print(f"written to {write_result('synthesis', figures)}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--compare", type=Path, metavar="FOLDER", help="a collection of real images, with labels.csv")
    return top


if __name__ == "__main__":
    run_benchmark(run, parser())
