"""Print class, constant and alias names that two or more modules define, and hold their number.

    python scripts/duplicate_names.py [--list]

Exits with 1 if there are more duplicates than `MAX_DUPLICATES`, or more public class names that occur twice
within one top-level folder than `MAX_CLASSES_TWICE_IN_A_FOLDER`. Lower a bound whenever the number falls.
"""

import argparse
import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

MAX_DUPLICATES = 0
MAX_CLASSES_TWICE_IN_A_FOLDER = 0

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "onebranch"

IGNORED = ("__version__", "__all__", "TYPE_CHECKING")

CONSTANT_OR_ALIAS = re.compile(r"_?[A-Z]\w*")
"""Names of constants (MAX_JOBS) and of type aliases (Weights)."""


def defined_names(source: str) -> Iterator[tuple[str, str]]:
    """Kind ("class", "value") and name of each class, constant and type alias that a module defines.

    >>> list(defined_names("class A: pass\\nLIMIT: int = 3\\nImage = object\\nlower = 1"))
    [('class', 'A'), ('value', 'LIMIT'), ('value', 'Image')]
    """
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.ClassDef):
            yield "class", statement.name
        else:
            yield from (("value", name) for name in _assigned(statement) if CONSTANT_OR_ALIAS.fullmatch(name))


def _assigned(statement: ast.stmt) -> Iterator[str]:
    """Names that an assignment or a `type` statement binds."""
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = list(statement.targets)
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    elif statement.__class__.__name__ == "TypeAlias":
        targets = [statement.name]  # type: ignore[attr-defined]  # Python 3.12
    for target in targets:
        yield from (node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def modules_by_name(package: Path) -> dict[str, dict[Path, str]]:
    """For every name the modules that define it, each with the kind of the definition."""
    modules: dict[str, dict[Path, str]] = defaultdict(dict)
    for path in sorted(package.rglob("*.py")):
        for kind, name in defined_names(path.read_text(encoding="utf-8")):
            if name not in IGNORED:
                modules[name][path.relative_to(package)] = kind
    return modules


def duplicates(modules: dict[str, dict[Path, str]]) -> dict[str, list[Path]]:
    """Names that two or more modules define."""
    return {name: list(paths) for name, paths in modules.items() if len(paths) > 1}


def classes_twice_in_a_folder(modules: dict[str, dict[Path, str]]) -> list[tuple[str, str]]:
    """Top-level folder and name of each public class that two modules of that folder define."""
    twice = []
    for name, kinds in modules.items():
        folders = [path.parts[0] for path, kind in kinds.items() if kind == "class" and len(path.parts) > 1]
        twice += [(folder, name) for folder in dict.fromkeys(folders) if folders.count(folder) > 1]
    return sorted(pair for pair in twice if not pair[1].startswith("_"))


def main() -> int:
    """Print the duplicates; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--list", action="store_true", help="print every duplicate name with its modules")
    arguments = parser.parse_args()
    modules = modules_by_name(PACKAGE)
    names, classes = duplicates(modules), classes_twice_in_a_folder(modules)
    if arguments.list or len(names) > MAX_DUPLICATES:
        for name, paths in sorted(names.items()):
            print(f"{name}: {', '.join(map(str, paths))}")
    for folder, name in classes:
        print(f"class {name} is defined twice in {folder}/")
    print(
        f"{len(names)} names are defined in two or more modules (at most {MAX_DUPLICATES});"
        f" {len(classes)} public classes twice in one folder (at most {MAX_CLASSES_TWICE_IN_A_FOLDER})"
    )
    return int(len(names) > MAX_DUPLICATES or len(classes) > MAX_CLASSES_TWICE_IN_A_FOLDER)


if __name__ == "__main__":
    sys.exit(main())
