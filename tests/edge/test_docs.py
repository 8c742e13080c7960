"""The Python examples of the documents run as they stand there."""

import re
import shutil

import pytest
from conftest import LEVELS, ROOT, write_image

from semdefect import CLASSES


@pytest.mark.parametrize("document", ["README.md", "docs/edge.md"])
def test_examples_run(model, tmp_path, monkeypatch, capsys, document):
    shutil.copy(model, tmp_path / "student_int8.onnx")
    write_image(tmp_path / "wafer.png", LEVELS[0])
    write_image(tmp_path / "images" / "via.png", LEVELS[7])
    (tmp_path / "images" / "bad.png").touch()
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    exec(example, {})
    first, *more = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{CLASSES[0]} 0.9") and "accept" in first
    assert bool(more) == (document == "docs/edge.md")
    if more:
        assert "is empty" in more[0] and more[1].endswith("via.png via")
