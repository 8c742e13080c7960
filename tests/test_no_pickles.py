"""Nothing that we read can run code: no pickles, no YAML that builds objects, no shell, no eval."""

import ast
from pathlib import Path

import pytest
from samples import ROOT

SOURCES = sorted(
    path for folder in ("semdefect", "stages", "pretrain", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal", "joblib.numpy_pickle"}
#: Calls that load or run something, and the keyword and value without which they are refused.
CALLS = {
    "torch.load": ("weights_only", True),
    "torch.save": None,
    "torch.jit.load": None,
    "torch.hub.load": None,
    "np.load": ("allow_pickle", False),
    "numpy.load": ("allow_pickle", False),
    "joblib.load": None,
    "joblib.dump": None,
    "yaml.load": None,
    "yaml.unsafe_load": None,
    "yaml.full_load": None,
    "pd.read_pickle": None,
    "os.system": None,
    "eval": None,
    "exec": None,
}


def faults(source: str) -> list[str]:
    """What a module should not do, as ``line: what``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [f"{node.lineno}: {name.name}" for name in node.names if name.name in MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "") in MODULES:
            found.append(f"{node.lineno}: {node.module}")
        elif isinstance(node, ast.Call):
            name, keywords = ast.unparse(node.func), {word.arg: word.value for word in node.keywords}
            shell = keywords.get("shell")
            if shell is not None and not (isinstance(shell, ast.Constant) and shell.value is False):
                found.append(f"{node.lineno}: shell")
            if name in CALLS:
                needed = CALLS[name]
                given = keywords.get(needed[0]) if needed else None
                if not (needed and isinstance(given, ast.Constant) and given.value is needed[1]):
                    found.append(f"{node.lineno}: {name}")
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_reads_what_can_run_code(path: Path) -> None:
    assert faults(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        *(f"torch.{call}" for call in ("load(path)", f"load(path, weights_only={False})")),
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "joblib.load(path)",
        "yaml.load(text, yaml.Loader)",
        "subprocess.run(line, shell=True)",
        "eval(text)",
    ],
)
def test_the_search_finds_what_it_should(source: str) -> None:
    assert len(faults(source)) == 1


def test_the_search_lets_the_safe_ways_pass() -> None:
    assert (
        faults("torch.load(p, weights_only=True); np.load(p, allow_pickle=False); yaml.safe_load(t); model.eval()")
        == []
    )
