"""Is a run repeated byte for byte? The smoke profile, twice, in other folders and with other workers.

    make verify
    python -m benchmarks.verify --keep          # leaves both folders there, to look at
    python -m benchmarks.verify --record        # writes benchmarks/results/verify.json

Copies this working tree into two temporary folders of different names, one with blanks in it, runs `dvc repro` in each
with the parameters of tests/smoke.yaml, once with one worker of `synthesize` and once with two, and compares the
SHA-256 of every output: images, splits, models, figures, plots, report and dvc.lock. Needs no data and leaves this
working tree as it is. About three minutes on two idle cores.
Exit code 0 where all are the same, 1 where any differs: then their names are printed.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from benchmarks.environment import run_benchmark, write_result
from benchmarks.smoke import STAGES, commit, differing, dvc, lay_out, outputs, run, scratch_folder, summary_of

#: Folder → workers of `synthesize`.
COPIES = {"one": 1, "a folder with blanks": 2}


def reproduce(folder: Path, bar: Any) -> dict[str, str]:
    """Run all stages in ``folder``; the hash of every output."""
    for stage in STAGES:
        bar.set_postfix_str(f"{stage}, {folder.name!r}")
        run(folder, *dvc("repro", stage))
        bar.update()
    return outputs(folder)


def verify(options: argparse.Namespace) -> None:
    """Reproduce twice, compare, tell."""
    with scratch_folder("verify", options.keep) as scratch:
        for name, workers in COPIES.items():  # both now: this working tree may change meanwhile
            commit(lay_out(scratch / name, synthesize={"workers": workers}))
        with tqdm(total=len(COPIES) * len(STAGES), desc="verify", unit="stage", disable=None, leave=False) as bar:
            first, second = (reproduce(scratch / name, bar) for name in COPIES)
    different = differing(first, second)
    if different:
        sys.exit(f"error: {len(different)} of {len(first)} outputs differ between two runs:\n{summary_of(different)}")
    print(f"{len(first)} outputs are the same, byte for byte, in two folders and with 1 and 2 workers")
    if options.record:
        print(f"written to {write_result('verify', {'outputs': len(first), 'differing': different})}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    top.add_argument("--keep", action="store_true", help="do not remove the two folders at the end")
    top.add_argument("--record", action="store_true", help="write the result, which is a file of this working tree")
    return top


if __name__ == "__main__":
    run_benchmark(verify, parser())
