"""Every JSON that is written can be parsed by any parser: no NaN, no infinity."""

import json
import math

import numpy as np
import pytest

from command_line import CommandLine
from onebranch import strict_json
from onebranch.images.picture import Picture
from onebranch.images.writing import write


def strictly_parsed(text):
    """The parsed text. Raises ValueError for the constants that JSON does not have."""

    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float64("nan")])
def test_numbers_that_are_not_finite_become_null_wherever_they_stand(number):
    value = {"a": number, "b": [1.5, (number, {"c": number})], "d": "NaN", "e": True, "f": None, "g": 3}
    expected = {"a": None, "b": [1.5, [None, {"c": None}]], "d": "NaN", "e": True, "f": None, "g": 3}
    assert strictly_parsed(strict_json.dumps(value)) == expected


@pytest.mark.parametrize("command", ["compare", "evaluate"])
def test_infinite_scores_are_valid_json(command, monkeypatch, capsys, tmp_path):
    """Equal pictures have an infinite PSNR; so has a constant picture that is enlarged."""
    path = tmp_path / "grey.png"
    write(Picture(np.full((48, 48, 3), 128, np.uint8)), path)
    words = {"compare": [path, path], "evaluate": ["-m", "photo-x2", "-d", tmp_path]}[command]
    outcome = CommandLine(monkeypatch, capsys)(command, *words, "--json")
    assert outcome.code == 0, outcome.errors
    assert strictly_parsed(outcome.output)
