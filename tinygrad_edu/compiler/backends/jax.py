"""JAX: a program as source that a person would have written, pure functions of arrays.

`examples(parameters, X, Y)` is what the function returns for each example of a batch. Only this forward pass is
written. Its gradient is `jax.value_and_grad` of the mean, so a caller may differentiate by the inputs too, or
differentiate again. A rule from outside the package keeps its own backward as a `jax.custom_vjp`.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import numpy as np

from ...engine.rule import Rule
from ..differentiate import ArrayProgram
from ..formulas import ATOM, CHOICE, OPERATORS, POWER, PRODUCT, SUM, Form
from ..lower import Array, Lowered
from ..symbols import Book, Symbol
from ..update import equation
from ..views import strides_of, view_of
from .numpy_operations import Textbook, Written, bare, transposed, tuple_text

# Rules that JAX has under a name, with our value and our slope; kinks included.
ACTIVATIONS = {
    "detach": "jax.lax.stop_gradient({})",
    "elu": "jax.nn.elu({}, {})",
    "gelu": "jax.nn.gelu({}, approximate=False)",
    "relu": "jax.nn.relu({})",
    "silu": "jax.nn.silu({})",
    "softplus": "jax.nn.softplus({})",
}
ELSEWHERE = {  # elementary functions that are not in jax.numpy
    "sigmoid": "jax.nn.sigmoid",
    "erf": "jax.scipy.special.erf",
    "erfc": "jax.scipy.special.erfc",
}
OURS = "tinygrad_edu."


class JaxProgram(ArrayProgram):
    """The forward pass of a lowered program, where activations are calls of JAX and own rules are calls of theirs."""

    def __init__(self, lowered: Lowered, n_inputs: int):
        super().__init__(lowered, n_inputs, gradient=False)

    def _applied(self, array: Array, operands: list[Any]) -> Any:
        rule: Any = array.rule
        if not rule._declared[3].__module__.startswith(OURS):
            return self.book.special("call", (rule, *operands), array.shape, array.batched)
        if rule.name in ("max", "min"):  # several at once, since equal ones share evenly
            return self._extreme(rule.name, array, operands)
        if rule.name in ACTIVATIONS:
            return self.book.make(rule.name, *operands, *rule.parameters.values())
        return super()._applied(array, operands)

    def _extreme(self, name: str, array: Array, operands: list[Any]) -> Symbol:
        if len(operands) == 2:
            made: Symbol = self.book.make(f"{name}imum", *operands)
            return made
        stack = self.book.special("stack", operands, (*array.shape, len(operands)), array.batched)
        return self.book.special(name, (stack,), array.shape, array.batched)


class JaxText(Textbook):
    """Writes formulas in JAX. `rules` are the functions that were written for rules, by the rule and its inputs."""

    forms: ClassVar[Mapping[str, Form]] = {
        **OPERATORS,
        **{name: Form(text, ATOM, (CHOICE,) * text.count("{}")) for name, text in ACTIVATIONS.items()},
        "abs": Form("{0} * jnp.sign({0})", PRODUCT, (ATOM,)),  # the slope of jnp.abs at 0 is 1
        "equal": Form("({} == {}) * 1.0", PRODUCT, (SUM, SUM)),
        "heaviside": Form("jnp.heaviside({}, 0.0)", ATOM, (CHOICE,)),
        "one_hot": Form("jax.nn.one_hot({}, {})", ATOM, (CHOICE, CHOICE)),
    }

    def __init__(self, names: Mapping[Symbol, str], constant: Callable[[Any], str], taken: Iterable[str] = ()):
        super().__init__(names, constant)
        self.rules: dict[Any, tuple[str, str]] = {}  # (rule, number of inputs) -> its name and its source
        self._taken = set(taken)

    def operation(self, x: Symbol) -> Written:
        if x.op in OPERATIONS:
            return OPERATIONS[x.op](self, x)
        form = self.forms.get(x.op)
        if form is None:
            name = ELSEWHERE.get(x.op, f"jnp.{x.op}")
            form = Form(f"{name}({', '.join(['{}'] * len(x.args))})", ATOM, (CHOICE,) * len(x.args))
        parts = [self.beside(part, x.shape, level) for part, level in zip(x.args, form.operands, strict=True)]
        return form.text.format(*parts), form.level

    def beside(self, x: Any, shape: tuple[int, ...], level: int = CHOICE) -> str:
        """x where it stands beside batched arrays of this shape: the axis of examples comes first."""
        if isinstance(x, Symbol) and x.batched and len(x.shape) < len(shape):
            axes = ["None"] * (len(shape) - len(x.shape)) + [":"] * len(x.shape)
            return f"{self.text(x, ATOM)}[:, {', '.join(axes)}]"
        return self.text(x, level)

    def full(self, x: Any, shape: tuple[int, ...], batched: bool, level: int = CHOICE) -> str:
        """x as an array of exactly this shape."""
        if isinstance(x, Symbol) and (x.shape, x.batched) == (shape, batched):
            return self.text(x, level)
        sizes = tuple_text(("B", *shape) if batched else shape)
        if not isinstance(x, Symbol):
            return f"jnp.full({sizes}, {self.text(x)}, dtype)"
        return f"jnp.broadcast_to({self.beside(x, shape)}, {sizes})"

    def call(self, rule: Rule, n: int) -> str:
        """The name of the function of a rule with so many inputs."""
        if (rule, n) not in self.rules:
            name = rule.name if rule.name.isidentifier() else "rule"
            while name in self._taken:
                name += "_"
            self._taken.add(name)
            self.rules[rule, n] = name, rule_source(rule, n, name)
        return self.rules[rule, n][0]


# --- Operations ---------------------------------------------------------------------------------------------------
# Each writes one operation of symbols: its text, and how tightly this holds together.


def _power(text: JaxText, x: Symbol) -> Written:
    base, exponent = x.args
    power = f"{text.beside(base, x.shape, ATOM)} ** {text.beside(exponent, x.shape, ATOM)}"
    if isinstance(base, Symbol) and (isinstance(exponent, Symbol) or exponent == 0):  # nan ** 0 is nan here
        return f"jnp.where(jnp.isnan({text.beside(base, x.shape)}), jnp.nan, {power})", ATOM
    return power, POWER


def _largest(text: JaxText, x: Symbol) -> Written:
    if len(x.args) == 2:  # the form of relu in `symbols.py`
        return f"jax.nn.relu({text.text(x.args[0])})", ATOM
    return _over_last_axis(text, x)


def _over_last_axis(text: JaxText, x: Symbol) -> Written:
    name = {"logsumexp": "jax.nn.logsumexp"}.get(x.op, f"jnp.{x.op}")
    return f"{name}({text.text(x.args[0])}, axis=-1)", ATOM


def _view(text: JaxText, x: Symbol) -> Written:
    base, view = x.args
    return view.text(text.text(base, ATOM), base.batched, text.constant), ATOM


def _expand(text: JaxText, x: Symbol) -> Written:
    return f"{text.text(x.args[0], ATOM)}[..., None]", ATOM


def _dense(text: JaxText, x: Symbol) -> Written:
    return text.full(x.args[0], x.shape, x.batched, ATOM), ATOM


def _stack(text: JaxText, x: Symbol) -> Written:
    parts = [text.full(part, x.shape[:-1], x.batched) for part in x.args]
    return f"jnp.stack([{', '.join(parts)}], axis=-1)", ATOM


def _accumulate(text: JaxText, x: Symbol) -> Written:
    first, *rest = x.args
    total = text.beside(first, x.shape, SUM)
    for term in rest:
        minus = isinstance(term, Symbol) and term.op == "neg" and term not in text.names
        total += (
            f" - {text.beside(term.args[0], x.shape, PRODUCT)}"
            if minus
            else f" + {text.beside(term, x.shape, SUM)}"
        )
    if isinstance(first, Symbol) and (first.shape, first.batched) == (x.shape, x.batched):
        return total, SUM
    return f"jnp.broadcast_to({total}, {tuple_text(('B', *x.shape) if x.batched else x.shape)})", ATOM


def _vecdot(text: JaxText, x: Symbol) -> Written:
    return f"jnp.vecdot({', '.join(map(text.text, x.args))})", ATOM


def _pick(text: JaxText, x: Symbol) -> Written:
    """options[n, index[n]]."""
    options, index = x.args
    batched = options.batched or index.batched
    left, right = (text.text(part, ATOM) + ("[None]" if batched and not part.batched else "") for part in x.args)
    return f"jnp.take_along_axis({left}, {right}[..., None].astype(int), axis=-1)[..., 0]", ATOM


def _rows(text: JaxText, x: Symbol) -> Written:
    table, index = x.args
    return f"{text.text(table, ATOM)}[{text.text(index, ATOM)}.astype(int)]", ATOM


def _product(text: JaxText, x: Symbol) -> Written:
    """Rows of a times rows of b: b @ a.T."""
    a, b = x.args
    text_a, text_b = text.text(a, ATOM), text.text(b, ATOM)
    if len(a.shape) == len(b.shape) == 1 and a.batched:
        return f"jnp.vecdot({text_a}, {text_b})", ATOM
    a_is_row, b_is_row = (len(factor.shape) == 1 and factor.batched for factor in (a, b))
    if a_is_row or (b_is_row and a.batched):  # one row for each example is no matrix
        axes_a, axes_b = ("b" * f.batched + axes[-len(f.shape) :] for f, axes in ((a, "hik"), (b, "hjk")))
        out = "".join(axis for axis in "bhji" if axis in axes_a + axes_b)
        return f'jnp.einsum("{axes_a},{axes_b}->{out}", {text_a}, {text_b})', ATOM
    if len(a.shape) == 1:
        return f"{text_b} @ {text_a}", SUM
    return f"{text_b} @ {f'{text_a}.mT' if len(a.shape) + a.batched > 2 else transposed(text_a)}", SUM


def _call(text: JaxText, x: Symbol) -> Written:
    """A rule with a backward of its own, on arrays of one shape."""
    rule, *operands = x.args
    parts = [text.full(part, x.shape, x.batched) for part in operands]
    return f"{text.call(rule, len(parts))}({', '.join(parts)})", ATOM


OPERATIONS: dict[str, Callable[[JaxText, Symbol], Written]] = {
    "pow": _power,
    "max": _largest,
    "min": _over_last_axis,
    "sum": _over_last_axis,
    "logsumexp": _over_last_axis,
    "view": _view,
    "expand": _expand,
    "dense": _dense,
    "stack": _stack,
    "accumulate": _accumulate,
    "vecdot": _vecdot,
    "pick": _pick,
    "rows": _rows,
    "product": _product,
    "call": _call,
}


# --- Rules with a backward of their own ---------------------------------------------------------------------------

RULE = """@jax.custom_vjp
def {name}({inputs}):
{forward}    return {result}


def {name}_forward({inputs}):
    out = {name}({inputs})
    return out, (out, {inputs})


def {name}_backward(residuals, upstream):
    out, {inputs} = residuals
{backward}    return {shares}


{name}.defvjp({name}_forward, {name}_backward)"""


def rule_source(rule: Rule, n: int, name: str) -> str:
    """A rule of n inputs as a `jax.custom_vjp`. Raises TypeError, naming the rule, if it does not run on symbols."""
    names = [f"x{i}" for i in range(n)] if n > 1 else ["x"]
    book, text = Book(), JaxText({}, str)
    inputs = [book.leaf(x) for x in names]
    try:
        results = [rule.forward(*inputs), *rule.shares(book.leaf("upstream"), book.leaf("out"), *inputs)]
        if not all(isinstance(x, Symbol | int | float) for x in results):
            raise TypeError("it gives no formula")
    except Exception as error:  # a rule of the user's may do anything with its numbers
        raise TypeError(
            f"The rule {rule.name} does not run on symbols, so JAX cannot run it: {error}. Write it with operators "
            "and the functions of tinygrad_edu.elementary, sin instead of math.sin and where instead of a branch."
        ) from None
    bodies = []
    for part in (results[:1], results[1:]):
        statements, texts = text.body(part)
        # A number has the shape and the dtype of an input.
        texts = [
            t if isinstance(x, Symbol) else f"jnp.full_like({names[0]}, {t})"
            for x, t in zip(part, texts, strict=True)
        ]
        bodies.append(("".join(f"    {line}\n" for line in statements), texts))
    (forward, (result,)), (backward, shares) = bodies
    return RULE.format(
        name=name, inputs=bare(names), forward=forward, result=result, backward=backward, shares=tuple_text(shares)
    )


def update_source(optimizer: Any) -> str:
    """The equation of an optimiser as a function. Raises any error that it raises on symbols."""
    _, vectors, results = equation(optimizer)
    statements, texts = JaxText({}, str).body(list(results))
    lines = [*statements, f"return {tuple_text(texts)}"]
    arguments = bare(["t", "lr", "gradient", *(vector.args[0] for vector in vectors)])
    return f"\ndef update({arguments}):\n" + "".join(f"    {line}\n" for line in lines)


# --- The module ---------------------------------------------------------------------------------------------------

MEAN = """


def mean({arguments}):
    return examples({arguments}).mean()


function = jax.value_and_grad(mean)
"""
MEAN_AND_OUTPUTS = """


def mean({arguments}):
    losses, outputs = examples({arguments})
    return losses.mean(), outputs


function = jax.value_and_grad(mean, has_aux=True)
"""


def jax_source(lowered: Lowered, n_inputs: int, gradient: bool, title: str) -> str:
    """The source of a program: `examples`, and with a gradient `function`, which returns the mean and its gradient.

    Raises TypeError for a rule that does not run on symbols.
    """
    return _Module(JaxProgram(lowered, n_inputs), gradient, title).source


class _Module:
    def __init__(self, program: JaxProgram, gradient: bool, title: str):
        self.program, self.arrays = program, program.lowered.arrays
        self.constants: dict[str, Any] = dict(program.constants)
        self._known: dict[Any, str] = {}
        self._n_parameters = max((int(a.places.max()) + 1 for a in self._leaves("parameter")), default=0)
        names = {symbol: array.name for array, symbol in program.symbols.items()}
        numbers = {program.book.leaf(n, c.shape): f"{n}.astype(dtype)" for n, c in program.constants.items()}
        self.text = JaxText(names | numbers, self._constant, names.values())
        inputs = {array.source[1]: array.name for array in self._leaves("input")}
        arguments = [inputs.get(i, f"_{i}") for i in range(program.n_inputs)]
        lines = [self._parameter(array) for array in self._leaves("parameter")]
        lines += [
            self._defined(d.name, self.text.full(d.formula, d.array.shape, d.array.batched), d.array)
            for d in program.definitions
        ]
        outputs = program.lowered.outputs
        rest = gradient and len(outputs) > 1
        lines.append(f"return {self._root(*outputs[0])}" if gradient else f"return {self._stacked(outputs)}")
        lines[-1] += f", {self._stacked(outputs[1:])}" if rest else ""
        lines = [*(f"{name} = jnp.asarray({name}, dtype)" for name in inputs.values()), *lines]
        if re.search(r"\bB\b", "\n".join(line.partition("  # ")[0] for line in lines)):
            lines.insert(len(inputs), f"B = len({arguments[0]})" if arguments else "B = 1")
        if any("dtype" in line for line in lines):
            lines.insert(0, "dtype = parameters.dtype")
        body = "".join(f"    {line}\n" for line in lines)
        head = f"def examples({bare(['parameters', *arguments])}):\n"
        head += '    """What the function returns for each example of a batch."""\n'
        blocks = [*(source for _, source in self.text.rules.values()), head + body.rstrip()]
        code = "\n\n\n".join(blocks)
        if gradient:
            code += (
                (MEAN_AND_OUTPUTS if rest else MEAN).format(arguments=bare(["parameters", *arguments])).rstrip()
            )
        if self.constants:
            code += "\n\n\n" + "\n".join(
                f"{n} = np.array({array.tolist()})" for n, array in self.constants.items()
            )
        imports = "import jax\nimport jax.numpy as jnp\n" + "import numpy as np\n" * bool(self.constants)
        special = [name for name in ("inf", "nan") if re.search(rf"(?<!\.)\b{name}\b", code)]
        imports += f"from numpy import {bare(special)}\n" if special else ""
        self.source = f'"""{title}"""\n\n{imports}\n\n{code}\n'

    def _leaves(self, kind: str) -> list[Array]:
        return [array for array in self.arrays if array.source[:1] == (kind,)]

    def _constant(self, array: Any) -> str:
        """The name of an array of numbers."""
        key = (array.dtype.char, array.shape, array.tobytes())
        if key not in self._known:
            name = self._known[key] = f"index_{len(self.constants) + 1}"
            self.constants[name] = array
        return self._known[key]

    def _defined(self, name: str, text: str, array: Array) -> str:
        shape = bare([*(["B"] if array.batched else []), *array.shape])
        return f"{name} = {text}  # ({shape})"

    def _parameter(self, array: Array) -> str:
        """A parameter as a slice of the vector: the shortest part of it that is rows of one length."""
        places, first, n = array.places.reshape(array.shape), 0, self._n_parameters
        strides = strides_of(places)
        if strides and (len(strides) > 1 or strides == (1,)) and strides[0] * len(places) <= n:
            n = strides[0] * len(places)
            first = max(0, min(int(places.flat[0]), self._n_parameters - n))
        name = "parameters" if n == self._n_parameters else f"parameters[{first}:{first + n}]"
        view = view_of(places - first, (n,), repeats=False)
        return self._defined(array.name, view.text(name, False, self._constant), array)

    def _root(self, array: Array, place: int) -> str:
        """One number for each example."""
        if array.batched and array.shape == ():
            return array.name
        return f"{self._rows(array)}[:, {place}]"

    def _rows(self, array: Array) -> str:
        """All numbers of an array, in one row for each example."""
        if array.source == ("constant",):
            return f"jnp.broadcast_to({self._constant(array.places)}.astype(dtype), (B, {array.size}))"
        if not array.batched:
            return f"jnp.broadcast_to({array.name}.reshape({array.size}), (B, {array.size}))"
        return array.name if len(array.shape) == 1 else f"{array.name}.reshape(B, {array.size})"

    def _stacked(self, outputs: list[tuple[Array, int]]) -> str:
        """The outputs of every example in one array (B, number of outputs)."""
        starts: dict[Array, int] = {}
        for array, _ in outputs:
            starts.setdefault(array, sum(other.size for other in starts))
        columns = np.array([starts[array] + place for array, place in outputs], np.intp)
        parts = list(map(self._rows, starts))
        text = parts[0] if len(parts) == 1 else f"jnp.concatenate([{bare(parts)}], axis=1)"
        if len(columns) == sum(array.size for array in starts) and (columns == np.arange(len(columns))).all():
            return text
        return f"{text}[:, {self._constant(columns)}]"
