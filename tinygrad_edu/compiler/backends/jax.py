"""JAX: a program as source that a person would have written, a pure function of arrays.

`examples(parameters, X, Y)` is what the function returns for each example of a batch. Only this forward pass is
written. The gradient is JAX's own, so a caller may differentiate by the inputs too, and more than once. A rule of
the user's keeps its backward, as a `jax.custom_vjp`.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any, ClassVar

import numpy as np

from ...engine.rule import Rule
from ...engine.rules import RULES
from ..find.lowered import CONSTANT
from ..ir.plan import Parameter, Plan
from ..ir.routine import Access, Array, Axis, Loop, Routine, Stmt, free_of, new_name
from ..ir.symbols import Book, Symbol, rule_of_names
from ..trace.placeholder import GIVEN
from .formulas import ATOM, CHOICE, OPERATORS, POWER, PRODUCT, SUM, Form, Language, short_number
from .numpy import array_text
from .text import ArrayText, Elements, Formulas, Positions, bare, shown, storage, tuple_text
from .update import equation

# Rules that JAX has under a name, with our value and our slope, kinks included.
ACTIVATIONS = {
    "detach": "jax.lax.stop_gradient({})",
    "elu": "jax.nn.elu({}, {})",
    "gelu": "jax.nn.gelu({}, approximate=False)",
    "plain": "jax.lax.stop_gradient({})",
    "relu": "jax.nn.relu({})",
    "silu": "jax.nn.silu({})",
    "softplus": "jax.nn.softplus({})",
}
FORMS = OPERATORS | {  # what is not a function of jax.numpy by its own name
    "abs": Form("{0} * jnp.sign({0})", PRODUCT, (ATOM,)),  # the slope of jnp.abs at 0 is 1
    "equal": Form("({} == {}) * 1.0", PRODUCT, (SUM, SUM)),
    "erf": Form("jax.scipy.special.erf({})", ATOM, (CHOICE,)),
    "erfc": Form("jax.scipy.special.erfc({})", ATOM, (CHOICE,)),
    "heaviside": Form("jnp.heaviside({}, 0.0)", ATOM, (CHOICE,)),
    "max": Form("jnp.maximum({}, {})", ATOM, (CHOICE, CHOICE)),
    "pow": Form("{} ** {}", POWER, (ATOM, ATOM)),
    "sigmoid": Form("jax.nn.sigmoid({})", ATOM, (CHOICE,)),
}
CHOICES = ("where", "lt", "le", "gt", "ge")
REDUCED = {"logsumexp": "jax.nn.logsumexp({}, axis=-1)", "softmax": "jax.nn.softmax({}, axis=-1)"}
REDUCED |= {"max_": "{largest}({})", "min_": "-{largest}(-({}))"}
# JAX's own slope is where x equals the result. But XLA may compute x twice, with other last digits.
LARGEST = """@jax.custom_jvp
def {name}(x):
    return x.max(axis=-1)


@{name}.defjvp
def {name}_slope(x, dx):
    (x,), (dx,) = x, dx
    first, last = x.argmax(axis=-1), x.shape[-1] - 1 - x[..., ::-1].argmax(axis=-1)
    place, top = jnp.arange(x.shape[-1]), x.max(axis=-1)
    hit = (place == first[..., None]) | (place == last[..., None]) | (x == top[..., None])
    return top, (hit * dx).sum(axis=-1) / hit.sum(axis=-1)
"""


class JaxElements(Elements):
    """Elements in a program that assigns each array once. In a loop, earlier stages are variables.

    stage    the arrays of the loop that is written -> the row of its stage; None outside of it
    ends     arrays of loops of which the last stage is a variable
    """

    def __init__(self) -> None:
        super().__init__()
        self.stage: dict[Array, int] | None = None
        self.loops: dict[Array, tuple[int, int]] = {}  # array -> the row of the first stage, the number of stages
        self.ends: set[Array] = set()
        self.windows: dict[Access, str] = {}  # what each stage reads of its own

    def element(self, access: Access, to_write: bool = False) -> ArrayText:
        array, row = access.array, access.row
        if self.stage is not None and array in self.stage and row is not None:
            array, row = _renamed(array, _before(array, self.stage[array] - row[0])), None
        elif self.t is not None and self.t in access.free:
            name = self.windows.setdefault(access, f"{array.name}_{len(self.windows) + 1}")
            return ArrayText(name, storage(access, self.t))
        elif array in self.loops and row is not None:
            first, n = self.loops[array]
            if self.is_end(access):
                array, row = _renamed(array, f"{array.name}_end"), None
            elif self.is_early(access):
                array = _renamed(array, f"{array.name}_all", first + n)
            else:
                array, row = _renamed(array, f"{array.name}_stages", n), (row[0] - first, *row[1:])
        elif array.source == CONSTANT:
            array = _renamed(array, f"jnp.asarray({array.name}, dtype)")
        return super().element(Access(array, row, access.dims, access.at, access.gather, access.axes), to_write)

    def is_end(self, access: Access) -> bool:
        """Is it the last state of a loop?"""
        first, n = self.loops[access.array]
        row: Any = access.row
        return access.array in self.ends and row[1] is None and row[0] == first + n - 1

    def is_early(self, access: Access) -> bool:
        """Does it have a state from before the loop?"""
        start, axis, step = access.row  # type: ignore[misc]  # it is of stages
        last = start if axis is None else start + step * (axis.size - 1)
        return bool(min(start, last) < self.loops[access.array][0])


def _renamed(array: Array, name: str, stages: int | None = None) -> Array:
    return Array(name, array.dims, array.batched, source=array.source, stages=stages)


def _before(array: Array, distance: int) -> str:
    """The name of an array as it was so many stages before."""
    return f"{array.name}_before{f'_{distance}' * (distance > 1)}" if distance else array.name


class JaxWords:
    """How JAX calls operations and numbers."""

    forms: ClassVar[Mapping[str, Form]] = FORMS

    def function(self, op: str) -> str:
        """The name of a function."""
        return f"jnp.{op}"

    def number(self, x: Any) -> str:
        """A number; inf and nan are names."""
        return short_number(x, "jnp.inf", "jnp.nan")


class JaxLanguage(JaxWords, Language):
    """Formulas of numbers, for functions."""


class JaxFormulas(JaxWords, Formulas):
    """Writes formulas in JAX. `rules` has the function of each rule: its name and its source."""

    along_axes: ClassVar[Collection[str]] = ("sum",)

    def __init__(self, elements: Elements, taken: Iterable[str] = ()):
        super().__init__(elements)
        self.rules: dict[tuple[Rule, int], tuple[str, str]] = {}
        self._taken = set(taken)

    def reduced(self, op: str, text: str) -> str:
        if op not in ("max_", "min_"):
            return REDUCED[op].format(text)
        key = RULES["max"], 0
        if key not in self.rules:
            name = new_name("largest", self._taken)
            self.rules[key] = name, LARGEST.format(name=name)
        return REDUCED[op].format(text, largest=self.rules[key][0])

    def dot(self, left: ArrayText, right: ArrayText, n: int) -> str:
        if n == 1:
            return f"jnp.vecdot({left.code}, {right.code})"
        return super().dot(left, right, n)

    def statement(self, stmt: Stmt, order: Sequence[Axis]) -> str:
        """The value of a statement, with all these axes."""
        rule, operands = stmt.rule, stmt.operands
        if rule is None:
            return self.full(stmt.value, order)
        if not rule.ours or rule is GIVEN:
            return f"{self.call(rule, len(operands))}({bare(self.full(y, order) for y in operands)})"
        texts = [self.text(y, order) for y in operands]
        if rule.name in ACTIVATIONS:
            return ACTIVATIONS[rule.name].format(*texts, *map(self.number, rule.parameters.values()))
        if rule.name not in ("max", "min"):
            return self.full(stmt.value, order)
        stack = f"jnp.stack([{bare(self.full(y, order) for y in operands)}], axis=-1)"
        return self.reduced(f"{rule.name}_", stack)  # equal ones share evenly

    def full(self, x: Any, order: Sequence[Axis], level: int = CHOICE) -> str:
        """x with all these axes."""
        if free_of(x) - {self.elements.t} >= set(order):
            return self.text(x, order, level)
        sizes = tuple_text([axis.size for axis in order])
        if isinstance(x, Symbol):
            return f"jnp.broadcast_to({self.text(x, order)}, {sizes})"
        return f"jnp.full({sizes}, {self.text(x, order)}, dtype)"

    def call(self, rule: Rule, n: int) -> str:
        """The name of the function of a rule with so many inputs."""
        if (rule, n) not in self.rules:
            name = new_name(rule.name if rule.name.isidentifier() else "rule", self._taken)
            self.rules[rule, n] = name, rule_source(rule, n, name)
        return self.rules[rule, n][0]


# --- Rules and equations as functions -------------------------------------------------------------------------

RULE = """@jax.custom_vjp
def {name}({inputs}):
{forward}

def {name}_forward({inputs}):
    out = {name}({inputs})
    return out, (out, {inputs})


def {name}_backward(residuals, upstream):
    out, {inputs} = residuals
{backward}

{name}.defvjp({name}_forward, {name}_backward)
"""


def rule_source(rule: Rule, n: int, name: str) -> str:
    """A rule of n inputs as a `jax.custom_vjp`. Raises TypeError, naming it, if it does not run on symbols."""
    names, book = [f"x{i}" for i in range(n)] if n > 1 else ["x"], Book()
    out, shares = rule_of_names(rule, names, book, "does not run on symbols, so JAX cannot run it")
    zero = book.make("zeros_like", book.leaf(names[0]))  # gives a number or a choice the dtype of an input
    out = out if isinstance(out, Symbol) and out.op not in CHOICES else zero + out
    shares = [share if isinstance(share, Symbol) else zero + share for share in shares]
    forward, backward = _returned(out), _returned(*shares, many=True)
    return RULE.format(name=name, inputs=bare(names), forward=forward, backward=backward)


def update_source(optimizer: Any) -> str:
    """The equation of an optimiser as a function. Raises any error that it raises on symbols."""
    _, vectors, results = equation(optimizer)
    names = ["t", "lr", "gradient", *(vector.args[0] for vector in vectors)]
    return f"def update({bare(names)}):\n{_returned(*results, many=True)}"


def _returned(*results: Any, many: bool = False) -> str:
    """The lines of a function that returns these formulas."""
    statements, texts = JaxLanguage({}).body(list(results))
    lines = [*statements, f"return {tuple_text(texts) if many else texts[0]}"]
    return "".join(f"    {line}\n" for line in lines)


# --- The module -----------------------------------------------------------------------------------------------

MODULE = '''"""{title}"""

import jax
import jax.numpy as jnp
{imports}

{rules}def examples({arguments}):
    """What the function returns for each example of a batch."""
{lines}{rest}{constants}'''
MEAN = """

def mean({arguments}):
    return examples({arguments}).mean()


function = jax.value_and_grad(mean)
"""


class JaxEmitter:
    """Writes the source of one program: `source`. Raises TypeError for a rule that does not run on symbols.

    plan: without its backward pass. lengths: variable -> (argument, axis) of an input that is so long there.
    sliced: are the parameters slices of their vector? Else it is split.
    """

    def __init__(
        self,
        plan: Plan,
        n_inputs: int,
        title: str,
        lengths: Mapping[str, tuple[int, int]] | None = None,
        sliced: bool = False,
    ):
        self.plan: Plan = plan
        self.sliced: bool = sliced
        self.n_inputs: int = n_inputs
        self.lengths: Mapping[str, tuple[int, int]] = lengths or {}
        self.program: Routine = plan.program
        self.elements: JaxElements = JaxElements()
        self.names: set[str] = {stmt.out.array.name for stmt, _ in self.program.statements()}
        self.text: JaxFormulas = JaxFormulas(self.elements, {array.name for array in self.program.arrays()})
        self._sides: dict[Array, list[str]] = {}  # what is put side by side
        self._has_literals = False  # arrays of numbers among the results
        body = self._parameters() + self._body()
        results = [self._root(*plan.root)] if plan.root else []
        results += [self._columns()] if plan.n_outputs or not plan.root else []
        self.source: str = self._module(title, [*body, f"return {bare(results)}"], MEAN * (len(results) == 1))

    def _module(self, title: str, lines: list[str], rest: str) -> str:
        inputs = {array.source[1]: array.name for array in self._leaves("input")}
        names = [inputs.get(i, f"_{i}") for i in range(self.n_inputs)]
        cast = [f"{name} = jnp.asarray({name}, dtype)" for name in inputs.values()]
        cast.append(f"B = {names[0]}.shape[0]" if names else "B = 1")
        cast += [f"{name} = {names[i]}.shape[{axis + 1}]" for name, (i, axis) in self.lengths.items()]
        arguments = bare(["parameters", *names])
        constants = {
            a.name: a.places for a in self.program.leaves if a.source == CONSTANT
        } | self.elements.constants
        moving = {name: array.text for name, array in constants.items() if isinstance(array, Positions)}
        cast += [f"{name} = {text}" for name, text in moving.items()]
        return MODULE.format(
            title=title,
            imports="import numpy as np\n" * bool(constants or self._has_literals),
            rules="".join(f"{source}\n\n" for _, source in self.text.rules.values()),
            arguments=arguments,
            lines="".join(f"    {line}".rstrip() + "\n" for line in ["dtype = parameters.dtype", *cast, *lines]),
            rest=rest.format(arguments=arguments),
            constants="\n\n" * (len(constants) > len(moving))
            + "".join(f"{name} = {_array_source(x)}\n" for name, x in constants.items() if name not in moving),
        )

    # --- Statements --------------------------------------------------------------------------------------------

    def _body(self) -> list[str]:
        lines: list[str] = []
        initial: dict[Array, list[Stmt]] = {}
        for item in self.program.items:
            if isinstance(item, Loop):
                lines += self._scan(item, initial)
            elif item.out.row is not None and item.out.row[1] is None:
                initial.setdefault(item.out.array, []).append(item)
            else:
                lines += self._statement(item)
        return lines

    def _statement(self, stmt: Stmt) -> list[str]:
        """The line of a statement. Parts of an array are put side by side by the last one."""
        array, order = stmt.out.array, storage(stmt.out, self.elements.t)
        text = self.text.statement(stmt, order)
        last = stmt.out.at[-1] if stmt.out.at else (0, order and order[-1], 1)
        if last[1] is None and array.dims and not stmt.out.gather and len(stmt.out.at) == len(array.dims):
            own = self._sides.setdefault(array, [])
            own.append(text)
            if len(own) < array.dims[-1]:
                return []
            text = f"jnp.stack([{bare(own)}], axis=-1)"
        stages = [] if array.stages is None or self.elements.t else [array.stages]
        return [_line(array.name, text, stages + ["B"] * array.batched + list(array.dims))]

    def _scan(self, loop: Loop, initial: dict[Array, list[Stmt]]) -> list[str]:
        elements, n = self.elements, loop.axis.size
        own = {stmt.out.array: stmt.out.row[0] for stmt in loop.body}  # type: ignore[index]
        distances: dict[Array, int] = {}
        for stmt in loop.body:
            for read in stmt.reads():
                if read.array in own and read.row is not None:
                    back = own[read.array] - read.row[0]
                    distances[read.array] = max(distances.get(read.array, 0), back)
        carried = {array: back for array, back in distances.items() if back}
        of_array = {
            array: [self.text.full(stmt.value, storage(stmt.out, None)) for stmt in initial.get(array, [])]
            for array in own
        }
        starts = list(chain(*(of_array[array] for array in carried)))
        state = [_before(array, back) for array, most in carried.items() for back in range(most, 0, -1)]
        after = [
            name
            for array, most in carried.items()
            for name in [*(_before(array, back) for back in range(most - 1, 0, -1)), array.name]
        ]
        end = [name for array, most in carried.items() for name in [*"_" * (most - 1), f"{array.name}_end"]]
        elements.stage, elements.t, elements.windows = own, loop.axis, {}
        body = [line for stmt in loop.body for line in self._statement(stmt)]
        windows, elements.stage, elements.t, elements.windows = elements.windows, None, None, {}
        elements.loops |= {array: (first, n) for array, first in own.items()}
        elements.ends |= carried.keys()
        now = [
            shown(
                elements.element(read), [loop.axis, *(a for a in storage(read, None) if a is not loop.axis)]
            ).code
            for read in windows
        ]
        again = {x.array for x in self._reads_after(loop) if x.array in own and not elements.is_end(x)}
        stacked = [array for array in own if array in again]
        name = f"loop_{1 + [item for item in self.program.items if isinstance(item, Loop)].index(loop)}"
        body = [f"{tuple_text(state)} = state", f"{tuple_text(list(windows.values()))} = now", *body]
        body.append(f"return {tuple_text(after)}, {tuple_text([array.name for array in stacked])}")
        left = f"{tuple_text(end)}, {tuple_text([f'{array.name}_stages' for array in stacked])}"
        call = f"jax.lax.scan({name}, {tuple_text(starts)}, {tuple_text(now)}, {n})"
        early = {x.array for x in self._reads_after(loop) if x.array in own and elements.is_early(x)}
        joined = [
            f"{array.name}_all = jnp.concatenate([jnp.stack([{bare(of_array[array])}]), {array.name}_stages])"
            for array in of_array
            if array in early
        ]
        return ["", f"def {name}(state, now):", *(f"    {line}" for line in body), "", f"{left} = {call}", *joined]

    def _reads_after(self, own: Loop) -> Iterator[Access]:
        """What is read outside of a loop."""
        return (read for stmt, loop in self.program.statements() if loop is not own for read in stmt.reads())

    def _leaves(self, kind: str) -> list[Array]:
        return [array for array in self.program.leaves if array.source[:1] == (kind,)]

    # --- Results -----------------------------------------------------------------------------------------------

    def _elements(self, array: Any, places: list[int]) -> str:
        """Elements of an array for each example: (B, number of places)."""
        self._has_literals = True
        if isinstance(array, Array):
            elements = f"{array.name}.reshape({'B, ' * array.batched}{array.size!s})"
            elements += f"[{':, ' * array.batched}np.array({places})]"
            if array.batched:
                return elements
        else:
            elements = f"np.array({array_text(array[places].tolist())}, dtype)"
        return f"jnp.broadcast_to({elements}, (B, {len(places)}))"

    def _root(self, array: Any, place: int) -> str:
        if isinstance(array, Array) and array.batched and array.size == 1:
            return f"{array.name}.reshape(B)" if array.dims else array.name
        return f"{self._elements(array, [place])}[:, 0]"

    def _columns(self) -> str:
        """The outputs with one row for each example."""
        outputs = self.plan.outputs
        if isinstance(outputs, Array):
            return outputs.name if len(outputs.dims) == 1 else f"{outputs.name}.reshape(B, {outputs.size!s})"
        texts = [self._elements(array, places) for array, _, places in outputs]
        order = [column for _, own, _ in outputs for column in own]
        columns = "" if order == sorted(order) else f"[:, np.array({np.argsort(order).tolist()})]"
        return (texts[0] if len(texts) == 1 else f"jnp.concatenate([{bare(texts)}], axis=1)") + columns

    # --- Parameters --------------------------------------------------------------------------------------------

    def _parameters(self) -> list[str]:
        """Lines that read the parameters. Their vector is split into parts that have no parameter in common.

        The gradient of a split is one concatenation. The gradient of a slice is as long as the whole vector. But
        XLA computes the sum of such gradients for each example at once, and copies what it concatenates.
        """
        parts: dict[tuple[Any, Any], list[Parameter]] = {}
        lines: list[str] = []
        for x in sorted(self.plan.parameters, key=lambda x: int(x.array.places.min())):
            start, stop = x.pieces[0][1:3]
            if x.is_all:
                lines.append(_line(x.array.name, f"parameters[{start!s}:{stop!s}]", x.array.dims))
            else:
                parts.setdefault((start, stop), []).append(x)
        names, cuts = list[str](), [0]
        for i, ((start, stop), own) in enumerate(parts.items(), 1):
            if start != cuts[-1]:  # what is not used
                cuts.append(start)
                names.append("_")
            cuts.append(stop)
            names.append(own[0].array.name if len(own) == 1 else f"part_{i}")
            lines += [line for x in own if (line := self._from_part(x, names[-1]))]
        if self.sliced:
            text = bare(f"parameters[{start!s}:{stop!s}]" for start, stop in pairwise(cuts))
        else:
            vector = f"parameters[:{cuts[-1]!s}]"
            text = f"jnp.split({vector}, {cuts[1:-1]})" if cuts[2:] else vector
        return [f"{bare(names)} = {text}", *lines] if names else lines

    def _from_part(self, x: Parameter, part: str) -> str:
        """The line that reads an array from a part of the vector; "" if it is the part itself."""
        texts = [self.elements.in_part(piece, part).code for piece in x.pieces]
        if part == x.array.name and len(x.array.dims) == 1 and x.pieces[0].access.is_whole:
            return ""
        text = texts[0] if len(texts) == 1 else f"jnp.concatenate([{bare(texts)}])"
        return _line(x.array.name, text, x.array.dims)


def _array_source(numbers: Any) -> str:
    """An array of numbers, or of positions: those of 64 bits fail in JAX where jax_enable_x64 has changed."""
    return f"np.array({array_text(numbers.tolist())}{', np.int32' * (numbers.dtype.kind == 'i')})"


def _line(name: str, text: str, sizes: Sequence[Any]) -> str:
    """A line of the source, with the shape of the array."""
    return f"{name} = {text}  # ({bare(sizes)})"
