"""Files appear whole or not at all: write beside the target, then rename."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path next to ``path``; rename it to ``path`` when the block succeeds.

    Creates missing parent folders. The temporary file keeps the suffix of ``path``, since writers choose the
    format by it. When the block raises, the temporary file goes and ``path`` is left as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        if error.filename == str(temporary):  # a name the user has never heard of
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def rounded(value: Any, digits: int) -> Any:
    """``value`` with every float in it, however deep in dicts and lists, rounded to ``digits`` decimals."""
    if isinstance(value, dict):
        return {key: rounded(item, digits) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(item, digits) for item in value]
    if isinstance(value, float):
        return round(value, digits)
    return value


def write_json(path: str | Path, content: Any, digits: int = 4) -> None:
    """Write ``content`` as JSON that does not change between equal runs: sorted keys, rounded floats."""
    with replacing(path) as temporary:
        text = json.dumps(rounded(content, digits), indent=2, sort_keys=True, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")
