"""Feed damaged files to semdefect: each must give an answer or one clear sentence, in bounded time and memory.

    python -m benchmarks.fuzz --images 10000 --files 1000 --seed 0        # minutes on one idle core
    python -m benchmarks.fuzz --images 300 --files 60 --seed 7 --keep found/

Images of all formats go through `semdefect classify` (every 25th through `semdefect score`), ONNX models through
`EdgeClassifier`, manifests, parameters, weight files (`init: PATH`), result files (`--resume`), lists of hashes and
archives of images through what reads them. Equal seeds give equal files. A finding is: an exception that is no
UserError, a message that is not one sentence with the file's name, a dead process, more than 5 s of processor time or
5 s of waiting, more than 1500 MB of peak memory.
A run of 10 000 images and 1000 files or more, with seed 0, writes benchmarks/results/fuzz.json. Ends with 1 where
something was found.
"""

import argparse
import hashlib
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from benchmarks import fuzz_files, fuzz_images
from benchmarks.environment import run_benchmark, write_if_whole
from benchmarks.fuzz_worker import MOST_MB, MOST_SECONDS, Report, Worker
from benchmarks.mutations import mutated, mutated_archive, mutated_png, mutated_text

#: Of the files that are no images, how many are of which kind; the last four come on top of ``--files``.
SHARES = {"onnx": 0.5, "manifest": 0.25, "params": 0.25, "weights": 0.1, "results": 0.05, "sums": 0.05, "archive": 0.05}
#: As many are a measurement; fewer try out.
IMAGES, FILES = 10_000, 1000
#: Every so many images go through `semdefect score`.
SCORED = 25


@dataclass(frozen=True)
class Case:
    """One file: what it is called in the result, who reads it, its bytes."""

    label: str
    kind: str
    content: bytes


@dataclass
class Tally:
    """What came of the files of one label."""

    counts: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0
    waited: float = 0.0
    peak_mb: float = 0.0

    def add(self, report: Report) -> None:
        """Count one file."""
        self.counts["finding" if report.finding else report.outcome] += 1
        self.slowest = max(self.slowest, report.seconds)
        self.waited = max(self.waited, report.waited)
        self.peak_mb = max(self.peak_mb, report.peak_mb)

    def content(self) -> dict[str, Any]:
        """As JSON can hold it."""
        about = {"slowest_seconds": round(self.slowest, 1), "peak_mb": round(self.peak_mb)}
        about["longest_wait_seconds"] = round(self.waited, 1)
        return {name: self.counts[name] for name in ("answer", "refused", "finding")} | about


def image_cases(number: int, seed: int) -> Iterator[Case]:
    """``number`` damaged images, by turns of every format."""
    samples = fuzz_images.samples()
    formats, everything = list(samples), [content for group in samples.values() for content in group]
    for index in range(number):
        rng = np.random.default_rng([seed, 1, index])
        label = formats[index % len(formats)]
        content = samples[label][int(rng.integers(len(samples[label])))]
        damage = mutated_png if label.startswith("PNG") else mutated
        yield Case(label, "score" if index % SCORED == SCORED - 1 else "image", damage(content, everything, rng))


def dear_cases(names: list[str]) -> Iterator[Case]:
    """Undamaged images and networks that cost as much as their format lets them."""
    for name in names:
        if name in fuzz_images.DEAR:
            yield Case("dear", "image", fuzz_images.DEAR[name]())
        else:
            yield Case("dear", "onnx", fuzz_files.FOLDING[name]())


def file_cases(number: int, seed: int, models: list[bytes], weights: list[bytes], results: bytes) -> Iterator[Case]:
    """``number`` damaged files by `SHARES`, and some more."""
    tables = {
        "onnx": (fuzz_files.mutated_onnx, models),
        "manifest": (mutated_text, [fuzz_files.manifest()]),
        "params": (mutated_text, [fuzz_files.parameters()]),
        "weights": (fuzz_files.mutated_weights, weights),
        "results": (mutated_text, [results]),
        "sums": (
            mutated_text,
            [f"{hashlib.sha256(models[0]).hexdigest()}  tiny.onnx\n{'cd' * 32}  other.onnx\n".encode()],
        ),
        "archive": (mutated_archive, [fuzz_files.archive()]),
    }
    for order, (kind, (damage, samples)) in enumerate(tables.items()):
        for index in range(round(number * SHARES[kind])):
            rng = np.random.default_rng([seed, 2 + order, index])
            yield Case(kind, kind, damage(samples[int(rng.integers(len(samples)))], samples, rng))


def run(cases: Iterator[Case], total: int, model: Path, keep: Path | None) -> tuple[dict[str, Tally], list[str]]:
    """Let every case be read; what came of each label, and what was found."""
    tallies: defaultdict[str, Tally] = defaultdict(Tally)
    findings: list[str] = []
    workers: dict[str, Worker] = {}
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        for number, case in enumerate(tqdm(cases, total=total, unit="file", disable=None)):
            path = Path(scratch) / f"case{_suffix(case)}"
            path.write_bytes(case.content)
            if case.kind not in workers:
                workers[case.kind] = stack.enter_context(Worker(case.kind, model))
            report = workers[case.kind].read(path)
            tallies[case.label].add(report)
            if report.finding:
                findings.append(f"{case.label} {number}: {report.finding}")
                print(findings[-1], file=sys.stderr)
                if keep:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{case.kind}_{number}{_suffix(case)}").write_bytes(case.content)
    return tallies, findings


def _suffix(case: Case) -> str:
    endings = {
        "onnx": ".onnx", "manifest": ".csv", "params": ".yaml", "weights": ".safetensors", "results": ".csv",
        "archive": ".tar",
    }  # fmt: skip
    return endings.get(case.kind, ".png")


def fuzz(images: int, files: int, seed: int, dear: list[str], models: Path, keep: Path | None) -> dict[str, Any]:
    """The figures of one run."""
    with tempfile.TemporaryDirectory() as scratch:
        model = Path(scratch) / "tiny.onnx"
        model.write_bytes(fuzz_files.tiny_model())
        exported = [file.read_bytes() for file in sorted(models.glob("*.onnx"))]
        weights = fuzz_files.weights(Path(scratch)) if round(files * SHARES["weights"]) else []
        results = fuzz_files.results(model, Path(scratch))
        cases = [
            image_cases(images, seed),
            dear_cases(dear),
            file_cases(files, seed, [model.read_bytes(), *exported], weights, results),
        ]
        total = images + len(dear) + sum(round(files * share) for share in SHARES.values())
        tallies, findings = run((case for group in cases for case in group), total, model, keep)
    everything = Tally()
    for tally in tallies.values():
        everything.counts += tally.counts
        everything.slowest = max(everything.slowest, tally.slowest)
        everything.waited = max(everything.waited, tally.waited)
        everything.peak_mb = max(everything.peak_mb, tally.peak_mb)
    return {
        "all": everything.content(),
        "bounds": {"seconds": MOST_SECONDS, "peak_mb": MOST_MB},
        "by_format": {label: tally.content() for label, tally in tallies.items()},
        "exported_models": len(exported),
        "findings": findings,
        "seed": seed,
    }


def main(options: argparse.Namespace) -> None:
    """Run, write the result, say what was found."""
    dear = [] if options.no_dear else [*fuzz_images.DEAR, *fuzz_files.FOLDING]
    figures = fuzz(options.images, options.files, options.seed, dear, options.models, options.keep)
    print(figures["all"])
    whole = options.images >= IMAGES and options.files >= FILES and bool(dear) and not options.seed
    write_if_whole("fuzz", figures, whole)
    if figures["findings"]:
        sys.exit(f"error: {len(figures['findings'])} findings")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    about = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    about.add_argument("--images", type=int, default=IMAGES, metavar="N", help="damaged images (default: %(default)s)")
    about.add_argument("--files", type=int, default=FILES, metavar="N", help="other files (default: %(default)s)")
    about.add_argument("--seed", type=int, default=0, metavar="N", help="of the damage (default: %(default)s)")
    about.add_argument("--keep", type=Path, metavar="FOLDER", help="write the files of findings there")
    about.add_argument(
        "--models",
        type=Path,
        default=Path("models/edge"),
        metavar="FOLDER",
        help="exported models to damage besides a tiny one, where there are any (default: %(default)s)",
    )
    about.add_argument("--no-dear", action="store_true", help="leave out the files that take seconds each")
    return about


if __name__ == "__main__":
    run_benchmark(main, parser())
