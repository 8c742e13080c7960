"""dvc.yaml against the code: DVC does not follow imports, so a module that a stage forgets would change unseen."""

from pathlib import Path

import pytest
import yaml
from dag import INFRASTRUCTURE, covers, reached
from samples import ROOT, params_content

#: Of the report; no module either.
TEMPLATE = "semdefect/report.html.j2"
DAG = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]


def test_the_walk_finds_direct_indirect_and_relative_imports():
    found = reached(Path("stages/train_teacher.py"))
    assert {"stages/train_teacher.py", "semdefect/training.py", "semdefect/checkpoint.py"} <= found
    assert "semdefect/synthesis/render.py" in found
    assert "semdefect/quantization.py" not in found


@pytest.mark.parametrize("stage", DAG)
def test_every_module_that_a_stage_uses_is_a_dependency(stage):
    forgotten = {
        file
        for file in reached(Path(f"stages/{stage}.py")) - INFRASTRUCTURE
        if not any(covers(dependency, file) for dependency in DAG[stage]["deps"])
    }
    assert not forgotten, f"add to the deps of {stage} in dvc.yaml: {', '.join(sorted(forgotten))}"


@pytest.mark.parametrize("stage", DAG)
def test_every_module_that_is_a_dependency_is_used_and_there(stage):
    """One too many reruns a training for nothing."""
    files = reached(Path(f"stages/{stage}.py"))
    sources = [name for name in DAG[stage]["deps"] if name.startswith(("semdefect", "stages"))]
    weights = "semdefect/weights"  # no module, but what both trainings may start from, and the model card names
    assert (weights in sources) == (stage in ("train_teacher", "distill", "evaluate"))
    sources = [name for name in sources if name not in (weights, TEMPLATE)]
    assert all((ROOT / name).exists() for name in sources)
    idle = {name for name in sources if not any(covers(name, file) for file in files)}
    assert not idle, f"remove from the deps of {stage} in dvc.yaml: {', '.join(sorted(idle))}"


@pytest.mark.parametrize("stage", DAG)
def test_the_device_code_is_listed_by_module(stage):
    """The help of a command that runs on the device must not retrain anything."""
    assert "semdefect/edge" not in DAG[stage]["deps"]


@pytest.mark.parametrize("stage", DAG)
def test_a_stage_is_run_by_the_script_of_its_name(stage):
    assert DAG[stage]["cmd"] == f"python -m stages.{stage}"
    assert f"stages/{stage}.py" in DAG[stage]["deps"]


def test_stages_scripts_and_blocks_of_parameters_bear_the_same_names():
    assert set(DAG) == set(params_content()) - {"base"}
    assert set(DAG) == {path.stem for path in (ROOT / "stages").glob("*.py")} - {"__init__"}


def flat(content, prefix=""):
    for key, value in content.items():
        yield from flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [f"{prefix}{key}"]


def test_every_parameter_reruns_a_stage_except_who_draws():
    used = {key for stage in DAG.values() for key in stage["params"]}
    idle = {
        name for name in flat(params_content()) if not any(name == key or name.startswith(f"{key}.") for key in used)
    }
    assert idle == {"synthesize.workers", "synthesize.dask_scheduler"}  # they never change the result


def test_stages_list_parameters_that_exist():
    names = set(flat(params_content()))
    for stage in DAG.values():
        for key in stage["params"]:
            assert any(name == key or name.startswith(f"{key}.") for name in names), key


def test_a_stage_reruns_for_no_other_stages_parameters_but_distill_for_its_bar():
    for name, stage in DAG.items():
        if name != "evaluate":  # its report and model card print them all
            others = {key for key in stage["params"] if key.split(".")[0] not in ("base", name)}
            assert others == ({"export_onnx.int8_agreement"} if name == "distill" else set())  # trains until it holds


def outputs(stage: dict, kind: str) -> dict[str, dict]:
    entries = [entry if isinstance(entry, dict) else {entry: {}} for entry in stage.get(kind, [])]
    return {path: options or {} for entry in entries for path, options in entry.items()}


def test_outputs_are_cached_and_figures_are_tracked_by_git():
    """One uncached plain output switches off the run-cache of its stage: evaluate runs anew, and nothing else."""
    texts = {"metrics/MODEL_CARD.md", "metrics/evaluate/answers.csv"}  # for git, and neither figures nor plots
    for name, stage in DAG.items():
        for path, options in outputs(stage, "outs").items():
            assert options.get("cache", True) != (path in texts), f"{name}: {path}"
        for kind in ("metrics", "plots"):
            assert all(options.get("cache") is False for options in outputs(stage, kind).values()), name


def test_every_stage_feeds_a_later_one_or_the_reader():
    written = {p: name for name, stage in DAG.items() for kind in ("outs", "metrics") for p in outputs(stage, kind)}
    read = {dependency for stage in DAG.values() for dependency in stage["deps"]}
    for path, name in written.items():
        assert path.startswith("metrics/") or any(covers(path, dep) or covers(dep, path) for dep in read), name
