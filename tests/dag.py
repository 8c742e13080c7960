"""Which modules a stage's script uses: DVC does not follow imports."""

import ast
from functools import cache
from pathlib import Path

from samples import ROOT

#: What every stage uses and what decides no result: reading parameters and telling errors.
INFRASTRUCTURE = {f"semdefect/{name}.py" for name in ("errors", "params", "stage")}


def module_file(dotted: str) -> Path | None:
    """The file of one of our modules, relative to the repository; None for others."""
    path = Path(*dotted.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if dotted.split(".")[0] in ("semdefect", "stages", "pretrain") and (ROOT / candidate).is_file():
            return candidate
    return None


@cache
def imported(file: Path) -> frozenset[Path]:
    """Our modules that a file imports itself, at any place in it."""
    found = set()
    package = file.parent.parts
    for node in ast.walk(ast.parse((ROOT / file).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {module_file(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = list(package[: len(package) - node.level + 1]) if node.level else []
            base = ".".join(above + ([node.module] if node.module else []))
            for alias in node.names:
                found.add(module_file(f"{base}.{alias.name}") or module_file(base))
    return frozenset(found - {None})


def reached(script: Path) -> set[str]:
    """Every module of ours that a script uses, by whatever way; the script itself too."""
    waiting, seen = [script], set()
    while waiting:
        file = waiting.pop()
        if file not in seen:
            seen.add(file)
            waiting += imported(file)
    return {file.as_posix() for file in seen}


def covers(dependency: str, file: str) -> bool:
    return file == dependency or file.startswith(f"{dependency}/")
