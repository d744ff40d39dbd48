"""What a learner misunderstood: one operation alone, then in a chain, twice on a leaf, and in graphs that share nodes.

Each stage uses what the stages before have measured, so a wrong slope does not hide a wrong order. A mistake is only
ever reported with a program whose numbers differ from ours.
"""

import itertools
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ..debug.stepping import BackwardPass
from ..engine.graph import topological_order
from ..engine.value import Value
from ..viz.words import four_digits
from .learner import Answer, Learner
from .likely import upstream_mistake
from .program import Program

# --- The operations -------------------------------------------------------------------------------------------

Point = tuple[float, ...]

ANY: list[Point] = [(2.0, 3.0), (-1.5, 0.5), (0.75, -2.5)]
POSITIVE: list[Point] = [(2.0, 3.0), (0.5, 1.5), (1.25, -0.5)]
NAMED = {"a + b": "add", "a - b": "sub", "a * b": "mul", "a / b": "div", "-a": "neg"}
ARITHMETIC = (*NAMED, "a + 3", "a - 3", "a * 3", "a / 4", "3 + a", "3 - a", "3 * a", "3 / a", "a ** 2", "a ** 3")
POWERS = ("a ** -1", "a ** 0.5", "a ** b", "2 ** a", "abs(a)")
FUNCTIONS = "exp log tanh relu sigmoid sin cos tan sqrt sinh cosh atan softplus silu log1p expm1 erf".split()
OTHER_NAMES = {"log": ("ln",), "relu": ("ReLU", "Relu"), "sigmoid": ("logistic",), "atan": ("arctan",)}
REFLECTED = ("3 + a", "3 - a", "3 * a", "3 / a")


def _operations() -> Iterator[tuple[str, list[str], list[Point]]]:
    """Each operation as we write it, the ways in which an engine may write it, and where to try it."""
    for text in (*ARITHMETIC, *POWERS):
        name, operands = NAMED.get(text), "a, b" if "b" in text.replace("abs", "") else "a"
        others = [f"{name}({operands})", f"a.{name}({operands[3:]})"] if name else []
        others += [f"{f}(a, {text[5:]})" for f in ("pow", "power", "a.pow")] if text[:4] == "a **" else []
        points = POSITIVE if text in ("a ** b", "a ** 0.5") else ANY
        yield text, [text, *others], [p if operands == "a, b" else p[:1] for p in points]
    for name in FUNCTIONS:
        spellings = [s for n in (name, *OTHER_NAMES.get(name, ())) for s in (f"a.{n}()", f"{n}(a)")]
        points = POSITIVE if name in ("log", "sqrt") else [(0.5,), (-0.75,), (1.25,)]
        yield f"{name}(a)", spellings, [p[:1] for p in points]


def program_of(inputs: Iterable[float], *steps: tuple[str, Sequence[int]]) -> Program:
    """A program whose steps name their operands by place: the inputs first, then the results."""
    inputs = tuple(inputs)
    relative = []
    for n, (text, places) in enumerate(steps, start=len(inputs)):
        i = [n - 1 - place for place in places]
        relative.append((text, (*i, 0, 0, 0, 0)[:4]))
    return Program(inputs, tuple(relative))  # type: ignore[arg-type]  # four indices each


# --- What is found --------------------------------------------------------------------------------------------

MISTAKES = {
    "overwrites": "assigns instead of accumulating",
    "order": "no topological order",
    "depth": "no topological order, by creation or depth only",
    "paths": "no topological order, visits a node once per path",
    "direction": "walks the graph from the wrong end, or one operation deep",
    "upstream": "forgets upstream",
    "sign": "wrong sign",
    "swapped": "a and b swapped",
    "exponent": "a**b with the exponent's factor missing",
    "tanh": "tanh' computed from the input instead of the output",
    "relu": "relu' taken of the output or of 0",
    "repeated": "an operand used twice counts once",
    "equality": "two nodes with equal numbers are taken for one",
    "root": "the root's gradient is not set to 1",
    "start": "gradients do not start at 0",
    "reflected": "reflected operator swapped",
    "slope": "wrong slope",
    "value": "wrong result",
    "raises": "an exception",
    "unknown": "wrong gradient",
    "borrowed": "computes with tinygrad_edu",
    "unusable": "cannot be run",
}


@dataclass(frozen=True)
class Mistake:
    """One thing that is wrong: its name, a sentence, the operations, and the smallest program that shows it.

    `program` is four lines of Python, `graph` the same for our engine. `step` says the step of the chain rule at
    which the two part.
    """

    name: str
    sentence: str
    operations: tuple[str, ...] = ()
    program: str = ""
    expected: float | None = None
    got: float | None = None
    step: str = ""
    graph: Program | None = None

    def __str__(self) -> str:
        where = f", in {', '.join(self.operations)}" if self.operations else ""
        return f"{MISTAKES[self.name]}{where}" + f": {self.sentence}" * bool(self.sentence)


@dataclass(frozen=True)
class Limit:
    """What an engine does not do, or not in every case, though its gradients of one pass are right."""

    name: str  # "missing", "depth", "interior", "paths", "relu"
    sentence: str

    def __str__(self) -> str:
        return self.sentence


class Measured(NamedTuple):
    """One operation at one point: what is right, and what the engine gives."""

    point: Point
    out: float
    slopes: Point
    got_out: float
    got: Point


def near(x: float, y: float) -> bool:
    """Are they equal but for rounding in single precision, or for differences of small steps?"""
    return abs(x - y) <= 1e-4 * max(1.0, abs(y)) or x == y or (x != x and y != y)


def solved(program: Program) -> list[Value]:
    """Our results, labelled a, b, c ..., with their gradients."""
    results = program.graph()
    for node, name in zip(results, names_of(program), strict=True):
        node.label = name
    for node in topological_order(results[-1]):
        node.label = node.label or four_digits(node.data)  # the numbers in the expressions
    results[-1].backward()
    return results


def names_of(program: Program) -> list[str]:
    """What the results are called: a, b, c ..."""
    count = len(program.inputs) + len(program.steps)
    return [chr(97 + i) if count <= 26 else f"x{i}" for i in range(count)]


# --- Wrong slopes ---------------------------------------------------------------------------------------------


def _slopes_at(text: str, point: Point) -> Point:
    results = solved(program_of(point, (text, range(len(point)))))
    return tuple(float(x.grad) for x in results[: len(point)])


def _suspects(text: str, k: int) -> Iterator[tuple[str, str, Callable[[Measured], float]]]:
    """Names of mistakes, with a sentence and the slope for operand k that each gives."""
    base, _, exponent = text.partition(" ** ")
    x = "ab"[k]
    if exponent and base == "a" and k == 0:

        def power(m: Measured, less: int) -> Any:
            n = m.point[1] if exponent == "b" else float(exponent)
            return m.point[0] ** (n - less)

        def factor(m: Measured) -> float:
            return m.point[1] if exponent == "b" else float(exponent)

        yield "exponent", f"the slope is {exponent} * a**({exponent} - 1)", lambda m: power(m, 1)
        yield "slope", "the exponent is not lowered by one", lambda m: factor(m) * power(m, 0)
    yield "sign", f"the share for {x} has the other sign", lambda m: -m.slopes[k]
    if text == "tanh(a)":
        yield "tanh", "the slope is 1 - out**2", lambda m: 1 - m.point[0] ** 2
        yield "slope", "the square is missing: the slope is 1 - out**2", lambda m: 1 - m.out
    if text == "sigmoid(a)":
        yield (
            "slope",
            "computed from the input: the slope is out * (1 - out)",
            lambda m: m.point[0] * (1 - m.point[0]),
        )
        yield "slope", "the slope is out * (1 - out)", lambda m: 1 - m.out
    if text == "sqrt(a)":
        yield "slope", "computed from the input: the slope is 1 / (2 * out)", lambda m: 1 / (2 * m.point[0])
    if text in ("a * b", "a / b", "a - b", "a ** b"):
        yield "swapped", f"{x} receives the share of {'ba'[k]}", lambda m: m.slopes[1 - k]
        yield "swapped", f"the slopes are those of {text[::-1]}", lambda m: _slopes_at(text, m.point[::-1])[1 - k]
        yield "swapped", "each stands for the other in the slopes", lambda m: _slopes_at(text, m.point[::-1])[k]
    if k == 0 and "b" not in text.replace("abs", ""):
        words = "computed from the output instead of the input"
        yield "slope", words, lambda m: _slopes_at(text, (m.out,))[0]
    yield "slope", f"{x} receives nothing", lambda m: 0.0
    yield "slope", f"{x} receives upstream itself: the local slope is missing", lambda m: 1.0
    yield "slope", "upstream is added, not multiplied", lambda m: m.slopes[k] + 1
    yield "slope", "it is 1 / slope", lambda m: 1 / m.slopes[k]
    yield "slope", "it is the operand itself", lambda m: m.point[k]
    yield "slope", "it is the result itself", lambda m: m.out
    for i in range(len("ab") if "a" in text and "b" in text.replace("abs", "") else 1):
        yield "slope", f"a factor {'ab'[i]} is missing", lambda m, i=i: m.slopes[k] / m.point[i]  # type: ignore[misc]
        yield "slope", f"a factor {'ab'[i]} is too many", lambda m, i=i: m.slopes[k] * m.point[i]  # type: ignore[misc]
    yield "slope", "a factor out is missing", lambda m: m.slopes[k] / m.out
    yield "slope", "a factor out is too many", lambda m: m.slopes[k] * m.out


def _named(text: str, rows: list[Measured], k: int) -> tuple[str, str]:
    """The mistake that explains every measured slope for operand k."""
    for name, sentence, slope in _suspects(text, k):
        try:
            if all(near(m.got[k], slope(m)) for m in rows):
                return ("relu" if text == "relu(a)" else name), sentence
        except (ArithmeticError, TypeError, ValueError):  # not defined at one of the points
            continue
    ratios = {four_digits(m.got[k] / m.slopes[k]) for m in rows if m.slopes[k]}
    if text == "relu(a)":
        return "relu", "the slope is 1 where a > 0 and 0 elsewhere"
    return "slope", f"it is {ratios.pop()} times the slope" if len(ratios) == 1 else ""


# --- Wrong orders ---------------------------------------------------------------------------------------------


def _orders(parents: dict[int, list[int]], root: int) -> Iterator[tuple[str, list[int]]]:
    """Orders in which learners visit the operations: the name of the mistake, the places. Leaves are left out."""
    queue = [root]
    for node in queue:  # a queue grows while it is read
        queue += parents[node]

    def recursive(node: int) -> list[int]:
        return [node, *(i for p in parents[node] for i in recursive(p))]

    yield "paths", recursive(root)
    yield "depth", list(dict.fromkeys(queue))
    yield "order", list(dict.fromkeys(recursive(root)))
    yield "paths", queue


def _parents(program: Program) -> Iterator[dict[int, list[int]]]:
    """The interior operands of each operation, by place, in every order in which a set may hold them."""
    first = len(program.inputs)
    operands = {i: [p for p in _operands(program, i) if p >= first] for i in range(first, _root(program) + 1)}
    for orders in itertools.product(*(set(itertools.permutations(x)) for x in operands.values())):
        yield {place: list(order) for place, order in zip(operands, orders, strict=True)}


ORDERS = {
    "order": "a node passes its gradient on before all its users have added to it",
    "depth": "a node near the root passes its gradient on before a longer path has reached it",
    "paths": "each visit, as in recursive calls of _backward, passes on once more what has arrived so far",
}


def _swept(program: Program, order: Sequence[int], assigning: bool) -> list[float]:
    """The gradients of a pass in this order of places, with += or =."""
    results = solved(program)
    grads = [0.0] * len(results)
    grads[-1] = 1.0
    for place in order:
        node, upstream = results[place], grads[place]
        shares = node.rule.shares(upstream, node.data, *(p.data for p in node.parents))
        for i, share in zip(_operands(program, place), shares, strict=True):
            grads[i] = share if assigning else grads[i] + share
    return grads


def _operands(program: Program, place: int) -> list[int]:
    return [place - 1 - i % place for i in program.steps[place - len(program.inputs)][1][:2]]


# --- The examination ------------------------------------------------------------------------------------------


class Examination:
    """Runs an engine through all stages: `right`, `mistakes` and `limits` are what was found."""

    def __init__(self, learner: Learner, seed: int = 0):
        self.learner = learner
        self.right: list[str] = []
        self.found: dict[str, Mistake] = {}
        self.limits: list[Limit] = []
        self.spelled: dict[str, str] = {}
        self.measured: dict[str, list[Measured]] = {}
        self.wrong: set[str] = set()  # the operations that have a mistake of their own
        self.forgetful: set[tuple[str, int]] = set()  # (operation, operand) that forget upstream
        self.seeded, self.borrowed = False, ""
        self._random = random.Random(seed)

    def run(self) -> None:
        """Every stage, the simple ones first. A process that hangs again and again ends the examination."""
        missing = [text for text in map(self._alone, _operations()) if text]
        if not self.spelled:
            if "unusable" not in self.found:
                self._report("unusable", missing[0] if missing else "there is no operation")
            return
        wanted = [text.partition(":")[0] for text in missing if text.partition(":")[0] in ARITHMETIC]
        if wanted:
            self.limits.append(Limit("missing", f"missing operators: {', '.join(wanted)}"))
        if self.measured:
            if self._chains():
                self._accumulates()
                self._repeats()
                self._shares()
            self._random_programs()
        self._limits()
        if self.borrowed:
            self._report("borrowed", f"it calls {self.borrowed}; an engine to be graded computes by itself")
        self._tell_right()

    # Asking and reporting

    def _ask(self, program: Program, **options: Any) -> Answer:
        steps = tuple((self.spelled[text], indices) for text, indices in program.steps)
        answer = self.learner.ask(Program(program.inputs, steps), seeded=self.seeded, **options)
        self.borrowed = self.borrowed or answer.borrowed
        return answer

    def _report(
        self, name: str, sentence: str, operations: Sequence[str] = (), shown: Program | None = None, place: int = 0
    ) -> None:
        """Add a mistake. One that is known gets more operations and keeps its first program, the smallest."""
        self.wrong.update(operations)
        if name in self.found:
            known = self.found[name]
            self.found[name] = replace(known, operations=tuple(dict.fromkeys((*known.operations, *operations))))
            return
        mistake = Mistake(name, sentence, tuple(operations))
        if shown is not None:
            mistake = self._shown(mistake, shown, place)
        self.found[name] = mistake

    def _shown(self, mistake: Mistake, program: Program, place: int) -> Mistake:
        """The mistake with its program as Python, the two numbers, and the step at which they part."""
        answer, ours, names, spelling = self._ask(program), solved(program), names_of(program), self.learner.spelling
        steps = tuple((self.spelled[text], indices) for text, indices in program.steps)
        lines = Program(program.inputs, steps).assignments(names)
        leaves = [spelling.make.format(repr(x)) for x in program.inputs]
        graph_step = of_value = ""
        if answer.error:
            expected, got, said = float(ours[place].grad), None, answer.error
        else:
            wrong_value = next((i for i, x in enumerate(ours) if not near(answer.data[i], float(x.data))), None)
            place = place if wrong_value is None else wrong_value
            expected = float(ours[place].grad if wrong_value is None else ours[place].data)
            got = answer.grads[place] if wrong_value is None else answer.data[place]
            said = four_digits(got)
            of_value = "" if wrong_value is None else "data"
            graph_step = "" if of_value else _parting(ours, answer.grads, place, names)
        read = (spelling.data if of_value else spelling.gradient).format(names[place])
        text = "\n".join(
            [
                f"{', '.join(names[: len(leaves)])} = {', '.join(leaves)}",
                "; ".join(lines),
                f"{spelling.gradient.format(names[-1])} = 1.0; " * self.seeded + spelling.backward.format(names[-1]),
                f"print({read})  # expected {four_digits(expected)}, got {said}",
            ]
        )
        return replace(mistake, program=text, expected=expected, got=got, step=graph_step, graph=program)

    # Stages

    def _alone(self, operation: tuple[str, list[str], list[Point]]) -> str:
        """Measure one operation between leaves. Returns what is to be said if the engine does not have it."""
        text, spellings, points = operation
        places = range(len(points[0]))
        first = program_of(points[0], (text, places))
        why = ""
        for spelled in spellings:
            self.spelled[text] = spelled
            answer = self._ask(first)
            if answer.stage != "forward":
                break
            why = why or answer.error
        else:
            del self.spelled[text]
            return f"{text}: {why}"
        rows = []
        for point in points:
            program = program_of(point, (text, places))
            answer = self._ask(program)
            if answer.error:
                if answer.stage != "forward":
                    self._report("raises", f"backward raises {answer.error}", [text], program)
                del self.spelled[text]
                return "" if answer.stage != "forward" else f"{text}: {answer.error} at {point}"
            if self._cannot_start(program, answer):
                return ""
            if self.seeded:
                answer = self._ask(program)
            ours = solved(program)
            exact = tuple(float(x.grad) for x in ours[:-1])
            rows.append(Measured(point, float(ours[-1].data), exact, answer.data[-1], answer.grads[:-1]))
        self.measured[text] = rows
        self._judge(text, rows)
        return ""

    def _cannot_start(self, program: Program, answer: Answer) -> bool:
        """Is the pass wrong from its start: no gradient at the root, or others at the leaves?

        A root without a gradient gets one by hand from now on. Returns False if that helps.
        """
        if self.measured or self.seeded or near(answer.grads[0], float(solved(program)[0].grad)):
            return "root" in self.found and not self.seeded or "start" in self.found
        if not any(answer.grads):
            self._report("root", "so every share is 0; set it to 1 before the walk", (), program)
            self.seeded = True
            self.seeded = any(self._ask(program).grads[:-1])
            return not self.seeded
        begins = self._ask(program, roots=()).grads
        if any(begins):
            self._report("start", f"a new node has the gradient {four_digits(begins[0])}", (), program)
            return True
        return False

    def _judge(self, text: str, rows: list[Measured]) -> None:
        """Is the operation right at all points? If not, say in what."""
        bad = next((m for m in rows if not near(m.got_out, m.out)), None)
        if bad is not None:
            name, sentence = "value", ""
            backwards = text[::-1]
            if text in (*REFLECTED, "a - b", "a / b"):
                swapped = [float(solved(program_of(m.point, (backwards, range(len(m.point)))))[-1].data) for m in rows]
                if all(near(m.got_out, x) for m, x in zip(rows, swapped, strict=True)):
                    name = "reflected" if text in REFLECTED else "swapped"
                    sentence = f"{text} computes {backwards}"
            self._report(name, sentence, [text], program_of(bad.point, (text, range(len(bad.point)))))
            return
        family = next((t for t in ("a + b", "a - b", "a * b", "a / b", "a ** 2") if t.split()[1:2] == text.split()[1:2]), "")
        known = next((m.name for m in self.found.values() if family in m.operations), "")
        for k in range(len(rows[0].point)):
            for m in rows:
                if not near(m.got[k], m.slopes[k]):
                    shown = program_of(m.point, (text, range(len(m.point))))
                    name, sentence = (known, "") if known else _named(text, rows, k)
                    self._report(name, sentence, [text], shown, k)
                    break

    def _carried(self, text: str, m: Measured) -> Iterator[tuple[str, Point, float]]:
        """Right operations to put after `text`: the operation, the inputs to add, the upstream it passes."""
        for carrier in ("a * b", "-a", "3 * a", "a * 3", "3 - a", "a / 4", "a ** 2", "tanh(a)", "exp(a)", "sin(a)"):
            if carrier in self.spelled and carrier not in self.wrong:
                added = (-4.0,) if carrier == "a * b" else ()
                slope = _slopes_at(carrier, (m.out, *added))[0]
                if abs(slope - 1) > 0.05 and 1e-3 < abs(slope) < 1e3:
                    yield carrier, added, slope

    def _chains(self) -> bool:
        """Is each share multiplied by upstream? Returns False if nothing passes beyond one operation."""
        tried = []  # operation, program, operand, what it should be, what it is without upstream, what it is
        for text, (m, *_) in self.measured.items():
            if not near(m.got_out, m.out):
                continue
            for carrier, added, upstream in itertools.islice(self._carried(text, m), 1):
                n = len(m.point)
                chain = program_of((*m.point, *added), (text, range(n)), (carrier, (n + len(added), n)))
                answer = self._ask(chain)
                if answer.error:
                    self._report("raises", f"backward raises {answer.error}", [text], chain)
                    continue
                for k, own in enumerate(m.got):
                    if not near(own, 0):
                        tried.append((text, chain, k, own * upstream, own, answer.grads[k]))
        if tried and all(near(got, 0) for *_, got in tried):
            self._report("direction", "go from the root through reversed(topological order)", (), *tried[0][1:3])
            return False
        for text, chain, k, right, own, got in tried:
            if near(got, own):
                self.forgetful.add((text, k))
                self._report("upstream", "a share is upstream times the slope", [text], chain, k)
            elif not near(got, right) and text not in self.wrong:
                words = upstream_mistake(own, got) if near(right, -4 * own) else ""
                self._report("upstream" if words else "unknown", words, [text], chain, k)
        return True

    def _merger(self, extra: Iterable[str] = ()) -> str:
        """An operation of two operands that is right as far as it has been tried, or one of `extra`; "" if none."""
        fine = [t for t in ("a * b", "a + b", "a - b", "a / b") if t in self.spelled]
        return next((t for t in fine if t not in self.wrong), next((t for t in fine if t in extra), ""))

    def _accumulates(self) -> None:
        """Does a second share for a leaf add up with the first? The root passes one, the operation the other."""
        merger = self._merger() or next((t for t in ("a + b", "a * b") if t in self.spelled), "")
        found = []
        for text, (m, *_) in self.measured.items() if merger else ():
            n = len(m.point)
            for k in range(n):
                program = program_of(m.point, (text, range(n)), (merger, (n, k)))
                direct = self._answerable(merger, (m.got_out, m.point[k]))
                answer = self._ask(program)
                if answer.error or direct is None or near(m.got[k], 0) or not near(m.got_out, m.out):
                    continue
                own = m.got[k] * (1.0 if (text, k) in self.forgetful else direct[0])
                got = answer.grads[k]
                if not near(got, own + direct[1]) and not near(direct[1], 0):
                    if near(got, own):
                        found.append((text, program, k))
                    elif text not in self.wrong:
                        self._report("unknown", "", [text], program, k)
        for text, program, k in found:
            self._report("overwrites", "a gradient is one share, not the sum of all: use += in place of =", [text])
            if not self.found["overwrites"].program:
                self.found["overwrites"] = self._shown(self.found["overwrites"], *self._twice(text, program, k))

    def _twice(self, text: str, program: Program, k: int) -> tuple[Program, int]:
        """a + a, if it shows what a longer program does."""
        if len(program.inputs) == 2:
            short = program_of(program.inputs[:1], (text, (0, 0)))
            answer = self._ask(short)
            if not answer.error and not near(answer.grads[0], solved(short)[0].grad):
                return short, 0
        return program, k

    def _answerable(self, text: str, point: Point) -> Point | None:
        """The slopes that the engine has for this operation here."""
        answer = self._ask(program_of(point, (text, range(len(point)))))
        return None if answer.error else answer.grads[: len(point)]

    def _repeats(self) -> None:
        """Does x * x give x two shares?"""
        overwriting = self.found["overwrites"].operations if "overwrites" in self.found else ()
        for text in ("a + b", "a * b", "a - b", "a / b", "a ** b"):
            if text not in self.spelled or text in overwriting:
                continue
            slopes, answer = self._answerable(text, (3.0, 3.0)), self._ask(program_of((3.0,), (text, (0, 0))))
            if answer.error or slopes is None or near(answer.grads[0], sum(slopes)):
                continue
            once = any(near(answer.grads[0], s) for s in slopes)
            sentence = "keep the operands in a tuple, not a set, and add both shares" if once else ""
            self._report("repeated" if once else "unknown", sentence, [text], program_of((3.0,), (text, (0, 0))))

    def _shares(self) -> None:
        """Is a gradient complete before it is passed on? Graphs in which an interior node is used twice."""
        overwriting = set(self.found["overwrites"].operations) if "overwrites" in self.found else set()
        f = self._merger(overwriting)
        if not f:
            return
        long = [(f, (3, 2)), (f, (4, 2))]
        tails: list[list[tuple[str, tuple[int, int]]]] = [
            [(f, (3, 2)), (f, (4, 3))],
            [(f, (3, 2)), (f, (3, 4))],
            [*long, (f, (5, 3))],
            [*long, (f, (3, 5))],
            [(f, (3, 2)), (f, (3, 0)), (f, (4, 5))],
            [(f, (3, 2)), (f, (4, 3)), (f, (5, 2)), (f, (6, 5))],
        ]
        programs = [program_of((2.0, -1.5, 1.25), (f, (0, 1)), *tail) for tail in tails]
        answers = [self._ask(program) for program in programs]
        if any(answer.error for answer in answers):
            failed = next(i for i, answer in enumerate(answers) if answer.error)
            self._report("raises", answers[failed].error, (), programs[failed])
            return
        assigning, wrong = f in overwriting, []
        for program, answer in zip(programs, answers, strict=True):
            ours = solved(program)
            allowed = [[float(x.grad) for x in ours[:3]]]
            if assigning:
                allowed = [_swept(program, order, True)[:3] for order in _valid_orders(program)]
            if not any(all(map(near, answer.grads[:3], right)) for right in allowed):
                wrong.append(program)
        if wrong:
            name = self._strategy(programs, answers, assigning)
            place = self._differs(wrong[0])
            self._report(name, ORDERS[name], (), wrong[0], place)
            self.wrong.add("order")
        elif f in ("a * b", "a + b") and not assigning:
            inputs = (2.0, 6.0, 3.0, 4.0) if f == "a * b" else (1.0, 4.0, 2.0, 3.0)
            equal = program_of(inputs, (f, (0, 1)), (f, (2, 3)), (f, (4, 5)))
            place = self._differs(equal)
            if place >= 0:
                self._report("equality", "compare nodes by identity: == and hash must not look at data", (), equal, place)

    def _differs(self, program: Program) -> int:
        """The place of the first input whose gradient differs; -1 if none does."""
        answer, ours = self._ask(program), solved(program)
        grads = answer.grads or (float("nan"),) * len(ours)
        wrong = [i for i in range(len(program.inputs)) if not near(grads[i], float(ours[i].grad))]
        return wrong[0] if wrong else -1

    def _strategy(self, programs: list[Program], answers: list[Answer], assigning: bool) -> str:
        """The name of the order that explains all answers."""
        explained: list[set[tuple[int, str]]] = []
        for program, answer in zip(programs, answers, strict=True):
            explained.append(set())
            for parents in _parents(program):
                for which, (name, order) in enumerate(_orders(parents, _root(program))):
                    if all(map(near, answer.grads[:3], _swept(program, order, assigning))):
                        explained[-1].add((which, name))
        return min(set.intersection(*explained), default=(0, "order"))[1]

    def _random_programs(self) -> None:
        """Random programs of the operations that seem right, for mistakes nobody has thought of."""
        texts = [t for t in self.spelled if t not in self.wrong]
        if "order" in self.wrong or "direction" in self.found or "equality" in self.found or not texts:
            return
        for _ in range(60):
            program = _drawn(self._random, texts)
            wrong = self._fails(program)
            if wrong is not None:
                self._report("unknown", "", (), *_shrunk(program, wrong, self._fails))
                return

    def _fails(self, program: Program) -> int | None:
        """The place of an input whose gradient differs from ours, 0 for an error; None if all is right."""
        answer, ours = self._ask(program), solved(program)
        if answer.error:
            return 0
        if not all(near(x, float(y.data)) for x, y in zip(answer.data, ours, strict=True)):
            return 0
        place = next((i for i in range(len(program.inputs)) if not near(answer.grads[i], float(ours[i].grad))), -1)
        return None if place < 0 else place

    def _limits(self) -> None:
        """Depth, gradients kept between passes, exponential time, relu at 0."""
        if "relu(a)" in self.spelled and "relu(a)" not in self.wrong:
            at_zero = self._ask(program_of((0.0,), ("relu(a)", (0,))))
            if not at_zero.error and at_zero.grads[0] != 0:
                slope = four_digits(at_zero.grads[0])
                self.limits.append(Limit("relu", f"the slope of relu at 0 is {slope}; most engines say 0"))
        f = next((t for t in ("a * b", "a + b", "a - b", "a / b") if t in self.spelled), "")
        if not f:
            return
        calls = []
        for n in (5, 9):
            doubling = program_of((1.0,), *((f, (i, i)) for i in range(n)))
            calls.append(self._ask(doubling).calls)
        if calls[1] > 6 * calls[0] > 0:
            words = "a node is visited once per path: 40 shared nodes would take longer than the universe is old"
            self.limits.append(Limit("paths", words))
        chain = program_of((1.0, 1.0), *((f, (1 + i, 0) if i else (1, 0)) for i in range(1000)))
        answer = self._ask(chain, watched=False)
        if answer.error:
            self.limits.append(Limit("depth", f"a chain of 1,000 operations: {answer.error}"))
        else:
            self.right.append("a chain of 1,000 operations")
        if f in self.wrong or self.wrong & {"order"} or "direction" in self.found:
            return
        two = program_of((1.0, 2.0, 5.0, 7.0), (f, (0, 1)), (f, (4, 2)), (f, (4, 3)))
        answer = self._ask(two, roots=(5, 6))
        ends = (program_of(two.inputs, (f, (0, 1)), (f, (4, last))) for last in (2, 3))
        first, second = (float(solved(program)[0].grad) for program in ends)
        if answer.error:
            self.limits.append(Limit("interior", f"backward() from two roots: {answer.error}"))
        elif near(answer.grads[0], first + second):
            self.right.append("two roots that share nodes")
        elif near(answer.grads[0], second):
            words = "each backward() starts from zero: the gradients of two roots do not add up"
            self.limits.append(Limit("interior", words))
        else:
            words = (
                "interior nodes keep their gradients between passes: for two roots that share nodes, "
                f"{four_digits(answer.grads[0])} in place of {four_digits(first + second)}, as in the original micrograd"
            )
            self.limits.append(Limit("interior", words))

    def _tell_right(self) -> None:
        """What the engine does right."""
        fine = [t for t in self.spelled if t not in self.wrong]
        facts = ["operations " + ", ".join(t for t in fine if t not in REFLECTED)] if fine else []
        if reflected := [t for t in fine if t in REFLECTED]:
            facts.append("reflected operators " + ", ".join(reflected))
        if "overwrites" not in self.found and "repeated" not in self.found and "direction" not in self.found:
            facts.append("gradients accumulate")
        if not {"order", "direction", "equality"} & {*self.wrong, *self.found} and self._merger():
            facts.append("topological order")
        self.right = facts + self.right


def _root(program: Program) -> int:
    return len(program.inputs) + len(program.steps) - 1


def _valid_orders(program: Program) -> Iterator[tuple[int, ...]]:
    """Every order in which each node comes after all that use it."""
    parents = next(_parents(program))
    for order in itertools.permutations(parents):
        if all(order.index(node) < order.index(p) for node in order for p in parents[node]):
            yield order


def _parting(ours: list[Value], grads: Sequence[float], place: int, names: list[str]) -> str:
    """The sentence of the last step that gives the node at `place` a share, and what the engine has there.

    A node above it that is wrong already comes first.
    """
    at = {node: i for i, node in enumerate(ours)}
    steps = BackwardPass(ours[-1])
    for node in steps.nodes:
        if (i := at.get(node)) is not None and not near(grads[i], float(node.grad)) and node is not ours[-1]:
            place = i
            break
    told = [step for step in steps if any(share.parent is ours[place] for share in step.shares)]
    said = f"; the engine has {names[place]} grad {four_digits(grads[place])}"
    return f"{told[-1]!r}{said}" if told else ""


def _drawn(rng: random.Random, texts: Sequence[str]) -> Program:
    """A random program whose numbers are of ordinary size and not next to a kink."""
    inputs = [rng.choice([-1, 1]) * rng.randint(2, 12) / 4 for _ in range(rng.randint(1, 3))]
    program = program_of(inputs)
    for _ in range(rng.randint(1, 8)):
        for _ in range(20):
            n = len(program.inputs) + len(program.steps)
            step = (rng.choice(texts), tuple(rng.randrange(n) for _ in range(4)))
            longer = Program(program.inputs, (*program.steps, step))  # type: ignore[arg-type]  # four indices
            if _is_ordinary(longer):
                program = longer
                break
    return program if program.steps else _drawn(rng, texts)


def _is_ordinary(program: Program) -> bool:
    try:
        results = solved(program)
    except (ValueError, ArithmeticError, TypeError):
        return False
    return all(1e-2 < abs(x.data) < 20 and abs(x.grad) < 1e3 for x in results)


def _shrunk(program: Program, place: int, fails: Callable[[Program], int | None]) -> tuple[Program, int]:
    """The program without the steps and the inputs that are not needed to fail, and the place that shows it."""
    shorter = True
    while shorter:
        shorter = False
        for i in range(len(program.steps)):
            less = Program(program.inputs, (*program.steps[:i], *program.steps[i + 1 :]))
            if less.steps and _is_ordinary(less) and (found := fails(less)) is not None:
                program, place, shorter = less, found, True
                break
    return program, place
