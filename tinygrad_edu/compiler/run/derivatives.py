"""Derivatives beyond the gradient of the mean: per example, of every output, by the inputs, of second order.

Each is a program of its own: reverse mode on the program of `predict`, and for second order on its own result. It
is compared with the eager engine before its numbers are used.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...engine.calculus import gradients
from ...engine.value import Value
from ..backends.numpy import buffers_of, constants_of, module_of
from ..backends.numpy_statements import Statements
from ..backends.text import bare, tuple_text
from ..ir.fission import fission
from ..ir.front import Front
from ..ir.gradient import gradient
from ..ir.plan import Parameter, element_of, parameters_of
from ..ir.routine import Access, Array, Loop, Routine, Stmt, new_name, whole
from ..trace.checks import TOLERANCE, CompileError
from ..trace.nesting import flat_values
from .batches import examples
from .build import Build
from .pipeline import defined
from .verify import judged, points, rounding

TRIED = 8  # points at which a program is compared with the engine
LARGEST = 40_000  # numbers in one array of products with the Hessian, for the cache; more are taken in parts
np.empty(31 << 17)  # freed at once: from then on glibc keeps arrays for the next call, which is twice as fast
TITLES = {
    "per_example_grads": "The gradient of every example: an array (B, n).",
    "jacobian": "The gradient of the outputs, weighted by `seed`, of every example: an array (B, n).",
    "hvp": "The Hessian of the mean times `vector`: n numbers.",
    "hessian": "The Hessian of the mean over N examples times each of K `vectors`: an array (K, n).",
    "input_grads": "The gradient of every example by its inputs: an array for each argument.",
}


class Derivative:
    """A program that computes one kind of derivatives, and its source. `width`: of its largest array."""

    def __init__(self, kind: str, source: str, run: Callable[..., Any], width: int = 1):
        self.kind, self.source, self.run, self.width = kind, source, run, width
        self.verified = False

    @np.errstate(all="ignore")  # inf and nan are results
    def __call__(self, theta: NDArray[Any], inputs: Sequence[Any], size: int, m: int, vector: Any = None) -> Any:
        """The derivatives of a batch of `size` examples with m outputs. With a vector, the Hessian times it."""
        run = self.run
        if self.kind == "jacobian":  # every example m times, each time for another output
            seed = np.tile(np.eye(m, dtype=theta.dtype), (size, 1))
            return run(theta, *(np.repeat(x, m, axis=0) for x in inputs), seed).reshape(size, m, -1)
        if self.kind == "hvp":
            return run(theta, *inputs, vector)
        if self.kind == "hessian":
            vectors = np.eye(len(theta), dtype=theta.dtype) if vector is None else vector[None]
            n = min(size, max(1, LARGEST // self.width))  # examples in a run, and then vectors
            k = max(1, LARGEST // (self.width * n))
            total = np.zeros(vectors.shape, theta.dtype)
            for i, j in product(range(0, size, n), range(0, len(vectors), k)):
                part = run(theta, *(x[i : i + n] for x in inputs), vectors[j : j + k])
                total[j : j + k] += part * (min(n, size - i) / size)
            return total
        return run(theta, *inputs)


def derivative_of(build: Build, lowered: Any, kind: str) -> Derivative:
    """The program in NumPy of one kind of derivatives, see TITLES, of what a program of `predict` computes.

    Raises CompileError for a rule that has no second derivative.
    """
    module = _DerivativeWriter(build, lowered, kind)
    width = max((stmt.out.array.size for stmt, _ in module.program.statements()), default=1)
    return Derivative(kind, module.source, defined(module.source)[kind], width)


class _DerivativeWriter:
    """Writes the source of one program."""

    def __init__(self, build: Build, lowered: Any, kind: str):
        self.kind, self.names = kind, build.names
        front = Front(lowered)
        program, self.book = fission(front.program), front.book
        n = len(lowered.outputs) - build.n_checked - (build.contract.guards.n if build.contract.guards else 0)
        outputs = lowered.outputs[:n]
        self.outputs = [element_of(front.arrays[a], i) if a in front.arrays else None for a, i in outputs]
        leaves = [leaf for leaf in program.leaves if leaf.source[:1] == ("parameter",)]
        self.inputs = {leaf.source[1]: leaf for leaf in program.leaves if leaf.source[:1] == ("input",)}
        self.along: dict[Array, Array] = {}  # for each parameter the vector
        self._names = {*self.names, *(array.name for array in front.arrays.values())}
        self.N, self.K, self.share = (new_name(name, self._names) for name in ("N", "K", "share"))
        extra = {"jacobian": "seed", "hvp": "vector"}.get(kind, "vectors")
        self.extra_name = new_name(extra, self._names)
        loss = self.outputs[build.loss or 0]
        match kind:
            case "per_example_grads":
                program = gradient(program, loss, each=True)
            case "jacobian":
                program = gradient(*self._weighted(program), each=True)
            case "input_grads":
                kinds = build.contract.kinds or [None] * len(self.names)  # whole numbers have no slope
                learning = [leaf for i, leaf in self.inputs.items() if kinds[i] is not int]
                program = gradient(_learning(program, learning), loss, "input", each=True)
            case _:
                try:
                    first = gradient(program, loss, each=kind == "hessian", again=True)
                    program = gradient(*self._along(first, leaves, kind == "hessian"), each=kind == "hessian")
                except NotImplementedError as error:
                    raise CompileError(str(error)) from None
        wanted = self.inputs.values() if kind == "input_grads" else leaves
        self.results = {leaf: program.adjoints[leaf] for leaf in wanted}
        self.program = _without_the_rest(program, self.results.values())
        varied = chain(self.along.values(), self.results.values())
        self.n_once = _bring_forward(self.program, varied) if kind == "hessian" else 0
        self.parameters = parameters_of(lowered, front, self.program)
        self.source = self._source()

    def _weighted(self, program: Routine) -> tuple[Routine, Access | None]:
        """The sum of all outputs, each with a weight of its own."""
        book, outputs = self.book, self.outputs
        total: Any = 0.0
        arrays = {access.array if access else None for access in outputs}
        array = outputs[0].array if outputs[0] else None
        if len(arrays) == 1 and array and len(outputs) == array.size > 1 and not array.stages:
            every = whole(array)  # in their order: an element is written once
            seed = self.seed = self._new_extra("weights", array.dims)
            total = book.reduce("sum", every.named, book.get(every) * book.get(every.of(seed)))
        else:
            seed = self.seed = self._new_extra("weights", (len(outputs),))
            for i, access in enumerate(outputs):
                if access:
                    total = total + book.get(Access(seed, None, seed.dims, ((i, None, 1),))) * book.get(access)
        return self._with(program, total, True)

    def _along(self, program: Routine, leaves: Iterable[Array], each: bool) -> tuple[Routine, Access | None]:
        """The gradient times a vector."""
        book = self.book
        total: Any = 0.0
        for leaf in leaves:
            every = whole(leaf)
            along = self.along[leaf] = self._new_extra(f"v_{leaf.name}", leaf.dims, each)
            slope = every.of(program.adjoints[leaf])
            total = total + book.reduce("sum", every.named, book.get(slope) * book.get(every.of(along)))
        return self._with(program, total, each)

    def _new_extra(self, name: str, dims: tuple[int, ...], batched: bool = True) -> Array:
        return Array(new_name(name, self._names), dims, batched, source=("extra",))

    def _with(self, program: Routine, total: Any, batched: bool) -> tuple[Routine, Access]:
        scalar = Access(Array("along", (), batched, True), None, (), ())
        return Routine(self.book, [*program.items, Stmt(scalar, total)], program.leaves), scalar

    def _source(self) -> str:
        kind, results, by_inputs = self.kind, self.results, self.kind == "input_grads"
        is_hessian = kind == "hessian"
        each = is_hessian or kind in ("per_example_grads", "jacobian")  # rows of a matrix
        arguments = [self.inputs[i].name if i in self.inputs else f"_{i}" for i in range(len(self.names))]
        more = [self.extra_name] if kind in ("jacobian", "hvp", "hessian") else []
        has_views = not (by_inputs or is_hessian)
        views = [x.adjoint for x in self.parameters if x.is_gradient_view and x.adjoint and has_views]
        gapped = [(x.array, x.adjoint, self.along.get(x.array)) for x in self.parameters if x.has_gaps]
        gaps = filter(None, chain(*gapped, views * each))  # those of all examples are parts of rows
        self.statements = statements = Statements(self.program, views, gaps, results.values(), self.n_once)
        buffers = {name: f"{name} = {array}" for name, array in buffers_of(statements).items()}
        sized = [*arguments, *(more if kind == "jacobian" else [])]
        N, K, share, extra = self.N, self.K, self.share, self.extra_name
        n_examples = f"len({sized[0]})" if sized else "1"
        before = [f"{N} = {n_examples}", f"{K} = B = len({extra})"] if is_hessian else [f"B = {n_examples}"]
        before.append("dtype = parameters.dtype")
        after = ["return gradient"]
        if by_inputs:
            zeros = (f"np.zeros_like({name}, dtype)" for name in arguments)
            own = [self.inputs.get(i) for i in range(len(arguments))]
            names = [results[x].name if x else zero for x, zero in zip(own, zeros, strict=True)]
            after = [f"return {tuple_text(names)}"]
        else:
            before.append(f"gradient = np.zeros(({'B, ' * each}len(parameters)), dtype)")
        if kind == "jacobian":
            before.append(f"{self.seed.name} = {extra}.reshape({bare(('B', *self.seed.dims))})")
        for x in self.parameters:
            before.append(f"{x.array.name} = {self._read(x, 'parameters')}")
            if x.array in self.along:
                along = self._read(x, extra, is_hessian)
                along = f"np.repeat({along}, {N}, axis=0)" if is_hessian else along
                before.append(f"{self.along[x.array].name} = {along}")
            if x.adjoint in views:
                before.append(f"{x.adjoint.name} = {self._read(x, 'gradient', each)}")
            elif not by_inputs:
                result = results[x.array].name
                if is_hessian:
                    result = f"({share} @ {result}.reshape({K}, {N}, -1)).reshape({bare((K, *x.array.dims))})"
                for piece in reversed(x.pieces):
                    rows = "" if piece.rows is None else f"[{':, ' * each}{piece.rows[0]}:{piece.rows[1]}]"
                    to = statements.elements.in_vector(piece, "gradient", each)
                    after.insert(0, f"{to.code}{'' if to.is_item else '[...]'} += {result}{rows}")
        if is_hessian:  # then every example once for each vector; a product is faster than mean()
            lines, names = statements.first
            before += [f"B = {N}", *map(buffers.pop, names), *lines, ""] if lines else []
            before += [f"B = {K} * {N}", f"{share} = np.full({N}, 1 / {N}, dtype)"]
            before += [
                f"{x.name} = np.concatenate([{x.name}] * {K}, axis={int(x.stages is not None)})"
                for x in self._read_again()
            ]
            after.insert(0, f"B = {K}")
        before += buffers.values()
        body = [*before, *statements.lines, "", *after]
        text = [f"def {kind}({bare(['parameters', *arguments, *more])}):", *(f"    {x}".rstrip() for x in body)]
        return module_of(TITLES[kind], statements, text, constants_of(self.program, statements))

    def _read_again(self) -> list[Array]:
        """What the statements with the vectors read of the examples: inputs, and what is computed once."""
        rest = Routine(self.book, self.program.items[self.n_once :], [])
        own = {stmt.out.array for stmt, _ in rest.statements()}.union(self.along.values())
        reads = dict.fromkeys(read.array for stmt, _ in rest.statements() for read in stmt.reads())
        return [array for array in reads if array.batched and array not in own]

    def _read(self, x: Parameter, vector: str, batched: bool = False) -> str:
        """The text of a parameter, as it lies in a vector."""
        texts = [self.statements.elements.in_vector(piece, vector, batched).code for piece in x.pieces]
        return texts[0] if len(texts) == 1 else f"np.concatenate([{bare(texts)}], axis={int(batched)})"


def _learning(program: Routine, leaves: Sequence[Array]) -> Routine:
    """The same program, where what depends on these leaves learns."""
    for leaf in program.leaves:
        leaf.learns = leaf in leaves
    for stmt, _ in program.statements():
        stmt.out.array.learns = False
    changed = True
    while changed:  # a loop reads what it has written
        changed = False
        for stmt, _ in program.statements():
            if not stmt.out.array.learns and any(read.array.learns for read in stmt.reads()):
                stmt.out.array.learns = changed = True
    return program


def _without_the_rest(program: Routine, wanted: Iterable[Array]) -> Routine:
    """The program without statements that no wanted array needs."""
    needed, items = set(wanted), list[Any]()
    for item in reversed(program.items):
        body, size = item.body, -1
        while size != len(needed):  # a loop reads what it has written
            size = len(needed)
            for stmt in reversed(body):
                if stmt.out.array in needed:
                    needed |= {read.array for read in stmt.reads()}
        body = [stmt for stmt in body if stmt.out.array in needed]
        if body:
            items.insert(0, Loop(item.axis, body, item.reverse) if isinstance(item, Loop) else item)
    return Routine(program.book, items, program.leaves, program.adjoints)


def _bring_forward(program: Routine, arrays: Iterable[Array]) -> int:
    """Items that need none of these arrays become the first ones of the program. Returns how many these are."""
    others, size = set(arrays), -1
    written = {item: {stmt.out.array for stmt in item.body} for item in program.items}
    while size != len(others):  # an array is written by several statements
        size = len(others)
        for item, own in written.items():
            if not others.isdisjoint(own.union(read.array for stmt in item.body for read in stmt.reads())):
                others |= own
    program.items.sort(key=lambda item: not others.isdisjoint(written[item]))
    return sum(map(others.isdisjoint, written.values()))


# --- Against the engine -----------------------------------------------------------------------------------------


def derivative_disagreement(build: Build, derivative: Derivative, arrays: Sequence[NDArray[Any]]) -> str | None:
    """What is wrong with a program at two examples, or "". None if the engine is defined nowhere."""

    def compared(theta: NDArray[Any], inputs: Sequence[NDArray[Any]]) -> str | None:
        with build.contract.at(theta.tolist()):
            return _at(build, derivative, build.contract.closure.learned, theta, inputs)

    tried = islice(points(build, [array[:2] for array in arrays], arrays), 2 * bool(build.contract.guards), TRIED)
    return judged(tried, compared)  # with guards, moved numbers may take another path


def _at(build: Build, derivative: Derivative, parameters: Sequence[Value], theta: Any, arrays: Any) -> str | None:
    """What is wrong for these examples. A row that is compared has the derivatives of one number."""
    kind = derivative.kind
    contract, size = build.contract, len(arrays[0]) if arrays else 1
    try:
        plain = examples(contract.picks, arrays, contract.kinds)
        outputs = [flat_values(contract.closure.function(*example))[0] for example in plain]
        if getattr(contract.closure.function, "takes_draws", False):  # the last argument, which needs no slopes
            plain = [example[:-1] for example in plain]
        rows = list(_rows(kind, build.loss or 0, parameters, plain, outputs, len(theta)))
        expected = [gradients(root, wrt) for root, wrt, _ in rows]
    except (ValueError, ArithmeticError):
        return None
    result = derivative(theta, arrays, size, len(outputs[0]), rows[0][2])
    if kind == "input_grads":
        result = np.concatenate([part.reshape(size, -1) for part in result], axis=1)
    result = result.reshape(len(rows), -1)[:, : len(rows[0][1])]
    for got, exact, (root, wrt, _) in zip(result, np.array(expected, float), rows, strict=True):
        with np.errstate(all="ignore"):
            far = np.flatnonzero(np.isfinite(exact) & ~(np.abs(got - exact) <= TOLERANCE * np.abs(exact) + 1e-300))
        allowed = rounding(root)[1] if len(far) else {}
        for i in far.tolist():
            if not abs(got[i] - exact[i]) <= 2 * allowed.get(wrt[i], 0.0):
                return f"{kind} gives {got[i]!r} at place {i}, and eagerly it is {exact[i]!r}"
    return ""


def _rows(
    kind: str, loss: int, parameters: Sequence[Value], plain: list[Any], outputs: list[Any], n: int
) -> Iterator[tuple[Value, Sequence[Value], Any]]:
    """(number of the engine's, by what it is differentiated, the vector to multiply with)."""
    if kind in ("hvp", "hessian"):
        mean = sum((own[loss] for own in outputs), Value(0.0)) / len(outputs)
        slopes = gradients(mean, parameters, create_graph=True)
        vector = np.zeros(n)
        vector[: len(slopes)] = np.random.default_rng(0).normal(size=len(slopes))
        weighted = (slope * v for slope, v in zip(slopes, vector.tolist(), strict=False))
        yield sum(weighted, Value(0.0)), parameters, vector
        return
    for example, own in zip(plain, outputs, strict=True):
        flat = chain(*(np.array(argument, object).ravel().tolist() for argument in example))
        inputs = [x if isinstance(x, Value) else Value(float(x)) for x in flat]
        for root in own if kind == "jacobian" else [own[loss]]:
            yield root, inputs if kind == "input_grads" else parameters, None
