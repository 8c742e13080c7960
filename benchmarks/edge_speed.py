"""How fast the exported files run here, beside the plain recipe: `semdefect bench` on both, with its figures committed.

    python -m benchmarks.edge_speed                # two minutes on two idle cores

Needs the models of `dvc repro` (models/edge), and nothing else that runs. One image at a time on one thread and on two;
the headline is of one thread: how many times as fast as the plain recipe the calls are. The report of `evaluate` shows
the figures, and by the files' hashes whether they are of the files that it is about.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.environment import run_benchmark, write_result
from semdefect.edge.bench import Bench
from semdefect.edge.bench_images import write_images
from semdefect.edge.bench_table import process_text, setting_text
from semdefect.evaluation import FILES
from semdefect.network import file_sha256

EDGE = Path("models/edge")
MODELS = tuple(EDGE / f"{name}.onnx" for name in FILES)
THREADS, BATCHES, ROUNDS = (1, 2), (1,), 20


def measure() -> dict[str, Any]:
    """All figures; each setting is printed when it is done."""
    calls = []
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(MODELS, write_images(Path(scratch)), THREADS, BATCHES, ROUNDS, against_plain=True)
        for figures in bench.calls():
            calls.append(figures)
            print(setting_text(figures), end="\n\n", flush=True)
        processes = list(bench.processes())
    print(process_text(processes))
    files = {path.name: file_sha256(path) for path in MODELS}
    return {
        "headline": headline(calls, processes),
        "files": files,
        "rounds": ROUNDS,
        "calls": calls,
        "processes": processes,
    }


def headline(calls: list[dict[str, Any]], processes: list[dict[str, Any]]) -> dict[str, Any]:
    """By model file: ratios for one image on one thread, cold start and memory."""
    found: dict[str, Any] = {}
    for one in calls:
        if (one["threads"], one["batch"]) == (1, 1):
            ratios = {key: one[key] for key in ("times_as_fast", "times_the_cpu")}
            found.setdefault(Path(one["model"]).name, {})[one["image"]] = ratios
    for one in processes:
        if one["threads"] == 1:
            keys = ("cold_start_ms", "resident_mb", "peak_mb")
            found[Path(one["model"]).name]["fresh_process"] = {
                name: {key: recipe[key] for key in keys} for name, recipe in one["recipes"].items()
            }
    return found


def run(options: argparse.Namespace) -> None:
    """Measure, print, write."""
    print(f"written to {write_result('edge_speed', measure())}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    return argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)


if __name__ == "__main__":
    run_benchmark(run, parser())
