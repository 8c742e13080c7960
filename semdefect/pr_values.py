"""The values of a pull request: parameters and figures that differ, file by file."""

import json
from collections.abc import Callable
from typing import Any

import yaml

from semdefect.errors import UserError
from semdefect.flatten import differences, flat
from semdefect.git_state import Commit, WorkingTree
from semdefect.markdown import code, folded, limited, table
from semdefect.params import PARAMS

METRICS = "metrics"
#: Figures shown of a file.
MOST = 25
#: What stands above the figures of `metrics_section`.
UNTESTED = (
    "Whether these changed by more than chance is not tested. Where parameters of `evaluate` differ, they may be of "
    "other images."
)
#: Characters shown of a value.
LONGEST = 60

State = Commit | WorkingTree


def load(state: State, path: str, parse: Callable[[str], Any]) -> dict[str, Any]:
    """The values in a file by their keys; an empty dict where there is none.

    Raises:
        UserError: it cannot be parsed, or holds no keys.
    """
    text = state.read(path)
    if text is None:
        return {}
    where = f"{path} of {state.name}" if isinstance(state, Commit) else path
    try:
        content = parse(text)
    except (ValueError, yaml.YAMLError, RecursionError) as broken:
        raise UserError(f"{where} cannot be read: {' '.join(str(broken).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"{where} holds no values by keys: restore it with git checkout, or by `dvc repro`")
    return content


def parameters_section(before: State, now: State) -> str:
    """The parameters that differ."""
    changed = differences(*(flat(load(state, PARAMS, yaml.safe_load)) for state in (before, now)))
    if not changed:
        return "No parameter differs."
    rows = [[code(name), _shown(old), _shown(new)] for name, (old, new) in changed.items()]
    return table(["parameter", "base", "now"], rows)


def metrics_section(before: State, now: State, told: set[str]) -> str:
    """The figures of all JSON files below `METRICS` that differ, folded by file, without those in ``told``.

    Args:
        before: the base.
        now: the state that is compared with it.
        told: ``<path>:<key>`` of figures that are shown elsewhere.
    """
    parts = []
    for path in sorted({*before.files(METRICS, ".json"), *now.files(METRICS, ".json")}):
        changed = differences(*(flat(load(state, path, json.loads)) for state in (before, now)))
        rows = [(name, *values) for name, values in changed.items() if f"{path}:{name}" not in told]
        there = [state.read(path) is not None for state in (before, now)]
        if not all(there):
            parts.append(f"{code(path)} is {'new' if there[1] else 'gone'}: {len(rows)} figures.")
        elif rows:
            parts.append(folded(f"{path}: {len(rows)} differ", _figures(rows)))
    return "\n\n".join([UNTESTED, *parts]) if parts else "No other figure differs."


def _figures(rows: list[tuple[str, Any, Any]]) -> str:
    """A table of the figures that moved most for their size, in the order of their names."""
    largest, rest = limited(sorted(rows, key=lambda row: -_relative(row[1], row[2])), MOST)
    cells = [[code(name), _shown(old), _shown(new), _difference(old, new)] for name, old, new in sorted(largest)]
    return table(["figure", "base", "now", "change"], cells) + rest


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _relative(old: Any, new: Any) -> float:
    if not (_number(old) and _number(new)):
        return float("inf")
    return abs(new - old) / max(abs(old), abs(new))


def _difference(old: Any, new: Any) -> str:
    return f"{new - old:+.4g}".replace("-", "−") if _number(old) and _number(new) else ""


def _shown(value: Any) -> str:
    """A value on one line; of a long one the beginning."""
    text = "–" if value is None else (value if isinstance(value, str) else json.dumps(value, default=str))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
