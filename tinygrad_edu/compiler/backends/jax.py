"""JAX: a program as source that a person would have written, a pure function of arrays.

`examples(parameters, X, Y)` is what the function returns for each example of a batch. Only this forward pass is
written. The gradient is JAX's own, so a caller may differentiate by the inputs too, and more than once. A rule of
the user's keeps its backward, as a `jax.custom_vjp`.
"""

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from ...engine.rule import Rule
from ..decay import THETA
from ..differentiate import ArrayProgram, Definition
from ..formulas import ATOM, CHOICE, OPERATORS, POWER, PRODUCT, SUM, Form
from ..loops import Loop, Result
from ..lower import Array, Lowered, Read
from ..symbols import Book, Symbol
from ..update import equation
from ..views import view_of
from .numpy import array_text
from .numpy_operations import Textbook, Written, bare, transposed, tuple_text

# Rules that JAX has under a name, with our value and our slope, kinks included.
ACTIVATIONS = {
    "detach": "jax.lax.stop_gradient({})",
    "elu": "jax.nn.elu({}, {})",
    "gelu": "jax.nn.gelu({}, approximate=False)",
    "relu": "jax.nn.relu({})",
    "silu": "jax.nn.silu({})",
    "softplus": "jax.nn.softplus({})",
}
CALLS = ACTIVATIONS | {  # what is not a function of jax.numpy by its own name
    "erf": "jax.scipy.special.erf({})",
    "erfc": "jax.scipy.special.erfc({})",
    "heaviside": "jnp.heaviside({}, 0.0)",
    "logsumexp": "jax.nn.logsumexp({}, axis=-1)",
    "min": "jnp.min({}, axis=-1)",
    "sigmoid": "jax.nn.sigmoid({})",
    "softmax": "jax.nn.softmax({}, axis=-1)",
    "sum": "jnp.sum({}, axis=-1)",
}
CHOICES = ("where", "lt", "le", "gt", "ge")


@dataclass(frozen=True, eq=False)
class Scan:
    """A loop as `jax.lax.scan`.

    windows   what each stage reads of its own, for all stages
    initial   what stands for earlier stages before the first one
    stage     the definitions of one stage
    stacked   the arrays of which more is read than the last stage
    """

    name: str
    loop: Loop
    windows: list[Any]
    initial: list[Any]
    stage: list[Definition]
    stacked: list[Array]


def _is_end(loop: Loop, array: Array, t: int | None) -> bool:
    """Is it the last state?"""
    return array in loop.initial and t == loop.length - 1


def _before(array: Array, distance: int) -> str:
    """The name of an array as it was so many stages before."""
    return f"{array.name}_before{f'_{distance}' * (distance > 1)}"


class JaxProgram(ArrayProgram):
    """The forward pass. Activations are calls of JAX. Rules of the user's are calls of functions of their own."""

    def __init__(self, lowered: Lowered, n_inputs: int):
        super().__init__(lowered, n_inputs, gradient=False)

    def read(self, array: Array, places: Any) -> Any:
        """Elements of an array."""
        return self._read(Read(array, places), places.shape, repeats=False)

    def _define(self, array: Array) -> None:
        match array.operation:
            case Loop() as loop:
                self._define_loop(array, loop)
            case Result(loop, own, t):
                stages = f"{own.name}_stages{'.swapaxes(0, 1)' * own.batched if t is None else f'[{t}]'}"
                text = f"{own.name}_end" if _is_end(loop, own, t) else stages
                self.symbols[array] = self.book.leaf(text, array.shape, array.batched)
            case _:
                super()._define(array)

    def _define_loop(self, array: Array, loop: Loop) -> None:
        for inner in (*loop.windows, *loop.stage):
            self.symbols[inner] = self.book.leaf(inner.name, inner.shape, inner.batched)
        for leaf, (own, distance) in loop.earlier.items():
            self.symbols[leaf] = self.book.leaf(_before(own, distance), leaf.shape, leaf.batched)
        windows = [self.read(window.array, window.index) for window in loop.windows.values()]
        initial = [
            self.read(read.array, read.index.reshape(a.shape)) for a in loop.initial for read in loop.initial[a]
        ]
        stage = [Definition(own.name, self._formula(own), own) for own in loop.stage]
        results = [a.operation for a in self.lowered.arrays if isinstance(a.operation, Result)]
        read = [r.array for r in results if r.loop is loop and not _is_end(loop, r.array, r.t)]
        self.definitions.append(Scan(array.name, loop, windows, initial, stage, list(dict.fromkeys(read))))

    def _applied(self, array: Array, operands: list[Any]) -> Any:
        rule: Any = array.rule
        if not rule._declared[3].__module__.startswith("tinygrad_edu."):  # where its backward is written
            return self.book.special("call", (rule, *operands), array.shape, array.batched)
        if rule.name in ("max", "min"):
            return self.book.make("most", rule.name, *operands)
        if rule.name in ACTIVATIONS:
            return self.book.make(rule.name, *operands, *rule.parameters.values())
        return super()._applied(array, operands)


class JaxText(Textbook):
    """Writes formulas in JAX. `rules` has the function of each rule: its name and its source."""

    forms = OPERATORS | {
        "pow": Form("{} ** {}", POWER, (ATOM, ATOM)),
        "abs": Form("{0} * jnp.sign({0})", PRODUCT, (ATOM,)),  # the slope of jnp.abs at 0 is 1
        "equal": Form("({} == {}) * 1.0", PRODUCT, (SUM, SUM)),
    }

    def __init__(
        self, names: Mapping[Symbol, str], constant: Callable[[Any], str] = str, taken: Iterable[str] = ()
    ):
        super().__init__(names, constant)
        self.rules: dict[tuple[Rule, int], tuple[str, str]] = {}
        self._taken = set(taken)

    def number(self, x: Any) -> str:
        return re.sub("(inf|nan)", r"jnp.\1", super().number(x))

    def operation(self, x: Symbol) -> Written:
        if x.op in OPERATIONS:
            return OPERATIONS[x.op](self, x)
        form = self.forms.get(x.op)
        if not form:
            call = CALLS.get(x.op) or f"jnp.{x.op}({', '.join(['{}'] * len(x.args))})"
            form = Form(call, ATOM, (CHOICE,) * len(x.args))
        parts = [self.beside(part, x.shape, level) for part, level in zip(x.args, form.operands, strict=True)]
        return form.text.format(*parts), form.level

    def beside(self, x: Any, shape: tuple[int, ...], level: int = CHOICE) -> str:
        """x where it stands beside batched arrays of this shape: the axis of examples comes first."""
        if isinstance(x, Symbol) and x.batched and len(x.shape) < len(shape):
            axes = ["None"] * (len(shape) - len(x.shape)) + [":"] * len(x.shape)
            return f"{self.text(x, ATOM)}[:, {bare(axes)}]"
        return self.text(x, level)

    def full(self, x: Any, shape: tuple[int, ...], batched: bool, level: int = CHOICE) -> str:
        """x as an array of exactly this shape."""
        if isinstance(x, Symbol) and (x.shape, x.batched) == (shape, batched):
            return self.text(x, level)
        sizes = tuple_text(("B", *shape) if batched else shape)
        if isinstance(x, Symbol):
            return f"jnp.broadcast_to({self.beside(x, shape)}, {sizes})"
        return f"jnp.full({sizes}, {self.text(x)}, dtype)"

    def call(self, rule: Rule, n: int) -> str:
        """The name of the function of a rule with so many inputs."""
        if (rule, n) not in self.rules:
            name = rule.name if rule.name.isidentifier() else "rule"
            while name in self._taken:
                name += "_"
            self._taken.add(name)
            self.rules[rule, n] = name, rule_source(rule, n, name)
        return self.rules[rule, n][0]


# --- Operations that are more than a form -----------------------------------------------------------------------


def _stack(text: JaxText, x: Symbol) -> Written:
    return _side_by_side(text, x.args, x.shape[:-1], x.batched), ATOM


def _side_by_side(text: JaxText, parts: Iterable[Any], shape: tuple[int, ...], batched: bool) -> str:
    return f"jnp.stack([{bare(text.full(part, shape, batched) for part in parts)}], axis=-1)"


def _most(text: JaxText, x: Symbol) -> Written:
    """The max or min of several arrays at once, since equal ones share evenly."""
    name, *parts = x.args
    if len(parts) == 2:
        return f"jnp.{name}imum({bare(text.beside(part, x.shape) for part in parts)})", ATOM
    return f"jnp.{name}({_side_by_side(text, parts, x.shape, x.batched)}, axis=-1)", ATOM


def _max(text: JaxText, x: Symbol) -> Written:
    """The max along the last axis, of two arrays, or of more as max(max(a, b), c)."""
    parts = list(x.args)
    if len(parts) == 1:
        return f"jnp.max({text.text(parts[0])}, axis=-1)", ATOM
    if not isinstance(parts[1], Symbol):  # the form of relu in `symbols.py`
        return f"jax.nn.relu({text.text(parts[0])})", ATOM
    while isinstance(parts[0], Symbol) and parts[0].op == "max" and parts[0] not in text.names:
        parts[:1] = parts[0].args
    return f"jnp.max({_side_by_side(text, parts, x.shape, x.batched)}, axis=-1)", ATOM


def _view(text: JaxText, x: Symbol) -> Written:
    base, view = x.args
    return view.text(text.text(base, ATOM), base.batched, text.constant), ATOM


def _expand(text: JaxText, x: Symbol) -> Written:
    return f"{text.text(x.args[0], ATOM)}[..., None]", ATOM


def _dense(text: JaxText, x: Symbol) -> Written:
    return text.full(x.args[0], x.shape, x.batched, ATOM), ATOM


def _accumulate(text: JaxText, x: Symbol) -> Written:
    first, *rest = x.args
    total = text.beside(first, x.shape, SUM)
    for term in rest:
        minus = isinstance(term, Symbol) and term.op == "neg" and term not in text.names
        total += (
            " - " + text.beside(term.args[0], x.shape, PRODUCT)
            if minus
            else " + " + text.beside(term, x.shape, SUM)
        )
    if isinstance(first, Symbol) and (first.shape, first.batched) == (x.shape, x.batched):
        return total, SUM
    return f"jnp.broadcast_to({total}, {tuple_text(('B', *x.shape) if x.batched else x.shape)})", ATOM


def _pick(text: JaxText, x: Symbol) -> Written:
    options, index = (text.text(part, ATOM) + "[None]" * (x.batched and not part.batched) for part in x.args)
    return f"jnp.take_along_axis({options}, {index}[..., None].astype(int), axis=-1)[..., 0]", ATOM


def _rows(text: JaxText, x: Symbol) -> Written:
    return "{}[{}.astype(int)]".format(*(text.text(part, ATOM) for part in x.args)), ATOM


def _product(text: JaxText, x: Symbol) -> Written:
    """Rows of a times rows of b: b @ a.T."""
    a, b = x.args
    text_a, text_b = text.text(a, ATOM), text.text(b, ATOM)
    if len(a.shape) == len(b.shape) == 1 and a.batched:
        return f"jnp.vecdot({text_a}, {text_b})", ATOM
    if a.batched and 1 in (len(a.shape), len(b.shape) * b.batched):  # one row for each example is no matrix
        axes = ["b" * f.batched + names[-len(f.shape) :] for f, names in ((a, "hik"), (b, "hjk"))]
        out = "".join(axis for axis in "bhji" if axis in "".join(axes))
        return f'jnp.einsum("{axes[0]},{axes[1]}->{out}", {text_a}, {text_b})', ATOM
    turned = f"{text_a}.mT" if len(a.shape) + a.batched > 2 else transposed(text_a)
    return f"{text_b} @ {text_a if len(a.shape) == 1 else turned}", SUM


def _call(text: JaxText, x: Symbol) -> Written:
    rule, *operands = x.args
    return f"{text.call(rule, len(operands))}({bare(text.full(y, x.shape, x.batched) for y in operands)})", ATOM


OPERATIONS: dict[str, Callable[[JaxText, Symbol], Written]] = {
    "accumulate": _accumulate,
    "call": _call,
    "dense": _dense,
    "expand": _expand,
    "max": _max,
    "most": _most,
    "pick": _pick,
    "product": _product,
    "rows": _rows,
    "stack": _stack,
    "view": _view,
}


# --- Rules and equations as functions ---------------------------------------------------------------------------

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
    inputs = [book.leaf(x) for x in names]
    try:
        out = rule.forward(*inputs)
        shares = rule.shares(book.leaf("upstream"), book.leaf("out"), *inputs)
        zero = book.make("zeros_like", inputs[0])  # gives a number, or a choice of two, the dtype of an input
        out = out if isinstance(out, Symbol) and out.op not in CHOICES else zero + out
        shares = [share if isinstance(share, Symbol) else zero + share for share in shares]
    except Exception as error:  # a rule of the user's may do anything with its numbers
        raise TypeError(
            f"The rule {rule.name} does not run on symbols, so JAX cannot run it ({error}). Write it with "
            "operators and functions of tinygrad_edu.elementary: sin instead of math.sin, where instead of a "
            "branch."
        ) from None
    forward, backward = _returned(out), _returned(*shares, many=True)
    return RULE.format(name=name, inputs=bare(names), forward=forward, backward=backward)


def update_source(optimizer: Any) -> str:
    """The equation of an optimiser as a function. Raises any error that it raises on symbols."""
    _, vectors, results = equation(optimizer)
    names = ["t", "lr", "gradient", *(vector.args[0] for vector in vectors)]
    return f"def update({bare(names)}):\n{_returned(*results, many=True)}"


def _returned(*results: Any, many: bool = False) -> str:
    """The lines of a function that returns these formulas."""
    statements, texts = JaxText({}).body(list(results))
    lines = [*statements, f"return {tuple_text(texts) if many else texts[0]}"]
    return "".join(f"    {line}\n" for line in lines)


# --- The module -------------------------------------------------------------------------------------------------

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
    """Writes the source of one program: `source`. Raises TypeError for a rule that does not run on symbols."""

    def __init__(self, program: JaxProgram, title: str, gradient: bool):
        self.program, self.arrays = program, program.lowered.arrays
        outputs, self._positions = program.lowered.outputs, dict[Any, str]()
        (root, place), others = outputs[0], outputs[1:]
        results: list[Any] = [[(program.read(root, np.array(place)), ())]] if gradient else []
        results += [self._columns(others if gradient else outputs)] if others or not gradient else []
        names = {symbol: str(symbol.args[0]) for symbol in program.symbols.values()}
        numbers = {program.book.leaf(n, c.shape): f"{n}.astype(dtype)" for n, c in program.constants.items()}
        self.text = JaxText(names | numbers, self._constant, names.values())
        self.source = self._module(title, results, MEAN * (gradient and not others))

    def _module(self, title: str, results: list[Any], rest: str) -> str:
        inputs = {array.source[1]: array.name for array in self._leaves("input")}
        names = [inputs.get(i, f"_{i}") for i in range(self.program.n_inputs)]
        lines = self._parameters()
        for made in self.program.definitions:
            lines += self._scan(made) if isinstance(made, Scan) else [self._defined(made)]
        texts = [[self.text.full(x, shape, True) for x, shape in parts] for parts in results]
        texts = [parts if len(parts) == 1 else [f"jnp.concatenate([{bare(parts)}], axis=1)"] for parts in texts]
        lines.append(f"return {bare(text for (text,) in texts)}")
        cast = [f"{name} = jnp.asarray({name}, dtype)" for name in inputs.values()]
        if re.search(r"\bB\b", re.sub("  # .*", "", "\n".join(lines))):
            cast.append(f"B = len({names[0]})" if names else "B = 1")
        arguments, constants = bare(["parameters", *names]), self.program.constants
        return MODULE.format(
            title=title,
            imports="import numpy as np\n" * bool(constants),
            rules="".join(f"{source}\n\n" for _, source in self.text.rules.values()),
            arguments=arguments,
            lines="".join(f"    {line}".rstrip() + "\n" for line in ["dtype = parameters.dtype", *cast, *lines]),
            rest=rest.format(arguments=arguments),
            constants="\n\n" * bool(constants)
            + "".join(f"{name} = {_array(numbers)}\n" for name, numbers in constants.items()),
        )

    def _defined(self, made: Definition) -> str:
        return _line(made.array, self.text.full(made.formula, made.array.shape, made.array.batched))

    def _scan(self, scan: Scan) -> list[str]:
        loop, full = scan.loop, self.text.full
        state, after, end, like = list[str](), list[str](), list[str](), list[Array]()
        for array, before in loop.initial.items():
            names = [_before(array, distance) for distance in range(len(before), 0, -1)]
            state += names
            after += [*names[1:], array.name]
            end += [*"_" * (len(names) - 1), f"{array.name}_end"]
            like += [array] * len(names)
        initial = [full(x, array.shape, array.batched) for x, array in zip(scan.initial, like, strict=True)]
        windows = [
            full(x, window.index.shape, leaf.batched, ATOM) + ".swapaxes(0, 1)" * leaf.batched
            for x, (leaf, window) in zip(scan.windows, loop.windows.items(), strict=True)
        ]
        stacked = tuple_text([array.name for array in scan.stacked])
        body = [f"{tuple_text(state)} = state", f"{tuple_text([leaf.name for leaf in loop.windows])} = now"]
        body += [*map(self._defined, scan.stage), f"return {tuple_text(after)}, {stacked}"]
        left = f"{tuple_text(end)}, {tuple_text([f'{array.name}_stages' for array in scan.stacked])}"
        call = f"jax.lax.scan({scan.name}, {tuple_text(initial)}, {tuple_text(windows)}, {loop.length})"
        return ["", f"def {scan.name}(state, now):", *(f"    {line}" for line in body), "", f"{left} = {call}"]

    def _leaves(self, kind: str) -> list[Array]:
        return [array for array in self.arrays if array.source[:1] == (kind,)]

    def _columns(self, outputs: list[tuple[Array, int]]) -> list[tuple[Any, tuple[int, ...]]]:
        """The outputs as arrays with one row for each example, and the shapes of the rows."""
        runs = [(a, np.array([place for _, place in run])) for a, run in groupby(outputs, operator.itemgetter(0))]
        return [(self.program.read(array, places), places.shape) for array, places in runs]

    def _constant(self, array: Any) -> str:
        """The name of an array of positions."""
        key, constants = (array.shape, array.tobytes()), self.program.constants
        if key not in self._positions:
            self._positions[key] = f"index_{len(constants) + 1}"
            constants[self._positions[key]] = array
        return self._positions[key]

    def _parameters(self) -> list[str]:
        """Lines that read the parameters. Their vector is split into parts that have no parameter in common.

        The gradient of a split is one concatenation. The gradient of a slice is as long as the whole vector.
        """
        parts: list[list[Array]] = []
        bounds, lines = [0], []
        for array in sorted(self._leaves("parameter"), key=lambda array: int(array.places.min())):
            first, after = int(array.places.min()), int(array.places.max()) + 1
            if array.source == THETA:
                lines.append(_line(array, f"parameters[{first}:{after}]"))
                continue
            if first >= bounds[-1]:
                bounds.append(0)
                parts.append([])
            parts[-1].append(array)
            bounds[-1] = max(bounds[-1], after)
        names = [part[0].name if len(part) == 1 else f"part_{i}" for i, part in enumerate(parts, 1)]
        vector, cuts = f"parameters[:{bounds[-1]}]", bounds[1:-1]
        lines += [f"{bare(names)} = {f'jnp.split({vector}, {cuts})' if cuts else vector}"] if parts else []
        for name, part, (first, after) in zip(names, parts, pairwise(bounds), strict=True):
            lines += _columns(name, part, first, after) or self._views(name, part, first, after)
        return lines

    def _views(self, name: str, part: list[Array], first: int, after: int) -> list[str]:
        """Lines that read arrays from a part of the vector, which has the parameters from first to after."""
        lines = []
        for array in part:
            view = view_of(array.places.reshape(array.shape) - first, (after - first,), repeats=False)
            if name != array.name or not view.is_identity:
                lines.append(_line(array, view.text(name, False, self._constant)))
        return lines


def _columns(name: str, part: list[Array], first: int, after: int) -> list[str]:
    """The same lines for arrays that stand side by side, as columns of one matrix; none if they do not."""
    n, *_ = part[0].shape or (1,)
    places = [array.places.reshape(n, -1) for array in part if array.shape[:1] == (n,)]
    if len(places) < max(len(part), 2) or not np.array_equal(np.hstack(places).ravel(), np.arange(first, after)):
        return []
    ends = np.cumsum([columns.shape[1] for columns in places]).tolist()
    matrix = f"{name}.reshape({n}, {ends[-1]})"
    lines = [f"{bare(array.name for array in part)} = jnp.split({matrix}, {ends[:-1]}, axis=1)"]
    return lines + [_line(a, f"{a.name}.reshape({bare(a.shape)})") for a in part if len(a.shape) != 2]


def _array(numbers: Any) -> str:
    """An array of numbers, or of positions: those of 64 bits fail in JAX where jax_enable_x64 has changed."""
    return f"np.array({array_text(numbers)}{', np.int32' * (numbers.dtype.kind == 'i')})"


def _line(array: Array, text: str) -> str:
    """A line of the source, with the shape of the array."""
    return f"{array.name} = {text}  # ({bare(('B', *array.shape) if array.batched else array.shape)})"
