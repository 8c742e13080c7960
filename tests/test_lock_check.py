"""dvc.lock against the code, in clones that have no data: what fits, what does not, and what cannot be told."""

import shutil
import sys
from pathlib import Path

import pytest
import yaml
from project import ENVIRONMENT, Project

from semdefect.errors import UserError
from semdefect.lock_check import main, sentence, stale_stages

STAGES = {
    "synthesize": {
        "cmd": "mkdir -p data/synthetic metrics && cp code.py data/synthetic/a.csv && echo '{}' > metrics/s.json",
        "deps": ["code.py", "data/real"],
        "params": ["image"],
        "outs": ["data/synthetic"],
        "metrics": [{"metrics/s.json": {"cache": False}}],
    },
    "train": {
        "cmd": "mkdir -p models && cp data/synthetic/a.csv models/m",
        "deps": ["data/synthetic", "late.py"],
        "outs": ["models/m"],
    },
}


@pytest.fixture(scope="module")
def origin(tmp_path_factory) -> Project:
    """A project of two stages after `dvc repro`."""
    project = Project(tmp_path_factory.mktemp("origin"))
    folder = project.folder
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": STAGES}))
    (folder / "params.yaml").write_text("image: {size: 1, depth: 8}\n")
    (folder / ".gitignore").write_text("/data/*\n!/data/real/\n/data/real/*\n!/data/real/*.dvc\n/models/\n")
    for name in ("code.py", "late.py"):
        (folder / name).write_text(f"# {name}\n")
    (folder / "data/real/via").mkdir(parents=True)
    (folder / ".dvc").mkdir()
    (folder / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (folder / ".dvc/.gitignore").write_text("/tmp\n/cache\n")
    project.run("git", "init", "-q", "-b", "main")
    (folder / "data/real/README.md").write_text("notes")
    (folder / ".dvcignore").write_text("/data/real/README.md\n/data/real/.gitignore\n")
    project.run("git", "add", "-Af", "data/real/README.md")
    project.run("dvc", "repro", "-q")
    project.commit("run")
    return project


@pytest.fixture
def clone(origin, tmp_path, monkeypatch) -> Path:
    """A clone without data and cache; the working directory."""
    folder = tmp_path / "clone"
    origin.run("git", "clone", "-q", str(origin.folder), str(folder))
    monkeypatch.chdir(folder)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["lock_check"])
    return folder


def test_a_clone_of_a_whole_run_fits(clone, capsys):
    assert not (clone / "data/synthetic").exists() and not (clone / "models").exists()
    main()
    assert capsys.readouterr().out == "dvc.lock fits code, parameters and figures: dvc repro would run nothing\n"


def test_changed_code_parameters_commands_and_figures_are_named_by_stage(clone):
    Path("late.py").write_text("# changed\n")  # of a stage with missing inputs: `dvc repro --dry` would trip over these
    Path("params.yaml").write_text("image: {size: 2, depth: 8}\n")
    content = yaml.safe_load(Path("dvc.yaml").read_text())
    content["stages"]["train"]["cmd"] += " && true"
    Path("dvc.yaml").write_text(yaml.safe_dump(content))
    Path("metrics/s.json").unlink()
    with pytest.raises(SystemExit) as refused:
        main()
    assert str(refused.value) == (
        "error: dvc.lock does not fit: synthesize (image.size, metrics/s.json); train (late.py, command); "
        "run `dvc repro` and commit dvc.lock and metrics/"
    )


def test_a_stage_that_read_another_run_than_the_one_before_wrote(clone):
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    for out in lock["stages"]["synthesize"]["outs"]:
        out["md5"] = "ab" * 16 + ".dir" if out["path"] == "data/synthetic" else out["md5"]
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    assert stale_stages() == {"train": ["an input that is not what the stage before wrote"]}


def test_real_images_that_are_not_here_are_not_held_against_it(clone, capsys):
    Path("data/real/via.dvc").write_text("outs:\n- md5: " + "ab" * 16 + ".dir\n  size: 1\n  nfiles: 1\n  path: via\n")
    shutil.rmtree("data/real/via", ignore_errors=True)
    Path("data/real/other.png").write_text("stands for what differs")
    main()
    note, verdict = capsys.readouterr().out.splitlines()
    assert note.endswith("was not checked, since its images are not here: dvc pull data/real/via.dvc")
    assert verdict.startswith("dvc.lock fits")


def test_what_cannot_be_checked_is_one_sentence(clone, monkeypatch):
    Path("dvc.yaml").write_text("stages: [")
    with pytest.raises(SystemExit, match=r"^error: DVC cannot read the project: .*dvc\.yaml"):
        main()
    monkeypatch.setattr("semdefect.lock_check.find_spec", lambda name: None)
    with pytest.raises(UserError, match="DVC is not installed"):
        stale_stages()
    monkeypatch.chdir(clone.parent)
    with pytest.raises(
        SystemExit, match=r"^error: dvc\.yaml or \.dvc is not in .*: run this from the repository's root"
    ):
        main()


def test_of_many_reasons_a_few_are_told():
    assert "train (a, b, c, d and 2 more)" in sentence({"train": list("abcdef")})
