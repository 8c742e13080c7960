"""The workflow for GitHub and the snippet for GitLab: of the right shape, safe, and true to what they run."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dag import module_file
from samples import ROOT

from semdefect.pr_report import MARKER

WORKFLOW = ROOT / ".github/workflows/ci.yml"
JOBS = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]
SNIPPET = re.search(r"```yaml\n(.*?)```", (ROOT / "docs/review.md").read_text(encoding="utf-8"), re.DOTALL).group(1)
#: What a module is installed as, where the names differ.
PACKAGES = {"yaml": "PyYAML", "PIL": "pillow"}


def call(*command, **more):
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **more)


def commands(job):
    return "\n".join(step["run"] for step in JOBS[job]["steps"] if "run" in step)


def needed(script):
    """The packages that importing a module of ours needs: those that it and what it imports name at their top level."""
    waiting, seen, packages = [script], set(), set()
    while waiting:
        file = waiting.pop()
        if file in seen:
            continue
        seen.add(file)
        for node in ast.parse((ROOT / file).read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                parts = name.split(".")  # importing a module runs the packages around it first
                ours = [module_file(".".join(parts[:length])) for length in range(1, len(parts) + 1)]
                waiting += [found for found in ours if found]
                packages |= set() if any(ours) else {parts[0]}
    return packages - set(sys.stdlib_module_names)


def test_github_and_gitlab_can_read_the_files(tmp_path):
    snippet = tmp_path / ".gitlab-ci.yml"
    snippet.write_text(SNIPPET)
    for schema, file in (("github-workflows", WORKFLOW), ("gitlab-ci", snippet)):
        done = call("check-jsonschema", "--builtin-schema", f"vendor.{schema}", str(file))
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_is_safe():
    done = call("zizmor", "--offline", "--no-progress", "--persona", "pedantic", str(WORKFLOW))
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_may_write_runs_no_code_of_the_pull_request():
    for name, job in JOBS.items():
        writes = "write" in job["permissions"].values()
        code = any("checkout" in step.get("uses", "") for step in job["steps"])
        assert (writes, code) == ((True, False) if name == "comment" else (False, True)), name
    assert yaml.safe_load(WORKFLOW.read_text())["permissions"] == {}


def test_lint_and_tests_run_as_at_home():
    assert commands("test").splitlines() == ["make lint", "make test"]
    versions = [
        step["with"]["python-version"] for job in JOBS.values() for step in job["steps"] if "setup-python" in str(step)
    ]
    assert set(versions) == {"3.11"}


def test_holes_are_asked_for_as_at_home():
    recipe = (ROOT / "Makefile").read_text(encoding="utf-8").split("\naudit: ")[1].split("\n\n")[0]
    asked = " ".join(recipe.partition("@")[2].replace("\\\n", " ").split())
    assert commands("audit").splitlines()[-1] == asked.replace("$(AUDIT)", "pypi")


@pytest.mark.parametrize("name", ["lock_check", "pr_report"])
def test_the_packages_that_a_job_installs_are_those_that_its_module_imports(name):
    job = {"lock_check": "lock", "pr_report": "report"}[name]
    pattern = re.search(r"grep -E '([^']+)' requirements\.txt", commands(job)).group(1)
    pins = [
        line.split("==")[0] for line in (ROOT / "requirements.txt").read_text().splitlines() if re.search(pattern, line)
    ]
    assert f"grep -E '{pattern}' requirements.txt" in SNIPPET
    assert {PACKAGES.get(name, name) for name in needed(Path(f"semdefect/{name}.py"))} | {"dvc"} == set(pins)


@pytest.mark.parametrize(
    ("known", "method", "path"), [("", "POST", "/7/comments"), ("3\n41\n", "PATCH", "/comments/41")]
)
def test_there_is_one_comment(tmp_path, known, method, path):
    """The step is run with a stand-in for GitHub's command that lists the comments ``known``."""
    stand_in = tmp_path / "gh"
    stand_in.write_text(f'#!/bin/sh\necho "$@" >> calls\ncase "$*" in *--paginate*) printf \'{known}\';; esac\n')
    stand_in.chmod(0o755)
    (tmp_path / "report.md").write_text(MARKER)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "REPOSITORY": "us/semdefect", "NUMBER": "7"}
    done = subprocess.run(["bash", "-e", "-c", commands("comment")], cwd=tmp_path, env=environment, check=False)
    assert done.returncode == 0
    listed, posted = (tmp_path / "calls").read_text().splitlines()
    assert MARKER in listed and "repos/us/semdefect/issues/7/comments" in listed
    assert f"--method {method} repos/us/semdefect/issues" in posted and f"{path} --field body=@report.md" in posted


def test_gitlab_finds_the_comment_by_the_same_line():
    assert MARKER in SNIPPET
    assert "python -m semdefect.pr_report --base" in SNIPPET and "python -m semdefect.lock_check" in SNIPPET


@pytest.mark.parametrize("apt", [0, 100])
def test_the_gate_fetches_a_server_and_a_browser_before_the_tests_and_goes_on_without(tmp_path, apt):
    """`.ci/run` with stand-ins for what it calls; ``apt`` is how apt-get ends."""
    (tmp_path / "bin").mkdir()
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    for name, body in {"make": "", "dpkg": "exit 1", "apt-get": f"sleep 0.2; exit {apt}"}.items():
        stand_in = tmp_path / "bin" / name
        stand_in.write_text(f'#!/bin/sh\n[ {name} = dpkg ] || echo {name} "$@" >> calls\n{body}\n')
        stand_in.chmod(0o755)
    done = call("env", f"PATH={tmp_path}/bin:/usr/bin:/bin", str(tmp_path / ".ci/run"))
    calls = (tmp_path / "calls").read_text().splitlines()
    assert done.returncode == 0 and calls.pop() == "make test"
    calls.remove("make lint")
    assert [line.split()[-1] for line in calls] == ["-qq", "openssh-server", "chromium"]
