"""What a change does to parameters, figures and test images, as Markdown for its review.

    python -m semdefect.pr_report --base main
    python -m semdefect.pr_report --base main --output report.md

Compares the working tree with the commit BASE, by what git tracks: params.yaml, metrics/, and the answers to each test
image in metrics/evaluate/answers.csv. docs/review.md says how to read it.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from semdefect import CLASSES
from semdefect.answers import AnswerTable, read_answers
from semdefect.atomic import replacing
from semdefect.errors import UserError
from semdefect.flatten import flat
from semdefect.git_state import Commit, WorkingTree
from semdefect.lock_check import sentence, stale_stages
from semdefect.params import PARAMS
from semdefect.pr_figures import ACCURACY, Figure, compared, figures_section, from_summary, pair_up
from semdefect.pr_images import confusion_section, images_section
from semdefect.pr_values import State, load, metrics_section, parameters_section

ANSWERS = "metrics/evaluate/answers.csv"
SUMMARY = "metrics/evaluate/summary.json"
#: First line: by it a later run finds the comment that it has to replace.
MARKER = "<!-- semdefect pr-report -->"
#: GitHub takes 65,536 characters in a comment.
MOST_CHARACTERS = 60_000


def pr_report(base: str, stale: dict[str, list[str]] | None = None) -> str:
    """The report on the working directory, a checkout's root, against the commit ``base``; one line end at its end.

    Args:
        base: what git calls a commit: branch, tag or hash.
        stale: of `semdefect.lock_check.stale_stages`.

    Raises:
        UserError: git knows no ``base``, or a file of either state is broken.
    """
    before, now = Commit(base), WorkingTree()
    if now.read(PARAMS) is None:
        raise UserError(f"{PARAMS} is not in {Path.cwd()}: run this from the repository's root")
    warnings = [f"**{sentence(stale)}.** The figures below are of an earlier state."] if stale else []
    if before.ahead():
        warnings.append(f"Commits of the base that this state lacks: {before.ahead()}. What they changed shows too.")
    tables = [_answers(state) for state in (before, now)]
    sections, notes, told = _compared(before, *tables)
    sections["Parameters"] = parameters_section(before, now)
    sections["Other figures"] = metrics_section(before, now, told)
    head = f"{MARKER}\n## {now} against {before}"
    listed = "\n".join(f"- {line}" for line in (*warnings, *notes))
    return _fitted("\n\n".join(filter(None, [head, listed])), sections, base)


def _answers(state: State) -> AnswerTable | None:
    text = state.read(ANSWERS)
    where = f"{ANSWERS} of {state.name}" if isinstance(state, Commit) else ANSWERS
    return None if text is None else read_answers(text, where)


def _compared(
    base: Commit, before: AnswerTable | None, now: AnswerTable | None
) -> tuple[dict[str, str], list[str], set[str]]:
    """Sections on figures and images, notes, and the figures of the summary that these tell."""
    if now is None:
        return {}, [f"There is no `{ANSWERS}` here, so that no figure is tested: run `dvc repro evaluate`."], set()
    if before is None:
        figures = from_summary(load(base, SUMMARY, json.loads).get("accuracy", {}), _sizes(base), now)
        note = (
            f"The base has no `{ANSWERS}`: accuracies are compared as of different images, which hides small changes."
        )
        return {"Figures": figures_section(figures, now.shipped)}, [note], _told(figures)
    pairs, notes = pair_up(before, now)
    if before.shipped != now.shipped:
        notes.append(f"The shipped file was `{before.shipped}` and is `{now.shipped}`.")
    shipped = (before.shipped, now.shipped)
    figures = compared(before, now, pairs)
    sections = {
        "Figures": figures_section(figures, now.shipped),
        "Confusion": confusion_section(pairs, shipped),
        "Images": images_section(pairs, shipped),
    }
    return sections, notes, _told(figures)


def _told(figures: Sequence[Figure]) -> set[str]:
    """The accuracies of the summary that ``figures`` compare; one that only one side has is not among them."""
    return {
        f"{SUMMARY}:accuracy.{figure.test_set}.{figure.name.removeprefix(ACCURACY)}"
        for figure in figures
        if figure.name.startswith(ACCURACY)
    }


def _sizes(base: Commit) -> dict[str, int]:
    """Images in the test sets of a state that kept no answers."""
    test: dict[str, Any] = load(base, "metrics/split/split.json", json.loads).get("test", {})
    fresh = flat(load(base, PARAMS, yaml.safe_load)).get("evaluate.fresh_per_class", 0)
    images = int(test.get("images", 0))
    return {"clean": images, "noisy": images, "real": int(test.get("real_images", 0)), "fresh": fresh * len(CLASSES)}


def _fitted(head: str, sections: dict[str, str], base: str) -> str:
    """The whole, without sections that would make it too long for a comment."""
    parts, left_out = [head], []
    for title, body in sections.items():
        part = f"### {title}\n\n{body}"
        if sum(map(len, parts)) + len(part) > MOST_CHARACTERS:
            left_out.append(title)
        else:
            parts.append(part)
    if left_out:
        parts.append(f"Left out for length: {', '.join(left_out)}. `dvc metrics diff {base}` shows all figures.")
    return "\n\n".join(parts) + "\n"


def main() -> None:
    """Print the report, or write it to a file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="commit to compare with: a branch, a tag or a hash")
    parser.add_argument("--output", type=Path, help="Markdown file to write instead of printing")
    arguments = parser.parse_args()
    try:
        report = pr_report(arguments.base, stale_stages() if Path(".dvc").is_dir() else None)
        if arguments.output:
            with replacing(arguments.output) as temporary:
                temporary.write_text(report, encoding="utf-8")
        else:
            print(report, end="")
    except UserError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        sys.exit(f"error: {error.filename or 'writing'}: {error.strerror}")


if __name__ == "__main__":
    main()
