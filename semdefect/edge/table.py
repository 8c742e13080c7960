"""Aligned text for a terminal. No library for it on the device: two tables do not need one."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from semdefect.edge.classifier import Failure, Prediction

#: Width of the column of paths where they are not known beforehand; a longer one shifts its line.
UNKNOWN_WIDTH = 40


def printable(text: str | Path) -> str:
    """A text or path on one line, whatever it holds: control characters as escapes, the rest as it is."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in str(text))


class PredictionTable:
    """Lines of a table of predictions, one at a time, so that the first shows before the last is computed."""

    def __init__(self, paths: Iterable[Path], classes: Sequence[str]) -> None:
        """Set the widths by the paths, where they are known beforehand, and class names that can come."""
        self._path_width = max((len(printable(path)) for path in paths), default=UNKNOWN_WIDTH)
        self._class_width = max(len(name) for name in (*classes, "class"))

    def header(self) -> str:
        """The names of the columns."""
        return self._line("image", "class", "confidence", "decision")

    def row(self, path: Path, result: Prediction | Failure) -> str:
        """One image: its class, confidence in percent and decision, or why there are none."""
        if isinstance(result, Failure):
            reason = result.error.removeprefix(f"{path}: ")
            return f"{printable(path):<{self._path_width}}  error: {reason}"
        return self._line(printable(path), result.label, f"{result.confidence:.1%}", _decision(result))

    def _line(self, path: str, label: str, confidence: str, decision: str) -> str:
        return f"{path:<{self._path_width}}  {label:<{self._class_width}}  {confidence:>10}  {decision}"


def _decision(result: Prediction) -> str:
    """The decision, and where a person has to look, why: ``review: ambiguous (or via)``."""
    between = f" (or {result.alternative})" if result.reason == "ambiguous" else ""
    return f"{result.decision}: {result.reason}{between}" if result.reason else result.decision


def score_text(figures: dict[str, Any]) -> str:
    """What ``semdefect score`` prints: headline figures, one line a class, and the confusion matrix."""
    guard = figures["guard"]
    headline = [
        ("images", str(figures["images"])),
        ("accuracy", percent(figures["accuracy"])),
        ("mean class accuracy", percent(figures["mean_class_accuracy"])),
        ("macro F1", percent(figures["macro_f1"])),
        ("calibration error", percent(figures["calibration_error"])),
        ("defects called clean", percent(figures["escape_rate"])),
        ("clean called defect", percent(figures["overkill_rate"])),
        ("sent to review", percent(guard["rejection_rate"])),
        ("  ambiguous", percent(guard["ambiguous"])),
        ("  unknown", percent(guard["unknown"])),
        ("  blank", percent(guard["blank"])),
        *([("  hurried", percent(guard["hurried"]))] if guard["hurried"] else []),
        ("purity of the accepted", percent(guard["purity"])),
    ]
    left = max(len(name) for name, _ in headline)
    lines = [f"{name:<{left}}  {value:>7}" for name, value in headline]
    return "\n".join([*lines, "", *_class_lines(figures), "", *_confusion_lines(figures)])


def percent(share: float | None) -> str:
    """A share as percent with one decimal; a dash where there is none."""
    return "-" if share is None else f"{share:.1%}"


def _class_lines(figures: dict[str, Any]) -> list[str]:
    left = max(len(name) for name in (*figures["classes"], "class"))
    lines = [f"{'class':<{left}}  images   purity   recall"]
    for name in figures["classes"]:
        row = figures["per_class"][name]
        shares = f"{percent(row['purity']):>7}  {percent(row['recall']):>7}"
        lines.append(f"{name:<{left}}  {row['images']:>6}  {shares}")
    return lines


def _confusion_lines(figures: dict[str, Any]) -> list[str]:
    names = figures["classes"]
    corner = "true \\ called"
    left = max(len(name) for name in (*names, corner))
    widths = [max(len(name), len(str(figures["images"]))) for name in names]
    rows = zip((corner, *names), (names, *figures["confusion"]), strict=True)
    return [
        "  ".join([f"{name:<{left}}", *(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))])
        for name, row in rows
    ]
