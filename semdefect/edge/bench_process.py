"""Cold start and memory of a classifier, each measured in a process of its own."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import semdefect
from semdefect.errors import UserError

_CHILD = Path(__file__).with_name("bench_child.py")


def process_figures(
    model: Path, image: Path, threads: int, runtime: str, recipes: Sequence[str], starts: int
) -> dict[str, Any]:
    """Medians over ``starts`` fresh processes a recipe (``ours``, ``plain``), which take turns.

    Keys of each recipe: ``import_ms``, ``load_ms``, ``cold_start_ms`` (imports, session and first call; the start of
    Python itself is not in it), ``resident_mb`` after the first call and ``peak_mb`` (10^6 bytes; None where the system
    does not tell).

    Raises:
        UserError: a fresh process cannot do what this one can.
    """
    runs: dict[str, list[dict[str, Any]]] = {recipe: [] for recipe in recipes}
    for _ in range(starts):
        for recipe in recipes:
            runs[recipe].append(_start(recipe, model, image, threads, runtime))
    return {recipe: _medians(found) for recipe, found in runs.items()}


def _start(recipe: str, model: Path, image: Path, threads: int, runtime: str) -> dict[str, Any]:
    package = str(Path(semdefect.__file__).parents[1])
    search = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    # -P: the script's own folder holds our modules under their bare names.
    words = [sys.executable, "-P", str(_CHILD), recipe, str(model), str(image), str(threads), runtime]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": search}, capture_output=True, text=True, check=False)
    try:
        figures: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UserError(f"{model}: a fresh process fails to run it ({reason[:160]}); free some memory") from None
    return figures


def _medians(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {key: None if runs[0][key] is None else statistics.median(run[key] for run in runs) for key in runs[0]}
