"""Export: a compiled function as a Python module that needs NumPy alone, with its weights beside it."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from ..backends.text import tuple_text
from ..trace.checks import CompileError
from ..trace.nesting import Fields, size_of
from ..trace.placeholder import TraceError
from ..trace.surroundings import Closure
from .build import Build, Request
from .pipeline import make
from .verify import some_batch

MODULE = '''"""{title}

Written by tinygrad_edu, which it does not need. This is code: read it before you run it, as all that others give.

    predict(*batch)     what the function returns for every example
    loss(*batch)        the mean over the batch
    gradient(*batch)    its derivatives by the {n:,} numbers of `parameters`, which {weights} holds

A batch has one array for each argument, with the examples along the first axis: {arguments}.
"""

from pathlib import Path

import numpy as np

with np.load(Path(__file__).with_name({weights!r}), allow_pickle=False) as weights:
    parameters = weights["parameters"]


{programs}
def _batch(batch):
    if len(batch) != {n_arguments}:
        raise TypeError(f"a batch has {n_arguments} arrays, got {{len(batch)}}")
    arrays = [np.ascontiguousarray(array, parameters.dtype) for array in batch]
    for array, shape in zip(arrays, {shapes}):
        if array.shape[1:] != shape or len(array) != len(arrays[0]):
            raise ValueError(f"an example has the shape {{shape}}, got the array {{array.shape}}")
{indices}    return arrays, {size}


def predict(*batch):
    arrays, B = _batch(batch)
    outputs = _outputs(parameters, B, parameters.dtype)(*arrays)
    return {result}
'''
INDICES = """\
    for argument, places, n in {picks}:
        index = arrays[argument].reshape(len(arrays[argument]), -1)[:, places]
        if not ((index >= 0) & (index < n) & (index % 1 == 0)).all():
            raise IndexError(f"array {{argument}} of a batch has the indices 0 to {{n - 1}}")
"""
GRADIENT = """

def _loss_and_gradient(batch):
    arrays, B = _batch(batch)
    slopes = np.zeros_like(parameters)
    return _mean(parameters, B, parameters.dtype)(*arrays, slopes), slopes


def loss(*batch):
    return _loss_and_gradient(batch)[0]


def gradient(*batch):
    return _loss_and_gradient(batch)[1]
"""


def write_module(step: Any, last: Build, path: Path) -> None:
    """Write path, and its weights beside it as .npz: for examples of the shapes that the last call had.

    Raises CompileError for a function that cannot stand alone: one that branches on numbers, or has a rule of the
    user's.
    """
    outputs = _program(step, last, False)
    programs, text = [("_outputs", outputs)], MODULE
    if outputs.loss is not None:
        programs.append(("_mean", _program(step, last, True)))
        text += GRADIENT
    weights = path.with_suffix(".npz")
    numbers = step._numbers().copy()
    names, shapes = outputs.names, outputs.contract.request.shapes
    picks = [(pick.argument, pick.positions.tolist(), pick.n_options) for pick in outputs.contract.picks]
    source = text.format(
        title=f"{step!r}, saved as NumPy.",
        n=len(numbers),
        weights=weights.name,
        arguments=", ".join(
            f"{name} {('B', *shape)}".replace("'", "") for name, shape in zip(names, shapes, strict=True)
        ),
        programs="".join(_wrapped(name, build.source) for name, build in programs),
        n_arguments=len(names),
        shapes=repr(shapes),
        indices=INDICES.format(picks=picks) if picks else "",
        size="len(arrays[0])" if names else "1",
        result=_nested("outputs", outputs.output_shape, 0),
    )
    np.savez(weights, parameters=numbers)
    path.write_text(source, encoding="utf-8")


def _program(step: Any, last: Build, gradient: bool) -> Build:
    """A program that assumes nothing of its batches, compared with the engine at numbers of its own."""
    programs, request = step._programs, Request(last.contract.request.shapes, gradient)
    closure, guards = Closure(step.original, step.parameters), last.contract.guards
    row = None
    if guards and not guards.n:  # it takes whole numbers, such as the places of rows, and asks for nothing
        examples = guards.examples
        types = [int if kind is int else float for kind in examples.kinds]
        known = zip(types, examples.runs[0].example, request.shapes, strict=True)
        row = [np.array(numbers, dtype).reshape(1, *shape) for dtype, numbers, shape in known]
    try:
        traced = programs.trace(closure, request, row)
    except TraceError as error:
        raise CompileError(f"A function that looks at numbers cannot be saved: {error}") from None
    facts = programs.surroundings.learn(programs.surroundings.facts())
    build = make(traced, closure, facts, request, None, ("ragged rows",))
    if "RULES" in build.namespace:
        raise CompileError(
            "A rule of your own that does not run on symbols cannot be saved: it needs tinygrad_edu."
        )
    return programs.verified(build, some_batch(build)) if step.verify else build


def _wrapped(name: str, source: str) -> str:
    """A program as a function of a module: what it defines stays inside."""
    return f"def {name}(*arguments):\n{textwrap.indent(source, '    ')}\n    return build(*arguments)\n\n\n"


def _nested(code: str, shape: Any, start: int) -> str:
    """Columns as they were nested by the function, as source."""
    if not isinstance(shape, Fields):
        size = size_of(shape)
        return f"{code}[:, {start}:{start + size}].reshape(B, *{shape})"
    parts = []
    for inner in shape.values():
        parts.append(_nested(code, inner, start))
        start += size_of(inner)
    if all(isinstance(key, int) for key in shape):
        return tuple_text(parts)
    return f"{{{', '.join(f'{key!r}: {part}' for key, part in zip(shape, parts, strict=True))}}}"
