"""What `semdefect bench` prints for a person: one block of lines a setting, then cold start and memory."""

from collections.abc import Sequence
from typing import Any

from semdefect.edge.bench import STAGES
from semdefect.edge.table import printable

_PLAIN = (("plain", "plain"), ("plain_same_threads", "same threads"))


def setting_text(figures: dict[str, Any]) -> str:
    """A setting of `Bench.calls`: times of each stage, and beside them the plain recipe's where it was measured."""
    ours = figures["recipes"]["ours"]
    what = f"{printable(figures['model'])}, {printable(figures['image'])}, {_plural(figures['threads'], 'thread')}"
    rate = f"{what}, batch {figures['batch']}: {ours['images_per_second']:.0f} images/s"
    others = [(name, title) for name, title in _PLAIN if name in figures["recipes"]]
    heads = [f"{'ms':<8}", *(f"{head:>8}" for head in ("p50", "p95", "p99", "CPU"))]
    heads += [f"{title:>14}{'times':>8}{'CPU':>8}" for _, title in others]
    return "\n".join([rate, "  " + "".join(heads), *(_stage_line(figures, stage, others) for stage in STAGES)])


def process_text(figures: Sequence[dict[str, Any]]) -> str:
    """All of `Bench.processes` as one table."""
    left = max(len(printable(row["model"])) for row in figures)
    lines = [f"{'fresh process':<{left}}  threads  recipe  cold start  resident      peak"]
    for row in figures:
        for name, one in row["recipes"].items():
            memory = "".join(f"  {_megabytes(one[key]):>8}" for key in ("resident_mb", "peak_mb"))
            start = f"{one['cold_start_ms']:>7.0f} ms"
            lines.append(f"{printable(row['model']):<{left}}  {row['threads']:>7}  {name:<6}  {start}{memory}")
    return "\n".join(lines)


def _stage_line(figures: dict[str, Any], stage: str, others: Sequence[tuple[str, str]]) -> str:
    ours = figures["recipes"]["ours"][stage]
    cells = [f"{stage:<8}", *(f"{ours[key]:>8.2f}" for key in ("p50_ms", "p95_ms", "p99_ms", "cpu_ms"))]
    for name, _ in others:
        cells.append(f"{figures['recipes'][name][stage]['p50_ms']:>14.2f}")
        cells += [f"{figures[key][name][stage]:>7.2f}x" for key in ("times_as_fast", "times_the_cpu")]
    return "  " + "".join(cells)


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _megabytes(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f} MB"
