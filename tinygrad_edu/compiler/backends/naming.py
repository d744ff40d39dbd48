"""Names: what the arrays of a program are called in its source. They come from the labels of the Values."""

import keyword
import unicodedata
from collections.abc import Sequence

from ...engine import elementary
from ..find.lowered import CONSTANT, PARAMETER, Lowered, Tensor, every_array
from ..find.squares import THETA
from ..trace.tracing import Trace
from .numpy_helpers import NAMES
from .text import FUNCTIONS

TAKEN = {"B", "np", "math", "parameters", "gradient", "dtype", "build", "run", "outputs", "buffers", "float"}
TAKEN |= {"t", "RULES", "len", "range", "reversed", "slice", "add", "arange", "take_along_axis", *NAMES}
TAKEN |= {*elementary.__all__, *FUNCTIONS.values()}  # functions in formulas, inf and nan
DIGITS = "0123456789"
# Statements give names of these and a number.
OF_STATEMENTS = ("t", "index", "softmax", "slope", "zeros", "ones", "full", "part", "mask", "numbers", "hit")


def name_arrays(lowered: Lowered, trace: Trace) -> None:
    """Name every array: X for an input x, W1 and b1 for weights and biases, Z1 and A1 = relu(Z1) for results."""
    _Names(lowered, trace)


class _Names:
    def __init__(self, lowered: Lowered, trace: Trace):
        self.lowered, self.trace = lowered, trace
        self.used = set(TAKEN)
        self._counts: dict[str, int] = {}
        self._tails: dict[Tensor, str] = {}  # of a weight W1, and of its result Z1: 1
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
            if stem[0] == "W":
                self._tails[array] = array.name[1:]
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
        stem = unicodedata.normalize("NFKC", label).rpartition(".")[2].rstrip(f"{DIGITS}_")  # as Python reads it
        if not stem.isidentifier():
            return "W" if array in self.factors else "b" if array in self.summands else "p"
        return "W" if stem == "w" else stem

    def _of_result(self, array: Tensor) -> str:
        if (array, 0) in self.lowered.outputs and array.size == 1 and self.trace.shape == ():
            return self._free("loss")
        if array.kind == "sum":
            for part in sorted(  # the state names a recurrence
                array.operation.parts, key=lambda part: any(read.every is not None for read in part.factors)
            ):
                factors = {read.array for read in part.factors if part.heads}
                for tail in sorted(self._tails[factor] for factor in factors & self._tails.keys()):
                    if len(factors) == 2 and f"Z{tail}" not in self.used:
                        self._tails[array] = tail
                        return self._free(f"Z{tail}")
        before = array.reads[0].array if len(array.reads) == 1 else None
        if before and before.operation and before in self._tails:
            name = f"A{self._tails[before]}"
            if array.kind == "rule" and before.size == array.size and name not in self.used:
                return self._free(name)
            if array.kind == "reduction":
                array.softmax = self._free(name)
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


def _roles(arrays: Sequence[Tensor]) -> tuple[set[Tensor], set[Tensor]]:
    """The arrays that are factors of products, and the arrays that are terms of sums."""
    factors, summands = set[Tensor](), set[Tensor]()
    for array in arrays:
        for part in array.operation.parts if array.kind == "sum" else ():
            of_role = summands if len(part.factors) == 1 else factors
            of_role |= {read.array for read in part.factors}
    return factors, summands
