"""A run in a short table: accuracies, sizes, and where the results lie.

python -m semdefect.summary
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from semdefect.errors import UserError

REPORT = Path("metrics/report.html")
EDGE = Path("models/edge")


def _read(path: Path, key: str) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} is missing or broken: run `dvc repro` in the repository's root") from None
    return content


def summary_table() -> Table:
    """Rows teacher and exported files; columns the test sets and the file's size.

    Raises:
        UserError: the metrics of a run are not there.
    """
    accuracy = _read(Path("metrics/evaluate/summary.json"), "accuracy")
    megabytes: dict[str, Any] = {}
    for file in ("export.json", "fast.json"):
        megabytes |= _read(Path("metrics/export_onnx") / file, "megabytes")
    table = Table(title="Accuracy")
    table.add_column("model", no_wrap=True)
    test_sets = [name for name in ("clean", "noisy", "mixed", "fresh", "real") if name in accuracy]
    for name in test_sets:
        table.add_column(name, justify="right")
    table.add_column("size", justify="right")
    for model in sorted(accuracy["clean"], key=lambda name: name != "teacher"):
        size = f"{megabytes[model]} MB" if model in megabytes else "–"
        shares = [f"{accuracy[name][model]:.1%}" for name in test_sets]
        table.add_row(model.replace("_", " ").replace("fp32", "FP32").replace("int8", "INT8"), *shares, size)
    return table


def main() -> None:
    """Print the table and where the report lies."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    try:
        console = Console()
        console.print(summary_table())
        console.print(
            f"files: {EDGE}/student_{{fp32,int8,w8,fast}}.onnx; report with pictures: {REPORT}", highlight=False
        )
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
