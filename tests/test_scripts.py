"""The scripts of `make check`: duplicate names, complexity, words."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _scripts_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


def test_classes_constants_and_aliases_are_names_but_not_functions_and_local_values():
    from duplicate_names import defined_names

    source = "class A:\n    LIMIT = 1\nLIMIT: int = 3\nImage = object\nlower = 1\ndef f():\n    INNER = 2\n"
    assert list(defined_names(source)) == [("class", "A"), ("value", "LIMIT"), ("value", "Image")]


def test_a_name_in_two_modules_is_a_duplicate_and_a_class_only_within_its_folder(tmp_path):
    from duplicate_names import classes_twice_in_a_folder, duplicates, modules_by_name

    for name, text in {
        "a/x.py": "class Row: pass\nclass _Own: pass",
        "a/y.py": "class Row: pass\nclass _Own: pass",
        "b/z.py": "class Row: pass\nLIMIT = 1",
        "top.py": "LIMIT = 2\nSINGLE = 3",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    modules = modules_by_name(tmp_path)
    assert sorted(duplicates(modules)) == ["LIMIT", "Row", "_Own"]
    assert classes_twice_in_a_folder(modules) == [("a", "Row")]


def test_radon_counts_boolean_operators_and_comprehensions(tmp_path):
    from complexity import complexities

    path = tmp_path / "f.py"
    path.write_text("class C:\n    def f(self, a):\n        return [x for x in a if x and a] if a else 1\n")
    assert list(complexities(path)) == [(5, "C.f", 2)]


def test_coined_words_are_found_in_names_and_texts_and_ordinary_words_are_not():
    from words import findings

    source = '''
"""What a network sees."""
MOST = 3
def foreseen_size(found, most_threads): return f"{found}: this is said"
'''
    words = [(line, word) for line, word, _ in findings(source)]
    assert sorted(words) == [(2, "sees"), (3, "MOST"), (4, "foreseen_size"), (4, "found"), (4, "is said")]
    assert list(findings("rows_found = place_holders = information = 1  # a way")) == []


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("duplicate_names", "MAX_DUPLICATES"),
        ("complexity", "MAX_FUNCTIONS_ABOVE"),
        ("words", "MAX_FINDINGS"),
    ],
)
def test_more_than_the_bound_is_a_failure(name, bound, monkeypatch, capsys):
    module = importlib.import_module(name)
    monkeypatch.setattr(sys, "argv", [name])
    for limit, code in ((-1, 1), (10_000, 0)):
        monkeypatch.setattr(module, bound, limit)
        assert module.main() == code
        assert f"(at most {limit})" in capsys.readouterr().out
