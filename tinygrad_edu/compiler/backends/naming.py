"""Names: what the arrays of a program are called in its source. They come from the labels of the Values."""

import keyword
from collections.abc import Sequence

from ..find.lowered import (
    CONSTANT,
    PARAMETER,
    Lowered,
    Tensor,
    Terms,
    every_array,
)
from ..find.squares import THETA
from ..trace.tracing import Trace
from .numpy_helpers import NAMES

TAKEN = {"B", "np", "math", "parameters", "gradient", "dtype", "build", "run", "outputs", "buffers", "float"}
TAKEN |= {"inf", "nan", "t", "RULES", *NAMES}
DIGITS = "0123456789"
# Statements give names of these and a number.
OF_STATEMENTS = ("t", "index", "softmax", "slope", "zeros", "ones", "full", "part", "mask", "numbers")


def name_arrays(lowered: Lowered, trace: Trace) -> None:
    """Name every array: X for an input x, W1 and b1 for weights and biases, Z1 and A1 = relu(Z1) for results."""
    _Names(lowered, trace)


class _Names:
    def __init__(self, lowered: Lowered, trace: Trace):
        self.lowered, self.trace = lowered, trace
        self.used = set(TAKEN)
        self._counts: dict[str, int] = {}
        for array in every_array(lowered):
            if array.source != CONSTANT:
                array.name = ""
        self.factors, self.summands = _roles(list(every_array(lowered)))
        parameters = [array for array in lowered.arrays if array.source == PARAMETER]
        stems = {a: self._stem(a) for a in sorted(parameters, key=lambda array: int(array.places[0]))}
        counts = {stem: list(stems.values()).count(stem) for stem in stems.values()}
        for array in lowered.arrays:
            if array.source[:1] == ("input",):
                name = trace.names[array.source[1]]
                array.name = self._free(name.upper() if len(name) == 1 and array.size > 1 else name)
        for array, stem in stems.items():
            array.name = self._numbered(stem) if stem in ("W", "b") or counts[stem] > 1 else self._free(stem)
        for array in lowered.arrays:
            if array.source == THETA:
                array.name = self._free("theta")
        numbers, mask = self._free("numbers"), self._free("mask")  # what constants are called
        for array in every_array(lowered):
            if array.source == CONSTANT:
                array.name = mask if array.is_mask else numbers
        outside = {*lowered.arrays}  # a state is named before the stages that are peeled off
        for array in sorted(every_array(lowered), key=lambda array: array in outside):
            if not array.name and array.kind != "loop":
                array.name = self._of_result(array)

    def _stem(self, array: Tensor) -> str:
        """`W` for layer0.neuron3.w2, `gamma` for layer1.gamma4; without a label, a name for its role."""
        label = self.trace.parameters[int(array.places[0])].label
        if array.size == 1 and label.isidentifier():
            return label
        stem = label.rpartition(".")[2].rstrip(f"{DIGITS}_")
        if not stem.isidentifier():
            return "W" if array in self.factors else "b" if array in self.summands else "p"
        return "W" if stem == "w" else stem

    def _of_result(self, array: Tensor) -> str:
        if (array, 0) in self.lowered.outputs and array.size == 1 and self.trace.shape == ():
            return self._free("loss")
        if array.kind == "sum":
            for part in sorted(array.operation.parts, key=_reads_window):  # the state names a recurrence
                factors = {read.array for read in part.factors if part.heads}
                for name in sorted(factor.name for factor in factors if len(factors) == 2):
                    if name.startswith("W") and f"Z{name[1:]}" not in self.used:
                        return self._free(f"Z{name[1:]}")
        if array.kind == "rule" and len(array.reads) == 1:
            before = array.reads[0].array
            if (
                before.name.startswith("Z")
                and before.size == array.size
                and f"A{before.name[1:]}" not in self.used
            ):
                return self._free(f"A{before.name[1:]}")
        if array.kind == "reduction" and array.reads[0].array.name.startswith("Z"):
            self.used.add(f"A{array.reads[0].array.name[1:]}")  # its softmax
        if array.kind == "softmax":
            return self._numbered("P")
        return self._numbered(f"{array.rule.name}_" if array.rule else "state_")

    def _numbered(self, stem: str) -> str:
        n = self._counts.get(stem, 1)
        while f"{stem}{n}" in self.used:
            n += 1
        self._counts[stem] = n
        return self._free(f"{stem}{n}")

    def _free(self, name: str) -> str:
        """The name, with underscores added until nothing else has it or the name of its gradient."""
        stem = name.rstrip(DIGITS)
        is_taken = keyword.iskeyword(name) or (stem != name and stem.rstrip("_") in OF_STATEMENTS)
        while is_taken or self.used & {name, f"d{name}"}:
            is_taken = False
            name += "_"
        self.used |= {name, f"d{name}"}
        return name


def _reads_window(part: Terms) -> bool:
    return any(read.every is not None for read in part.factors)


def _roles(arrays: Sequence[Tensor]) -> tuple[set[Tensor], set[Tensor]]:
    """The arrays that are factors of products, and the arrays that are terms of sums."""
    factors, summands = set[Tensor](), set[Tensor]()
    for array in arrays:
        for part in array.operation.parts if array.kind == "sum" else ():
            of_role = summands if len(part.factors) == 1 else factors
            of_role |= {read.array for read in part.factors}
    return factors, summands
