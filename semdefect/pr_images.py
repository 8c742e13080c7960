"""The images of a pull request: what the shipped file confuses more or less often, and which it gets wrong now."""

from collections import Counter

from semdefect.answers import SetAnswers
from semdefect.markdown import folded, limited, table
from semdefect.pr_figures import Pairing

#: Rows of a table; GitHub takes 65,536 characters in a comment.
MOST = 40


def confusion_section(pairs: dict[str, Pairing], shipped: tuple[str, str]) -> str:
    """Which errors became more or fewer, by test set, the largest difference first.

    Args:
        pairs: of `semdefect.pr_figures.pair_up`.
        shipped: the shipped file's model in the base and now.
    """
    before = {name: _errors(pair.before, shipped[0]) for name, pair in pairs.items()}
    now = {name: _errors(pair.now, shipped[1]) for name, pair in pairs.items()}
    cells = {key for counts in (*before.values(), *now.values()) for key in counts}
    moved = {key: sum(abs(now[name][key] - before[name][key]) for name in pairs) for key in cells}
    rows = [
        [*key, *(_counts(before[name][key], now[name][key]) for name in pairs)]
        for key in sorted(moved, key=lambda key: (-moved[key], key))
        if moved[key]
    ]
    if not rows:
        return "No class is confused with another more or less often than before."
    shown, rest = limited(rows, MOST)
    header = ["true", "called", *pairs]
    return f"Errors of `{shipped[1]}`, base → now:\n\n{table(header, shown, left=2)}{rest}"


def _errors(answers: SetAnswers, model: str) -> Counter[tuple[str, str]]:
    said = zip(answers.truth.tolist(), answers.called[model].tolist(), strict=True)
    return Counter((truth, called) for truth, called in said if truth != called)


def _counts(before: int, now: int) -> str:
    return f"{before} → {now}" if before != now else (str(now) if now else "")


def images_section(pairs: dict[str, Pairing], shipped: tuple[str, str]) -> str:
    """The images that became wrong, those that the guard lets through first, and those that became right."""
    wrong, right = [], []
    for name, pair in pairs.items():
        if pair.same:
            before, now = pair.before.called[shipped[0]], pair.now.called[shipped[1]]
            for number, truth in enumerate(pair.now.truth):
                guard = str(pair.now.guard[number]) or "accepted"
                row = [name, pair.now.images[number], str(truth), str(before[number]), str(now[number]), guard]
                wrong += [row] if before[number] == truth != now[number] else []
                right += [row] if before[number] != truth == now[number] else []
    wrong.sort(key=lambda row: row[-1] != "accepted")
    return "\n\n".join([_listing("newly wrong", wrong), _listing("newly right", right)])


def _listing(title: str, rows: list[list[str]]) -> str:
    if not rows:
        return f"No image is {title}."
    accepted = sum(row[-1] == "accepted" for row in rows)
    plural = "s are" if len(rows) > 1 else " is"
    shown, rest = limited(rows, MOST)
    header = ["test set", "image", "true", "base", "now", "guard now"]
    summary = f"{len(rows)} image{plural} {title}, {accepted} of them accepted by the guard"
    return folded(summary, table(header, shown, left=6) + rest)
