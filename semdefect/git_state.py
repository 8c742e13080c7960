"""Files as git knows them: at a commit, and in the working tree."""

import shutil
import subprocess
from pathlib import Path

from semdefect.errors import UserError


def _git(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    if not shutil.which("git"):
        raise UserError("git is not installed: the report compares two states that git keeps")
    return subprocess.run(["git", *arguments], capture_output=True, check=False)


def _names(listing: bytes, suffix: str) -> list[str]:
    return sorted(name for name in listing.decode(errors="surrogateescape").split("\0") if name.endswith(suffix))


def _text(content: bytes, source: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise UserError(f"{source} is no text: restore it with git checkout, or by `dvc repro`") from None


class Commit:
    """The files of a commit, by their paths from the working directory.

    Attributes:
        name: as the user gave it.
        digits: the beginning of its hash.
    """

    def __init__(self, name: str) -> None:
        """Find what git calls ``name``.

        Raises:
            UserError: git is not installed, knows no such commit, or this is no repository.
        """
        if _git("rev-parse", "--git-dir").returncode:
            raise UserError(f"{Path.cwd()} is in no git repository: run this in a clone of the project")
        found = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        if found.returncode:
            raise UserError(f"git knows no commit {name!r}: fetch it, or name another by --base (make: BASE=…)")
        self.name, self._hash = name, found.stdout.decode().strip()
        self.digits = self._hash[:7]

    def __str__(self) -> str:
        """The name and, where it tells more, the hash."""
        return self.name if self._hash.startswith(self.name) else f"{self.name} ({self.digits})"

    def read(self, path: str) -> str | None:
        """The text of a file; None where the commit has none."""
        shown = _git("show", f"{self._hash}:./{path}")
        return None if shown.returncode else _text(shown.stdout, f"{path} of {self.name}")

    def files(self, folder: str, suffix: str) -> list[str]:
        """Paths below ``folder`` that end in ``suffix``, sorted."""
        return _names(_git("ls-tree", "-r", "-z", "--name-only", self._hash, "--", f"{folder}/").stdout, suffix)

    def ahead(self) -> int:
        """How many commits this one has that HEAD lacks."""
        return int(_git("rev-list", "--count", f"HEAD..{self._hash}").stdout or 0)


class WorkingTree:
    """The files that lie here, without those that git ignores."""

    def __str__(self) -> str:
        """HEAD's hash, and whether files differ from it."""
        head = _git("rev-parse", "--short=7", "HEAD").stdout.decode().strip()
        changed = _git("status", "--porcelain", "--", ".").stdout
        return f"{head} with uncommitted changes" if changed else head

    def read(self, path: str) -> str | None:
        """The text of a file; None where there is none."""
        file = Path(path)
        return _text(file.read_bytes(), path) if file.is_file() else None

    def files(self, folder: str, suffix: str) -> list[str]:
        """Paths below ``folder`` that end in ``suffix`` and are there, sorted."""
        listed = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", f"{folder}/").stdout
        return [name for name in _names(listed, suffix) if Path(name).is_file()]
