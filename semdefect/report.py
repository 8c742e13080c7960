"""``metrics/report.html``: the figures and pictures of a run in one file that works offline."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from semdefect.atomic import replacing
from semdefect.edge.table import percent

_PAGE = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>SEM defect classifier</title>
<style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: auto; padding: 1rem; }
table { border-collapse: collapse; margin: 1rem 0; } th, td { padding: .2rem .8rem; text-align: right; }
th:first-child, td:first-child { text-align: left; } tr { border-bottom: 1px solid #8884; }
img { max-width: 100%; background: white; } .wide { overflow-x: auto; }
</style>
<h1>SEM defect classifier</h1>
<p>All figures of the student were measured on the ONNX files through the device's own code, on images of the
test split, which shares no base image with training, and on
<em>fresh</em> ones, which were rendered for this test alone.</p>
$body
</html>
""")


def write_report(summary: dict[str, Any], details: dict[str, Any], pictures: dict[str, Path], path: Path) -> None:
    """Write the report.

    Args:
        summary: figures for `dvc metrics diff`.
        details: ``[model][test set]`` → all figures.
        pictures: heading → PNG, embedded.
        path: of the HTML file.
    """
    parts = ["<h2>Accuracy</h2>", _accuracy_table(details), "<h2>At a glance</h2>", _summary_table(summary)]
    parts += ["<h2>Classes (INT8, mixed)</h2>", _class_table(details["student_int8"]["mixed"]["per_class"])]
    for heading, picture in pictures.items():
        data = base64.b64encode(picture.read_bytes()).decode()
        parts.append(f'<h2>{escape(heading)}</h2><img alt="{escape(heading)}" src="data:image/png;base64,{data}">')
    with replacing(path) as temporary:
        temporary.write_text(_PAGE.substitute(body="\n".join(parts)), encoding="utf-8")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(line(cells, "td") for cells in rows)
    return f'<div class="wide"><table>{line(header, "th")}{body}</table></div>'


def _accuracy_table(details: dict[str, Any]) -> str:
    header = [
        "model",
        "test set",
        "images",
        "accuracy",
        "mean class accuracy",
        "macro-F1",
        "escape rate",
        "overkill",
    ]
    keys = ["accuracy", "mean_class_accuracy", "macro_f1", "escape_rate", "overkill_rate"]
    rows = [
        [model, name, str(figures["images"]), *(percent(figures[key]) for key in keys)]
        for model, by_set in details.items()
        for name, figures in by_set.items()
    ]
    return _table(header, rows)


def _summary_table(summary: dict[str, Any]) -> str:
    flat = _flat({key: value for key, value in summary.items() if key not in ("accuracy", "macro_f1")})
    return _table(["figure (INT8, mixed where no set is named)", "value"], [[key, percent(flat[key])] for key in flat])


def _flat(content: dict[str, Any]) -> dict[str, Any]:
    """Nested figures by their names, joined."""
    flat: dict[str, Any] = {}
    for key, value in content.items():
        inner = _flat(value) if isinstance(value, dict) else {"": value}
        flat |= {f"{key} {name}".strip().replace("_", " "): figure for name, figure in inner.items()}
    return flat


def _class_table(per_class: dict[str, Any]) -> str:
    rows = [
        [name, str(figures["images"]), percent(figures["purity"]), percent(figures["recall"])]
        for name, figures in per_class.items()
    ]
    return _table(["class", "images", "purity", "recall"], rows)
