"""Plan: what a program in NumPy is printed from, and what two lengths of its inputs must agree on.

The statements with their gradient, where the parameters lie in their vector, and what is returned.
"""

from bisect import bisect_left
from typing import Any, NamedTuple

import numpy as np

from ..find.lowered import Lowered, Tensor
from ..find.squares import THETA
from .axes import access_of
from .fission import fission
from .front import Front
from .gradient import gradient
from .routine import Access, Axis, Routine, whole
from .routine import Array as Leaf

PIECES = 8  # of one parameter in the vector; one that lies in more is gathered
PRECISION = 1e-6  # relative error of a constant in float32; the smallest numbers of float32 have a larger one


class VectorPiece(NamedTuple):
    """Rows of a parameter as elements of a part of the vector, which goes from start to stop.

    rows: the first, and after the last; None for all.
    """

    rows: tuple[int, int] | None
    start: Any
    stop: Any
    access: Access


class Parameter(NamedTuple):
    """A parameter, the array of its gradient if it has one, and where they lie in their vectors.

    is_view, is_gradient_view: are they views of the vectors? Else they are copies. has_gaps: are these views not
    dense? is_all: is it all parameters?
    """

    array: Leaf
    adjoint: Leaf | None
    pieces: list[VectorPiece]
    is_view: bool
    is_gradient_view: bool
    has_gaps: bool
    is_all: bool


class Plan(NamedTuple):
    """What a module is written of: numbers alone are different for inputs of another length, see `lengths.py`.

    root     the loss and its place, None without a gradient
    outputs  an array that has them all, in order; or for each array its columns of the outputs, and its places
    """

    program: Routine
    inputs: dict[int, str]
    parameters: list[Parameter]
    root: tuple[Any, int] | None
    outputs: Any
    n_outputs: int


def plan_of(lowered: Lowered, with_gradient: bool, has_backward: bool = True, split: bool = True) -> Plan:
    """The plan of a program. Without a backward pass, the gradient is left to whoever runs the program.

    With `split`, what a loop does not need leaves it.
    """
    front = Front(lowered)
    program = fission(front.program) if split else front.program
    root, outputs = (lowered.outputs[0], lowered.outputs[1:]) if with_gradient else (None, lowered.outputs)
    if root and has_backward:
        array, place = root
        program = gradient(program, element_of(front.arrays[array], place) if array in front.arrays else None)
    parameters = parameters_of(lowered, front, program)
    return Plan(
        program,
        {a.source[1]: a.name for a in lowered.arrays if a.source[:1] == ("input",)},
        parameters,
        root and (front.arrays.get(root[0], root[0].places), root[1]),
        _columns(front, outputs),
        len(outputs),
    )


def parameters_of(lowered: Lowered, front: Front, program: Routine) -> list[Parameter]:
    """How the parameters of a program, and their gradients, lie in their vectors."""
    learned = [array for array in lowered.arrays if array.source[:1] == ("parameter",)]
    learned.sort(key=lambda array: array.source == THETA)  # its gradient is added last
    outs = [stmt.out for stmt, _ in program.statements()]
    written = {out.array for out in outs if out.gather is not None or out.dims != out.array.dims}
    parameters, parts = [], _parts(learned)
    for array in learned:
        leaf, pieces = front.arrays[array], _pieces(array, *parts[array])
        adjoint, is_all = program.adjoints.get(leaf), array.source == THETA
        has_gaps = bool((np.diff(array.places.ravel()) != 1).any())
        is_one = len(pieces) == 1 and pieces[0].access.gather is None
        is_view = not is_all and is_one and not (has_gaps and len(array.shape) == 1)  # slow to add to every row
        is_gradient_view = is_view and adjoint is not None and not (has_gaps and adjoint in written)
        parameters.append(Parameter(leaf, adjoint, pieces, is_view, is_gradient_view, has_gaps, is_all))
    return parameters


def _columns(front: Front, outputs: list[tuple[Tensor, int]]) -> Any:
    places = [place for _, place in outputs]
    arrays = list(dict.fromkeys(array for array, _ in outputs))
    if len(arrays) == 1 and arrays[0].batched and places == list(range(arrays[0].size)):
        return front.arrays[arrays[0]]
    columns = [[i for i, (other, _) in enumerate(outputs) if other is array] for array in arrays]
    return [
        (front.arrays.get(a, a.places), own, [places[i] for i in own])
        for a, own in zip(arrays, columns, strict=True)
    ]


def _parts(learned: list[Tensor]) -> dict[Tensor, tuple[int, int]]:
    """For each array a part of the vector, which it shares with those whose places are among its own."""
    parts = dict[Tensor, tuple[int, int]]()
    own: list[Tensor] = []
    first = after = 0
    for array in sorted(learned, key=lambda array: (array.source == THETA, int(array.places.min()))):
        start, stop = int(array.places.min()), int(array.places.max()) + 1
        if start >= after or array.source == THETA:
            own, first, after = [], start, stop
        own.append(array)
        after = max(after, stop)
        parts |= dict.fromkeys(own, (first, after))
    return parts


def _pieces(array: Tensor, start: int, stop: int) -> list[VectorPiece]:
    """The rows of a parameter that are regular in the vector, with their places: a few, or all of them at once."""
    places = array.places.reshape(array.shape) - start
    part = Leaf("parameters", (stop - start,), False)

    def piece(rows: tuple[int, int] | None = None) -> VectorPiece:
        own = places[slice(*rows)] if rows else places
        return VectorPiece(rows, start, stop, access_of(part, None, own, list(map(Axis, own.shape))))

    every, pieces, first = piece(), list[VectorPiece](), 0
    if every.access.gather is None:
        return [every]
    while first < len(places) and len(pieces) <= PIECES:
        lasts = range(first + 2, len(places) + 1)
        n = bisect_left(lasts, True, key=lambda last: piece((first, last)).access.gather is not None)
        pieces.append(piece((first, first + 1 + n)))
        first += 1 + n
    return pieces if len(pieces) <= PIECES else [every]


def element_of(array: Any, place: int) -> Access:
    """One element of an array, or all of an array of one."""
    every = whole(array)
    if array.size == 1:
        return every
    places = np.unravel_index(place, array.dims)
    return Access(array, None, array.dims, tuple((int(i), None, 1) for i in places))


def lost_in_float32(lowered: Lowered) -> str:
    """A sentence about a constant that float32 cannot hold; "" if it holds all."""
    arrays = [array.places for array in lowered.arrays if array.source == ("constant",)]
    numbers = np.unique(np.concatenate([np.empty(0), *arrays]))
    with np.errstate(all="ignore"):
        single = numbers.astype(np.float32)
        is_held = np.isclose(single, numbers, rtol=PRECISION, atol=0.0, equal_nan=True)
    if is_held.all():
        return ""
    number, becomes = numbers[~is_held][0], single[~is_held][0]
    return (
        f"float32 cannot hold the constant {number}, which would be {becomes:.7g} there. "
        'Compile with dtype="float64", or use constants of a size between 1e-37 and 3e38.'
    )
