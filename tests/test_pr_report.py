"""The report on a pull request, in small git repositories: what changed, what is noise, and what cannot be told."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from project import ENVIRONMENT
from samples import params_content

from semdefect import CLASSES
from semdefect.atomic import write_json
from semdefect.errors import UserError
from semdefect.pr_report import MARKER, MOST_CHARACTERS, main, pr_report

ANSWERS, SUMMARY = Path("metrics/evaluate/answers.csv"), Path("metrics/evaluate/summary.json")
MODELS = ("teacher", "student_fp32", "student_int8")


def git(*arguments):
    subprocess.run(["git", *arguments], env=ENVIRONMENT, check=True, capture_output=True)


def commit(message="change"):
    git("add", "-A")
    git("commit", "-qm", message)


def write_state(wrong=(), rejected=(), images=400, pixels="", sets=("clean", "fresh")):
    """Answers in which the student calls the images ``wrong`` of each set the next class, and the figures of that."""
    lines = [",".join(["set", "image", "pixels", "truth", *MODELS, "student_int8_guard"])]
    for name in sets:
        for number in range(images):
            truth = CLASSES[number % 8]
            called = CLASSES[(number + 1) % 8] if number in wrong else "="
            guard = "ambiguous" if number in rejected else ""
            lines.append(f"{name},{truth}/{number}.png,{pixels}{number:x},{truth},=,=,{called},{guard}")
    ANSWERS.parent.mkdir(parents=True, exist_ok=True)
    ANSWERS.write_text("\n".join(lines) + "\n")
    accuracy = dict.fromkeys(MODELS, 1.0) | {"student_int8": 1 - len(wrong) / images}
    write_json(SUMMARY, {"accuracy": dict.fromkeys(sets, accuracy), "escape_rate": 0.06 + 0.01 * len(wrong)})
    write_json("metrics/split/split.json", {"test": {"images": images, "real_images": 0}})


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository whose first commit, ``main``, has a run without errors; the working directory."""
    monkeypatch.chdir(tmp_path)
    git("init", "-q", "-b", "main")
    Path("params.yaml").write_text(yaml.safe_dump(params_content()))
    write_state()
    commit("start")
    git("checkout", "-qb", "change")
    return tmp_path


def rows(report, first):
    """The cells of the table rows that begin with ``first``."""
    lines = [line for line in report.splitlines() if line.startswith(f"| {first} |")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_equal_states_say_so_in_a_few_lines(repository):
    report = pr_report("main")
    assert report.startswith(f"{MARKER}\n## ")
    assert "**0 of 16 figures changed by more than chance**" in report
    assert "No image is newly wrong." in report and "No parameter differs." in report
    assert "No other figure differs." in report and "No class is confused" in report
    assert len(report.splitlines()) < 30
    assert report == pr_report("main") and report.endswith("\n")


def test_many_new_errors_are_more_than_chance_and_few_are_noise(repository):
    write_state(wrong=range(40))
    report = pr_report("main")
    worse = {tuple(row[1:3]) for row in rows(report, "worse")}
    assert {("accuracy, student_int8", "clean"), ("accuracy, student_int8", "fresh")} <= worse
    assert not rows(report, "better")
    (accuracy,) = [row for row in rows(report, "worse") if row[1:3] == ["accuracy, student_int8", "clean"]]
    assert accuracy[3:6] == ["100.0%", "90.0%", "−10.0"]
    assert accuracy[7:] == ["+0 −40 of 400", "&lt;0.001"]
    write_state(wrong=range(3))
    report = pr_report("main")
    assert not rows(report, "worse")
    (noise,) = [row for row in rows(report, "noise") if row[1:3] == ["accuracy, student_int8", "clean"]]
    assert noise[7:] == ["+0 −3 of 400", "0.250"]


def test_less_of_a_rate_is_better(repository):
    write_state(rejected=range(100))
    commit()
    git("tag", "cautious")
    write_state(rejected=range(20))
    found = {tuple(row[1:3]) for row in rows(pr_report("cautious"), "better")}
    assert found == {("rejection rate", "clean"), ("rejection rate", "fresh")}


def test_images_and_confusions_are_named(repository):
    write_state(wrong=[3, 10, 18], rejected=[3])
    commit()
    git("tag", "base")
    write_state(wrong=[3, 9, 26], rejected=[9])
    report = pr_report("base")
    confusion, newly_wrong, newly_right = (report.split("### ")[2], *report.split("<details>")[-2:])
    assert rows(confusion, "clean") == [["clean", "cmp", "0 → 1", "0 → 1"]]
    assert rows(confusion, "cmp") == [["cmp", "crack", "2 → 1", "2 → 1"]]
    assert "4 images are newly wrong, 2 of them accepted by the guard" in newly_wrong
    assert rows(newly_wrong, "clean") == [
        ["clean", "cmp/26.png", "cmp", "cmp", "crack", "accepted"],  # nobody would look at it: first
        ["clean", "clean/9.png", "clean", "clean", "cmp", "ambiguous"],
    ]
    assert [row[1:] for row in rows(newly_right, "fresh")] == [
        ["cmp/10.png", "cmp", "crack", "cmp", "accepted"],
        ["cmp/18.png", "cmp", "crack", "cmp", "accepted"],
    ]


def test_parameters_and_other_figures_that_differ(repository):
    content = params_content()
    content["distill"]["temperature"] = 4.0
    del content["evaluate"]["noisy"]["blur"]
    Path("params.yaml").write_text(yaml.safe_dump(content))
    write_state(wrong=[1])
    write_json("metrics/new.json", {"a": 1, "b": {"c": 2}})
    report = pr_report("main")
    assert rows(report, "`distill.temperature`") == [["`distill.temperature`", "2.0", "4.0"]]
    assert rows(report, "`evaluate.noisy.blur`") == [["`evaluate.noisy.blur`", "0.8", "–"]]
    assert rows(report, "`escape_rate`") == [["`escape_rate`", "0.06", "0.07", "+0.01"]]
    assert "`metrics/new.json` is new: 2 figures." in report
    assert "accuracy.clean" not in report  # told above, with its interval
    Path(".gitignore").write_text("metrics/new.json\n")
    assert "new.json" not in pr_report("main")


def test_only_images_that_both_have_are_compared(repository):
    write_state(wrong=[0], images=401)  # 400 is new, and so is another image by an old name
    text = ANSWERS.read_text().replace("clean,bridge/0.png,0,", "clean,bridge/0.png,f00,")
    ANSWERS.write_text(text)
    report = pr_report("main")
    assert "*clean*: 399 images are the same in both (400 in the base, 401 here)" in report
    noise = {row[2]: row[7] for row in rows(report, "noise") if row[1] == "accuracy, student_int8"}
    assert noise == {"fresh": "+0 −1 of 400"}


def test_other_images_are_compared_as_such(repository):
    write_state(wrong=range(40), pixels="e")
    report = pr_report("main")
    assert "*clean* has other test images than the base" in report
    (row,) = [row for row in rows(report, "worse") if row[1:3] == ["accuracy, student_int8", "clean"]]
    assert row[7] == "400 and 400"
    assert "No image is newly wrong." in report
    write_state(sets=("clean", "real"))
    assert "Only in the base, test sets: fresh." in pr_report("main")
    assert "Only in this state, test sets: real." in pr_report("main")


def test_a_base_without_answers_is_compared_by_its_summary(repository):
    git("rm", "-q", "--cached", str(ANSWERS))
    git("commit", "-qm", "without")
    git("tag", "before")
    write_state(wrong=range(40))
    report = pr_report("before")
    assert "The base has no `metrics/evaluate/answers.csv`" in report
    (row,) = rows(report, "worse")[:1]
    assert row[1:6] == ["accuracy, student_int8", "clean", "100.0%", "90.0%", "−10.0"]
    assert "### Images" not in report
    ANSWERS.unlink()
    assert "There is no `metrics/evaluate/answers.csv` here" in pr_report("before")


def test_an_accuracy_that_only_one_side_can_compare_is_told_all_the_same(repository):
    git("checkout", "-q", "main")
    write_state(sets=("clean",))
    write_json(SUMMARY, {"accuracy": {"clean": dict.fromkeys(MODELS, 1.0), "fresh": dict.fromkeys(MODELS, 0.5)}})
    commit()
    git("checkout", "-qb", "more")
    write_state()
    report = pr_report("main")
    assert "Only in this state, test sets: fresh." in report
    assert "by more than chance is not tested" in report
    assert rows(report, "`accuracy.fresh.teacher`") == [["`accuracy.fresh.teacher`", "0.5", "1.0", "+0.5"]]
    assert "accuracy.clean" not in report  # compared image by image above


def test_what_the_base_has_more_and_what_is_stale_comes_first(repository):
    git("checkout", "-q", "main")
    Path("a").touch()
    commit()
    git("checkout", "-q", "change")
    head = pr_report("main", {"distill": ["semdefect/losses.py"]}).splitlines()[3:5]
    assert head[0].startswith("- **dvc.lock does not fit: distill (semdefect/losses.py)")
    assert head[1].startswith("- Commits of the base that this state lacks: 1.")


def test_the_worst_report_fits_a_comment(repository):
    rng = np.random.default_rng(0)
    for number in range(60):
        write_json(f"metrics/{number}.json", {f"a_rather_long_figure_name_{i}": rng.random() for i in range(200)})
    write_state(images=2000)
    commit()
    git("tag", "base")
    for number in range(60):
        write_json(f"metrics/{number}.json", {f"a_rather_long_figure_name_{i}": rng.random() for i in range(200)})
    write_state(wrong=range(2000), images=2000)
    report = pr_report("base")
    assert len(report) <= MOST_CHARACTERS + 200
    assert "and 3960 more" in report
    assert report.endswith("Left out for length: Other figures. `dvc metrics diff base` shows all figures.\n")
    assert report.count("<details>") == report.count("</details>")


@pytest.mark.parametrize(
    ("prepare", "base", "words"),
    [
        (lambda: None, "nowhere", "git knows no commit 'nowhere'"),
        (lambda: None, "--help", "git knows no commit '--help'"),
        (lambda: Path("params.yaml").unlink(), "main", "params.yaml is not in"),
        (lambda: Path("params.yaml").write_text("a: ["), "main", "params.yaml cannot be read"),
        (lambda: Path("params.yaml").write_bytes(b"\xff"), "main", "params.yaml is no text"),
        (lambda: SUMMARY.write_text("{"), "main", "metrics/evaluate/summary.json cannot be read"),
        (lambda: SUMMARY.write_text("[]"), "main", "metrics/evaluate/summary.json holds no values by keys"),
        (lambda: ANSWERS.write_text("a\n"), "main", "metrics/evaluate/answers.csv is not a table of answers"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(repository, prepare, base, words):
    prepare()
    with pytest.raises(UserError) as refused:
        pr_report(base)
    assert words in str(refused.value) and "\n" not in str(refused.value)


def test_the_command_writes_a_file_or_one_line_on_what_is_wrong(repository, monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["pr_report", *arguments])
        main()
        return capsys.readouterr().out

    assert call("--base", "main", "--output", "out/report.md") == ""
    assert call("--base", "main").splitlines()[0] == MARKER
    assert (repository / "out/report.md").read_text().startswith(MARKER)
    (repository / "out/no").touch()
    with pytest.raises(SystemExit, match=r"^error: out/no"):
        call("--base", "main", "--output", "out/no/report.md")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(repository.parent))
    shutil.rmtree(".git")
    with pytest.raises(SystemExit, match=r"^error: .* is in no git repository: run this in a clone"):
        call("--base", "main")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match=r"^error: git is not installed"):
        call("--base", "main")


def test_files_of_a_project_in_a_subfolder_are_found(repository, monkeypatch):
    Path("inner").mkdir()
    for name in ("params.yaml", "metrics"):
        git("mv", name, f"inner/{name}")
    commit()
    monkeypatch.chdir("inner")
    git("tag", "base")
    figures = json.loads(SUMMARY.read_text())
    write_json(SUMMARY, figures | {"escape_rate": 0.5})
    assert rows(pr_report("base"), "`escape_rate`") == [["`escape_rate`", "0.06", "0.5", "+0.44"]]
