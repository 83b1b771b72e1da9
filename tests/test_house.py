"""Contracts of the whole package: layers, light imports, names, no paths of any one machine."""

import ast
import pkgutil
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

import onebranch
from onebranch.cli import COMMANDS

ROOT = Path(__file__).resolve().parent.parent

HEAVY = ("torch", "onnx", "onnxruntime", "pyvips", "matplotlib")
"""Packages that answering `--help` must not wait for."""

TORCH = re.compile(r"onebranch\.(nn|training)(\.|$)|torch")
"""The only modules that may import PyTorch when they are imported themselves."""

BLOCKED = "import sys; sys.modules['torch'] = None; "
"""Code after which `import torch` fails, as it does if only the base package is installed."""


def python(code: str, *arguments: str) -> str:
    """The output of a new interpreter; if it fails, so does the test."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT / "src")},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def modules() -> list[str]:
    """The names of all modules of the package, found without importing any of them."""
    files = sorted((ROOT / "src" / "onebranch").rglob("*.py"))
    parts = [file.relative_to(ROOT / "src").with_suffix("").parts for file in files]
    names = [".".join(p[:-1] if p[-1] == "__init__" else p) for p in parts if p[-1] != "__main__"]
    assert "onebranch.algebra.conv" in names
    return names


@pytest.mark.fast
def test_imports_point_down_only():
    python("import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())")


@pytest.mark.fast
@pytest.mark.parametrize(
    "act",
    [
        "import onebranch",
        "import onebranch.cli",
        "from onebranch.cli import onebranch; onebranch(['--help'], standalone_mode=False)",
    ],
)
def test_start_is_light(act):
    code = f"import sys; {act}; print('loaded:', [name for name in {HEAVY} if name in sys.modules])"
    assert python(code).splitlines()[-1] == "loaded: []"


@pytest.mark.fast
def test_help_lists_every_command():
    text = python("from onebranch.cli import onebranch; onebranch(['--help'], standalone_mode=False)")
    assert set(COMMANDS) <= set(text.split())


@pytest.mark.fast
def test_only_the_torch_side_needs_torch_to_import():
    light = [name for name in modules() if not TORCH.search(name)]
    python(BLOCKED + "import importlib; [importlib.import_module(name) for name in sys.argv[1:]]", *light)


@pytest.mark.fast
def test_base_functions_load_without_torch():
    base = {"enhance", "merge", "verify", "evaluate", "info"} & set(getattr(onebranch, "__all__", ()))
    python(BLOCKED + "import onebranch; [getattr(onebranch, name) for name in sys.argv[1:]]", *sorted(base))


@pytest.mark.fast
def test_base_layers_never_mention_torch():
    """Not even inside a function: these modules work on arrays of either library."""
    base = (
        *("errors", "atomic_files", "images", "metrics", "spec", "algebra", "proof", "blocks"),
        *("lowering", "model"),
    )
    imports = re.compile(r"^\s*(import|from) torch\b", re.MULTILINE)
    folder = ROOT / "src" / "onebranch"
    files = [f for name in base for f in (*folder.glob(f"{name}.py"), *(folder / name).rglob("*.py"))]
    assert len(files) > 5
    assert [str(f) for f in files if imports.search(f.read_text(encoding="utf-8"))] == []


@pytest.mark.fast
def test_json_is_written_by_the_module_that_refuses_nan():
    """Training refuses NaN itself; the header of a model file holds integers and text only."""
    folder = ROOT / "src" / "onebranch"
    allowed = {folder / "strict_json.py", folder / "model" / "file.py", *(folder / "training").rglob("*.py")}
    writes = re.compile(r"(?<!strict_)json\.dumps?\(")
    files = set(folder.rglob("*.py")) - allowed
    assert [str(f) for f in files if writes.search(f.read_text(encoding="utf-8"))] == []


@pytest.mark.fast
def test_no_submodule_has_the_name_of_a_public_name():
    """Otherwise lazy loading would return one or the other, depending on the order of access."""
    submodules = {module.name for module in pkgutil.iter_modules(onebranch.__path__)}
    assert "algebra" in submodules
    assert submodules & set(getattr(onebranch, "__all__", ())) == set()


@pytest.mark.fast
def test_nothing_committed_names_a_machine_path():
    path = re.compile(rb"(?<![\w./~}])/(work|root|tmp|home/\w+)/")
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: what is committed is not known here")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    files = [ROOT / name.decode() for name in listed.split(b"\0") if name]
    assert Path(__file__) in files
    texts = [f for f in files if f.is_file() and f.suffix != ".png"]
    assert [str(f) for f in texts if path.search(f.read_bytes())] == []


CONFIG_MODULES = (
    "spec/network.py",
    "spec/shorthand.py",
    "training/config.py",
    "training/degradation.py",
)
"""Modules whose classes a training config or a model file is read into."""


@pytest.mark.fast
@pytest.mark.parametrize("module", CONFIG_MODULES)
def test_every_field_of_a_config_has_a_docstring(module):
    tree = ast.parse((ROOT / "src" / "onebranch" / module).read_text(encoding="utf-8"))
    bodies = {node.name: node.body for node in tree.body if isinstance(node, ast.ClassDef)}
    fields = [
        (f"{name}.{statement.target.id}", following)
        for name, body in bodies.items()
        for statement, following in pairwise([*body, ast.Pass()])
        if isinstance(statement, ast.AnnAssign)
    ]
    assert fields
    assert [name for name, following in fields if not _is_docstring(following)] == []


def _is_docstring(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
