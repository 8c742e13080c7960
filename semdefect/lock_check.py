"""Does dvc.lock fit the code, the parameters and the tracked figures? Told without data, cache or remote.

python -m semdefect.lock_check
"""

import argparse
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from semdefect.errors import UserError
from semdefect.flatten import differences, flat

REAL = Path("data/real")
_MISSING = ("deleted", "not in cache")


def stale_stages() -> dict[str, list[str]]:
    """Stages that `dvc repro` would run, each with what differs from dvc.lock; empty where dvc.lock fits.

    Data and models may be missing, as in a fresh clone. `dvc status` tells the differences, and where it tells none,
    `dvc repro --allow-missing --dry` has the last word: it also compares what a stage read with what the one before
    wrote, by the hashes in dvc.lock. DVC 3.67 does not see whether a file in a folder that an earlier stage wrote is
    still that one (treeverse/dvc#11099): a lock of `dvc repro` of a single stage can pass.

    Raises:
        UserError: DVC is not installed, or cannot read the project.
    """
    status = json.loads(_dvc("status", "--json"))
    kept = _kept_by_git()
    found = {stage: _differences(stage, parts, kept) for stage, parts in status.items()}
    found = {stage: names for stage, names in found.items() if names}
    return found or {stage: ["an input that is not what the stage before wrote"] for stage in _would_run()}


def missing_images() -> list[Path]:
    """The ``.dvc`` files of real images that are not here: whether data/real fits cannot be told without them."""
    return sorted(file for file in REAL.glob("*.dvc") if not file.with_suffix("").exists())


def _dvc(*arguments: str) -> str:
    if not find_spec("dvc"):
        raise UserError("DVC is not installed for this Python: pip install -r requirements.txt")
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True, check=False)
    if done.returncode and arguments[0] == "status":
        message = " ".join(done.stderr.split())
        raise UserError(f"DVC cannot read the project: {message.removeprefix('ERROR: ')}")
    return done.stdout + (done.stderr if arguments[0] == "repro" else "")


def _kept_by_git() -> set[str]:
    """Outputs that lie in git, so that a clone has them."""
    stages = _load(Path("dvc.yaml"))["stages"]
    entries = [
        entry for stage in stages.values() for kind in ("outs", "metrics", "plots") for entry in stage.get(kind, [])
    ]
    named = [item for entry in entries if isinstance(entry, dict) for item in entry.items()]
    return {path for path, options in named if not (options or {}).get("cache", True)}


def _differences(stage: str, parts: list[Any], kept: set[str]) -> list[str]:
    """What one ``stage``'s part of `dvc status --json` says, without what is only missing here."""
    names: list[str] = []
    for part in parts:
        if isinstance(part, str):  # "changed command"
            names.append(part.removeprefix("changed "))
            continue
        for path, state in [item for changes in part.values() for item in changes.items()]:
            if isinstance(state, dict):
                names += [name for block in state for name in _parameters(stage, path, block)]
            elif state not in _MISSING or path in kept:
                names += [] if Path(path) == REAL and missing_images() else [path]
    return names


def _parameters(stage: str, path: str, block: str) -> list[str]:
    """Parameters in the ``block`` of the file ``path`` that differ from those in dvc.lock, or the block's name."""
    content = flat(_load(Path(path)))
    now = {name: value for name, value in content.items() if f"{name}.".startswith(f"{block}.")}
    locked = _load(Path("dvc.lock"))["stages"].get(stage, {}).get("params", {}).get(path, {})
    before = flat({block: locked[block]}) if block in locked else {}
    return list(differences(before, now)) or [block]


def _load(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def _would_run() -> list[str]:
    """Stages that a dry run would run, up to the first whose missing inputs end it."""
    said = _dvc("repro", "--allow-missing", "--dry")
    stages = re.findall(r"^Running stage '([^']+)'", said, re.MULTILINE)
    stages += re.findall(r"failed to reproduce '([^']+)'", said)
    if not stages and "up to date" not in said:
        raise UserError(f"DVC cannot plan the pipeline: {' '.join(said.split())}")
    return [stage for stage in dict.fromkeys(stages) if not (stage == "synthesize" and missing_images())]


def sentence(stale: dict[str, list[str]]) -> str:
    """What does not fit, and what to do."""
    stages = "; ".join(f"{stage} ({_few(names)})" for stage, names in stale.items())
    return f"dvc.lock does not fit: {stages}; run `dvc repro` and commit dvc.lock and metrics/"


def _few(names: list[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def main() -> None:
    """Say whether dvc.lock fits; exit with 1 where it does not."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    try:
        if not (Path("dvc.yaml").is_file() and Path(".dvc").is_dir()):
            raise UserError(f"dvc.yaml or .dvc is not in {Path.cwd()}: run this from the repository's root")
        stale = stale_stages()
        if stale:
            raise UserError(sentence(stale))
    except UserError as error:
        sys.exit(f"error: {error}")
    if missing_images():
        pulled = " ".join(str(file) for file in missing_images())
        print(f"note: {REAL} was not checked, since its images are not here: dvc pull {pulled}")
    print("dvc.lock fits code, parameters and figures: dvc repro would run nothing")


if __name__ == "__main__":
    main()
