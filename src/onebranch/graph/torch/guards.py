"""The guards of a trace: conditions on the sizes of its inputs for which the trace holds."""

import ast
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.fx.experimental.symbolic_shapes import SYMPY_INTERP
from torch.utils import _pytree

from onebranch.errors import OnebranchError


class Guards(torch.nn.Module):
    """Raises OnebranchError if a trace does not hold for its inputs. It can be pickled and copied.

    conditions: pairs of a Python expression in `args` (the flat inputs) and the same in the inputs' names.
    batch_of_one: True if a batch of one is checked as if it were a batch of two.
    """

    def __init__(self, conditions: Sequence[tuple[str, str]], batch_of_one: bool = False) -> None:
        super().__init__()
        self.conditions, self.batch_of_one = tuple(conditions), batch_of_one
        self._is_impure = True  # without this, torch.fx removes the call, whose result nothing reads

    def forward(self, *args: Any) -> None:
        """Check the conditions, given the flat inputs of the trace."""
        names = {**SYMPY_INTERP, "math": math, "inf": math.inf}
        names["args"] = tuple(map(expand_to_batch_2, args)) if self.batch_of_one else args
        for code, text in self.conditions:
            if not _holds(code, names):
                raise OnebranchError(
                    f"the merged module holds for sizes like its example's only ({text} does not hold); merge"
                    " the original again with an example of this size"
                )

    def violated(self, args: Sequence[Any]) -> list[str]:
        """The conditions that do not hold for these flat inputs, in the names of the inputs."""
        names = {**SYMPY_INTERP, "math": math, "inf": math.inf, "args": tuple(args)}
        return [text for code, text in self.conditions if not _holds(code, names)]

    def admits(self, args: Sequence[Any]) -> bool:
        """Return True if the trace holds for these flat inputs."""
        try:
            self(*args)
        except OnebranchError:
            return False
        return True


def _holds(code: str, names: dict[str, Any]) -> bool:
    """True if the condition holds; one that divides by zero at these sizes does not."""
    try:
        return bool(eval(code, names))
    except ZeroDivisionError:
        return False


def expand_to_batch_2(value: Any) -> Any:
    """A batch of one as a batch of two, without a copy."""
    if isinstance(value, torch.Tensor) and value.ndim > 1 and len(value) == 1:
        return value.expand(2, *value.shape[1:])
    return value


def _guards(codes: Sequence[str], paths: Sequence[Any]) -> Guards:
    """The guards from torch.export's expressions, in which an input is written as L['name'] and its path."""
    conditions = []
    for code in codes:
        flat, named = code, code
        for index, path in enumerate(paths):
            flat = flat.replace("L" + _pytree.keystr(path), f"args[{index}]")
            named = named.replace("L" + _pytree.keystr(path), path[0].key + _pytree.keystr(path[1:]))
        conditions.append((flat, ast.unparse(ast.parse(named.replace("\n", ""), mode="eval"))))
    return Guards(conditions)


@contextmanager
def picklable_guards() -> Iterator[None]:
    """A context in which torch.export makes `Guards` in place of guard functions, which cannot be pickled."""
    with patch("torch.export._unlift._convert_guards_code_to_fn", _guards):
        yield
