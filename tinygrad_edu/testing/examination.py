"""What a learner misunderstood: operations alone, in a chain, twice on a leaf, and in graphs that share nodes.

Each stage uses what the stages before have measured, so a wrong slope does not hide a wrong order. Every mistake
comes with a program whose numbers differ from ours.
"""

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import hypothesis
import hypothesis.strategies as st

from ..debug.stepping import Steps
from ..engine.calculus import absolute_adjoint
from ..engine.graph import topological_order
from ..engine.value import Value
from ..viz.words import four_digits
from .learner import Answer, GivenUp, Learner
from .likely import Row, Suspect, first_to_explain, suspects, upstream_mistake
from .program import Program

Point = tuple[float, ...]

# --- The operations, as we write them -------------------------------------------------------------------------

BINARY = {"a + b": "add", "a - b": "sub", "a * b": "mul", "a / b": "div"}
REFLECTED = ("3 + a", "3 - a", "3 * a", "3 / a")
EXPECTED = (*BINARY, "-a", "a + 3", "a - 3", "a * 3", "a / 4", *REFLECTED, "a ** 2", "a ** 3")
OTHERS = ("a ** -1", "a ** 0.5", "a ** b", "2 ** a", "abs(a)")
FUNCTIONS = "exp log tanh relu sigmoid sin cos tan sqrt sinh cosh atan softplus silu".split()
ALIASES = {"log": "ln", "relu": "ReLU", "sigmoid": "logistic", "atan": "arctan"}
POSITIVE = ("a ** b", "a ** 0.5", "log(a)", "sqrt(a)")
COMPOSED = {"-a", "a - b", "a - 3", "3 - a", "a / b", "a / 4", "3 / a"}
CARRIERS = ("a * b", "-a", "3 * a", "a * 3", "3 - a", "a / 4", "a ** 2", "tanh(a)", "exp(a)", "sin(a)")


def spellings(text: str) -> list[str]:
    """The ways in which an engine may write an operation: "a + b", "add(a, b)", "a.add(b)"."""
    name = text.partition("(")[0]
    if name in FUNCTIONS:
        return [s for n in (name, ALIASES.get(name, name)) for s in (f"a.{n}()", f"{n}(a)")]
    if text.startswith("a **"):
        return [text, *(f"{f}(a, {text[5:]})" for f in ("pow", "power")), f"a.pow({text[5:]})"]
    name = BINARY.get(text, "")
    return [text, f"{name}(a, b)", f"a.{name}(b)"] if name else [text, *["neg(a)", "a.neg()"] * (text == "-a")]


def points(text: str) -> list[Point]:
    """Where an operation is tried."""
    pairs = [(2.0, 3.0), (0.5, 1.5), (1.25, -0.5)] if text in POSITIVE else [(2.0, 3.0), (-1.5, 0.5), (0.75, -2.5)]
    return pairs if text.endswith(" b") else [pair[:1] for pair in pairs]  # type: ignore[return-value]


def program_of(inputs: Iterable[float], *steps: tuple[str, Iterable[int]]) -> Program:
    """A program whose steps name their operands by place: the inputs first, then the results."""
    inputs = tuple(inputs)
    ends = enumerate(steps, start=len(inputs) - 1)
    return Program(inputs, tuple((text, (*(n - i for i in places), 0, 0, 0)[:4]) for n, (text, places) in ends))  # type: ignore[misc]  # four indices


def alone(text: str, point: Point) -> Program:
    """The program of one operation between leaves."""
    return program_of(point, (text, range(len(point))))


def solved(program: Program) -> list[Value]:
    """Our results with their gradients, labelled a, b, c ..."""
    results = program.graph()
    for node, name in zip(results, names_of(program), strict=True):
        node.label = name
    for node in topological_order(results[-1]):
        node.label = node.label or four_digits(node.data)  # the numbers in the expressions
    results[-1].backward()
    return results


def slopes_of(program: Program) -> Point:
    """Our gradients of the inputs."""
    return tuple(float(x.grad) for x in solved(program)[: len(program.inputs)])


def names_of(program: Program) -> list[str]:
    """What the results are called: a, b, c ..."""
    return [chr(97 + i) if i < 26 else f"x{i}" for i in range(len(program.inputs) + len(program.steps))]


def near(x: float, y: float, size: float = 1.0) -> bool:
    """Are they equal but for rounding in single precision, or for differences of small steps?"""
    return abs(x - y) <= 1e-4 * max(size, abs(y)) or x == y or (x != x and y != y)


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
    "severed": "a result does not know its operands",
    "equality": "two nodes with equal numbers are taken for one",
    "root": "the root's gradient is not set to 1",
    "reseeded": "every gradient is set to 1",
    "idle": "no gradient passes beyond the root",
    "mutates": "changes the number of a node",
    "start": "gradients do not start at 0",
    "reflected": "reflected operator swapped",
    "slope": "wrong slope",
    "value": "wrong result",
    "raises": "fails",
    "unknown": "wrong gradient",
    "borrowed": "computes with tinygrad_edu",
    "unusable": "cannot be run",
}
ORDERS = {
    "order": "a node passes its gradient on before all its users have added to it",
    "depth": "a node near the root passes its gradient on before a longer path has reached it",
    "paths": "each visit, as in recursive calls of _backward, passes on once more what has arrived so far",
}


@dataclass(frozen=True)
class Finding:
    """A limit: its name and a sentence. Or a mistake, with a title, the operations, and the smallest program.

    `program` is four lines of Python, `graph` the same for our engine. `step` is the step of the chain rule at
    which the two part.
    """

    name: str
    sentence: str
    title: str = ""
    operations: tuple[str, ...] = ()
    program: str = ""
    expected: float | None = None
    got: float | None = None
    step: str = ""
    graph: Program | None = None

    def __str__(self) -> str:
        where = f", in {listed(self.operations)}" if self.operations else ""
        return ": ".join(filter(None, [self.title + where, self.sentence]))


def listed(operations: Sequence[str], most: int = 10) -> str:
    """The operations, briefly: "a+b, tanh(a) and 12 more"."""
    shown = [text.replace(" ", "") for text in operations]
    return ", ".join(shown[:most]) + f" and {len(shown) - most} more" * (len(shown) > most)


# --- Wrong slopes ---------------------------------------------------------------------------------------------


def _suspects(text: str, k: int) -> Iterator[Suspect]:
    """Wrong slopes for operand k, the likeliest first."""
    n = text.partition("a ** ")[2]
    if n and k == 0:
        words = f"the slope is n * a**(n - 1) for n = {n}"
        yield "exponent", words, lambda m: m.slopes[0] / (m.x[1] if n == "b" else float(n))
        yield "slope", "the exponent in the slope is n - 1, not n", lambda m: m.slopes[0] * m.x[0]
    if text == "relu(a)":
        yield "relu", "the slope is 0 where a < 0", lambda m: 1.0 if m.x[0] > 0 else m.got[0]
        yield "relu", "the slope is 1 where a > 0, not the result itself", lambda m: m.out
    if text == "tanh(a)":
        yield "tanh", "the slope is 1 - out**2", lambda m: 1 - m.x[0] ** 2
    if text == "sigmoid(a)":
        yield "slope", "the slope is out * (1 - out)", lambda m: m.x[0] * (1 - m.x[0])
    yield "sign", "the share for " + "ab"[k] + " has the other sign", lambda m: -m.slopes[k]
    if text.endswith(" b"):
        yield "swapped", "each stands for the other in the slopes", lambda m: slopes_of(alone(text, m.x[::-1]))[k]
        words = f"the slopes are those of {text[::-1]}"
        yield "swapped", words, lambda m: slopes_of(alone(text, m.x[::-1]))[1 - k]
    else:
        words = "computed from the output instead of the input"
        yield "slope", words, lambda m: slopes_of(alone(text, (m.out,)))[0]
    yield "slope", "the operand is taken for a constant: its share is 0", lambda m: 0
    yield "slope", "upstream is added, not multiplied", lambda m: m.slopes[k] + 1
    yield "slope", "it is the operand itself", lambda m: m.x[k]
    yield "slope", "it is the result itself", lambda m: m.out
    yield from suspects(["a", "b"][: 1 + text.endswith(" b")], k)


# --- Wrong orders ---------------------------------------------------------------------------------------------


def _wrong_orders(root: Value) -> Iterator[tuple[int, str, list[Value]]]:
    """Orders in which learners visit operations, the likeliest first. A set may turn operands round."""
    walks = (("paths", -1, False), ("depth", 0, True), ("order", -1, True), ("paths", 0, False))
    nodes = [node for node in topological_order(root) if node.rule]
    for turns in itertools.product((1, -1), repeat=len(nodes)):
        turn = dict(zip(nodes, turns, strict=True))
        for rank, (name, end, once) in enumerate(walks):
            waiting, order = [root], list[Value]()
            while waiting:
                node = waiting.pop(end)
                if node.rule and not (once and node in order):
                    order.append(node)
                    waiting += node.parents[:: turn[node]]
            yield rank, name, order


def _right_orders(root: Value) -> Iterator[tuple[Value, ...]]:
    """Every order in which each operation comes after all that use it."""
    for order in itertools.permutations(node for node in topological_order(root) if node.rule):
        if all(order.index(node) < order.index(p) for node in order for p in node.parents if p.rule):
            yield order


def _explains(order: Iterable[Value], overwriting: set[tuple[str, int]], wanted: dict[Value, float]) -> bool:
    """Does a pass in this order, with = in place of += for some operands, give the wanted gradients?"""
    grads: dict[Value, float] = {}
    for node in order:
        upstream = grads.get(node, 0.0) if grads else 1.0
        shares = node.rule.shares(upstream, node.data, *(p.data for p in node.parents))
        for k, (operand, share) in enumerate(zip(node.parents, shares, strict=True)):
            kept = 0.0 if (node.rule.name, k) in overwriting else grads.get(operand, 0.0)
            grads[operand] = kept + share
    return all(near(got, grads.get(node, 0.0)) for node, got in wanted.items())


# --- The examination ------------------------------------------------------------------------------------------


class Examination:
    """Runs an engine through all stages: `right`, `found` and `limits` are what came out."""

    def __init__(self, learner: Learner, seed: int):
        self.learner, self.seed = learner, seed
        self.found: dict[str, Finding] = {}
        self.limits: list[Finding] = []
        self.right: list[str] = []
        self.spelled: dict[str, str] = {}  # our text of an operation -> the engine's
        self.measured: dict[str, list[Row]] = {}  # the operations whose results are right
        self.forgetful: set[tuple[str, int]] = set()  # the operands whose shares forget upstream
        self.overwriting: set[tuple[str, int]] = set()  # the operands of rules that replace what was there
        self.seeded, self.borrowed = False, ""  # is the root's gradient set by hand?

    def run(self) -> None:
        """All stages, the simple ones first. An engine that hangs or ends its process repeatedly is given up."""
        try:
            self._stages()
        except GivenUp as end:
            self._report("unusable", f"its process {end}")
        if self.borrowed:
            self._report("borrowed", f"it calls {self.borrowed}; an engine to be graded computes by itself")
        names, fine = self.found.keys(), self._fine()
        facts = {
            f"operations {listed([t for t in fine if t not in REFLECTED], 99)}": fine,
            f"reflected operators {listed([t for t in fine if t in REFLECTED])}": {*fine} & {*REFLECTED},
            "gradients accumulate": self.measured and not names & {"overwrites", "repeated", "direction"},
            "topological order": self._mergers() and not names & {*ORDERS, "direction", "equality"},
        }
        self.right = [fact for fact, holds in facts.items() if holds] + self.right

    def _stages(self) -> None:
        texts = (*EXPECTED, *OTHERS, *(f"{name}(a)" for name in FUNCTIONS))
        simple_first = sorted(texts, key=lambda text: len(text) if text in COMPOSED else 0)
        missing = [text for text in simple_first if not self._alone(text)]
        if not self.spelled and not self.found:
            self._report("unusable", "no operation gives a node")
        if wanted := [text for text in EXPECTED if text in missing and self.spelled]:
            self._limit("missing", f"missing operators: {listed(wanted, 99)}")
        if self.measured and not self._same_everywhere():
            self._in_place()
            if self._chains() and self._tells_apart():
                self._keeps_operands()
                self._accumulates()
                self._repeats()
                self._shares()
            self._random_programs()
        self._limits()

    # Asking and reporting

    def _ask(self, program: Program, **options: Any) -> Answer:
        steps = tuple((self.spelled[text], indices) for text, indices in program.steps)
        answer = self.learner.ask(Program(program.inputs, steps), seeded=self.seeded, **options)
        self.borrowed = self.borrowed or answer.borrowed
        return answer

    def _limit(self, name: str, sentence: str) -> None:
        self.limits.append(Finding(name, sentence))

    def _report(
        self, name: str, sentence: str, operations: Sequence[str] = (), shown: Program | None = None, k: int = 0
    ) -> None:
        """Add a mistake. One that is known gets more operations, and keeps its first program."""
        if name in self.found:
            all = (*self.found[name].operations, *operations)
            self.found[name] = replace(self.found[name], operations=tuple(dict.fromkeys(all)))
        else:
            found = Finding(name, sentence, MISTAKES[name], tuple(operations))
            self.found[name] = self._shown(found, shown, k) if shown else found

    def _shown(self, found: Finding, program: Program, place: int) -> Finding:
        """The mistake with its program as Python, both numbers, and the step at which they part."""
        ours, names = solved(program), names_of(program)
        for _ in range(20):  # where a set decides the order, not every run is wrong
            answer = self._ask(program)
            if answer.error or not near(answer.grads[place], float(ours[place].grad)):
                break
        spelling = self.learner.spelling
        expected, got, read, step = float(ours[place].grad), None, spelling.gradient, ""
        if not answer.error:
            got, step = answer.grads[place], _parting(ours, answer.grads, place)
            bad = (i for i, x in enumerate(ours) if not near(answer.data[i], float(x.data)))
            if (i := next(bad, None)) is not None:
                place, expected, got, read, step = i, float(ours[i].data), answer.data[i], spelling.data, ""
        leaves = [spelling.make.format(repr(x)) for x in program.inputs]
        steps = Program(program.inputs, tuple((self.spelled[text], i) for text, i in program.steps))
        seed = f"{spelling.gradient.format(names[-1])} = 1.0; " * self.seeded
        lines = [
            f"{', '.join(names[: len(leaves)])} = {', '.join(leaves)}",
            "; ".join(steps.assignments(names)),
            seed + spelling.backward.format(names[-1]),
            f"print({read.format(names[place])})  # expected {four_digits(expected)}, "
            f"got {answer.error if got is None else four_digits(got)}",
        ]
        return replace(found, program="\n".join(lines), expected=expected, got=got, step=step, graph=program)

    def _faults(self, text: str) -> set[str]:
        """The names of the mistakes in which an operation takes part."""
        return {found.name for found in self.found.values() if text in found.operations}

    def _fine(self) -> list[str]:
        """The operations without a mistake of their own."""
        return [text for text in self.measured if not self._faults(text)]

    def _mergers(self) -> list[str]:
        """The operations of two operands that seem right, or whose only mistake is to assign."""
        fine = [t for t in ("a * b", "a + b", "a - b", "a / b") if t in self.measured]
        return sorted((t for t in fine if self._faults(t) <= {"overwrites"}), key=lambda t: len(self._faults(t)))

    # One operation between leaves

    def _alone(self, text: str) -> bool:
        """Measure an operation. Returns False if the engine does not have it."""
        programs = [alone(text, point) for point in points(text)]
        for spelled in spellings(text):
            self.spelled[text], answers = spelled, list[Answer]()
            for program in programs:
                answers.append(self._ask(program))
                if answers[-1].error:
                    break
            if answers[-1].stage != "forward":
                break
        else:
            del self.spelled[text]
            return False
        if answers[-1].error:
            self._report("raises", answers[-1].error, [text], program)
            del self.spelled[text]
            return True
        if self._starts(programs[0], answers[0]):
            if self.seeded:
                answers = [self._ask(program) for program in programs]
            self._judge(text, programs, answers)
        return True

    def _starts(self, program: Program, answer: Answer) -> bool:
        """Are the gradients right before the first step: 1 at the root, 0 at the leaves?

        A root without a gradient gets one by hand from now on. Returns True if that helps.
        """
        if not self.seeded and not any(answer.grads):
            self._report("root", "so every share is 0; set it to 1 before the walk", (), program)
            self.seeded = True
            self.seeded = any(self._ask(program).grads[:-1])
            return self.seeded
        if not self.measured and not near(answer.grads[0], slopes_of(program)[0]):
            first = self._ask(program, roots=()).grads[0]
            if first:
                self._report("start", f"a new node has the gradient {four_digits(first)}", (), program)
            elif answer.grads[-1] != 1 and near(answer.grads[0], slopes_of(program)[0] * answer.grads[-1]):
                self._report("root", f"it is {four_digits(answer.grads[-1])}", (), program)
        return self.seeded or not self.found.keys() & {"start", "root"}

    def _judge(self, text: str, programs: list[Program], answers: list[Answer]) -> None:
        """Is the operation right at all points? If not, say in what."""
        rows = [
            Row(program.inputs, float(out.data), [float(leaf.grad) for leaf in leaves], answer.grads[:-1])
            for program, (*leaves, out), answer in zip(programs, map(solved, programs), answers, strict=True)
        ]
        for program, answer in zip(programs, answers, strict=True):
            if not all(map(near, answer.data, program.inputs)):
                self._report("mutates", "a node keeps the number it was made with", [text], program)
                return
        got = [answer.data[-1] for answer in answers]
        wrong = [program for program, m, x in zip(programs, rows, got, strict=True) if not near(x, m.out)]
        if wrong:
            name, sentence = "value", ""
            if text in (*REFLECTED, "a - b", "a / b", "a - 3", "a / 4"):
                reverse = [float(solved(alone(text[::-1], m.x))[-1].data) for m in rows]
                if all(map(near, got, reverse)):
                    name = "reflected" if text in REFLECTED else "swapped"
                    sentence = f"{text} computes {text[::-1]}"
            self._report(name, sentence, [text], wrong[0])
            return
        self.measured[text] = rows
        operator = f" {text} ".split(" ")[2:3]
        family = next((t for t in (*BINARY, "a ** 2") if t.split()[1:2] == operator), "")
        if text == "a / b" and "a ** -1" in self.measured:  # it may be made of a * b ** -1
            slopes = (self._ask(alone("a ** -1", m.x[1:])).grads[0] for m in rows)
            composed = all(near(m.got[1], m.x[0] * slope) for m, slope in zip(rows, slopes, strict=True))
            family = "a ** -1" if composed else text
        known = next(iter(self._faults(family)), "")  # what is wrong in a / b is wrong in a / 4
        for k in range(len(rows[0].x)):
            bad = next((i for i, m in enumerate(rows) if not near(m.got[k], m.slopes[k])), None)
            if bad is not None:
                name, sentence = (known, "") if known else first_to_explain(_suspects(text, k), rows, k, near)
                self._report(name or "slope", sentence, [text], programs[bad], k)

    def _same_everywhere(self) -> bool:
        """Is each gradient 0, or each 1? Then the walk is wrong, and nothing is known of the rules."""
        got = {x for rows in self.measured.values() for m in rows for x in m.got}
        wrong = [f.graph for name, f in self.found.items() if name in ("slope", "sign", "relu")]
        if not wrong or got not in ({0}, {1}):
            return False
        self.found = {name: self.found[name] for name in ("root", "value", "raises") if name in self.found}
        again = ("reseeded", "only the root's is; call no operand's backward()")
        self._report(*(again if 1 in got else ("idle", "call each rule, as in node._backward()")), (), wrong[0])
        self.measured = {}
        return True

    def _in_place(self) -> None:
        """Does a += b give what a + b gives, where an engine defines it?"""
        for text, name in BINARY.items():
            if text in self._fine():
                program, spelled = alone(text, points(text)[0]), self.spelled[text]
                self.spelled[text] = f"a.__i{'truediv' if name == 'div' else name}__(b)"
                answer = self._ask(program)
                if not answer.error and self._differs(program) >= 0:
                    name = "severed" if near(answer.data[0], program.inputs[0]) else "mutates"
                    self._report(name, "make a new node", [text.replace(" b", "= b")], program)
                self.spelled[text] = spelled

    # Two operations

    def _chains(self) -> bool:
        """Is each share multiplied by upstream? Returns False if nothing passes beyond one operation."""
        tried = []  # operation, operand, program, what is right, what is right without upstream, what is there
        for text, (m, *_) in self.measured.items():
            for carrier in (c for c in CARRIERS if c in self.measured and not self._faults(c)):
                n, last = len(m.x), [-4.0] * (carrier == "a * b")
                chain = program_of((*m.x, *last), (text, range(n)), (carrier, (n + len(last), n)))
                upstream = slopes_of(alone(carrier, (m.out, *last)))[0]
                if abs(upstream - 1) < 0.05 or not 1e-3 < abs(upstream) < 1e3:
                    continue
                answer = self._ask(chain)
                if answer.error:
                    self._report("raises", answer.error, [text], chain)
                else:
                    shares = zip(m.got, answer.grads, strict=False)
                    cases = [(text, k, chain, x * upstream, x, y) for k, (x, y) in enumerate(shares)]
                    tried += [case for case in cases if not near(case[-2], 0)]
                break
        nothing = [case for case in tried if near(case[-1], 0)]
        ends = 2 * len(nothing) > len(tried)
        if ends:
            _, k, chain, *_ = nothing[0]
            if {*self.found.get("slope", Finding("", "")).operations} <= COMPOSED:
                self.found.pop("slope", None)  # an engine may make a - b of a + -b, two operations
            self._report("direction", "go from the root through reversed(topological order)", (), chain, k)
        for text, k, chain, right, without, got in tried:
            if near(got, without):
                self.forgetful.add((text, k))
                self._report("upstream", "a share is upstream times the slope", [text], chain, k)
            elif not ends and not near(got, right) and not self._faults(text):
                words = upstream_mistake(without, got) if near(right, -4 * without) else ""
                self._report("upstream" if words else "unknown", words, [text], chain, k)
        return not ends

    def _keeps_operands(self) -> None:
        """Does a gradient pass on to the operands of each operand?"""
        f = next((t for t in ("a * b", "a + b") if t in self._fine()), "")
        for text, (m, *_) in self.measured.items():
            for k in range(n := len(m.x) if f and not self._faults(text) else 0):
                inputs = (*m.x, m.x[k] / -8 if f == "a * b" else m.x[k] + 8, -8.0)
                deep = program_of(inputs, (f, (n, n + 1)), (text, [n + 2 if i == k else i for i in range(n)]))
                if (answer := self._ask(deep)).grads and not any(answer.grads[n : n + 2]):
                    self._report(
                        "severed", "keep all operands in the new node, and visit each of them", [text], deep, n
                    )

    def _tells_apart(self) -> bool:
        """Are two nodes with equal numbers two nodes?"""
        for f, inputs in (("a * b", (2.0, 6.0, 3.0, 4.0)), ("a + b", (1.0, 4.0, 2.0, 3.0))):
            equal = program_of(inputs, (f, (0, 1)), (f, (2, 3)), (f, (4, 5)))
            apart = replace(equal, inputs=(*inputs[:3], 7.0))
            if f in self._fine() and (k := self._differs(equal)) >= 0 > self._differs(apart):
                words = "compare nodes by identity: == and hash must not look at data"
                self._report("equality", words, (), equal, k)
                self.found.pop("unknown", None)
                return False
        return True

    def _accumulates(self) -> None:
        """Does a second share for a leaf add up with the first? The root passes it one first."""
        late = []
        for text, (m, *_) in self.measured.items():
            merger = next(iter([*self._mergers(), *(t for t in BINARY if t in self.measured)]), "")
            for k in range(len(m.x) * bool(merger)):
                program = program_of(m.x, (text, range(len(m.x))), (merger, (len(m.x), k)))
                answer, direct = self._ask(program), self._ask(alone(merger, (m.out, m.x[k]))).grads or (0.0, 0.0)
                own = m.got[k] * (1.0 if (text, k) in self.forgetful else direct[0])
                unclear = self._faults(text) | self._faults(merger) or answer.error or len(m.x) == 1
                if not unclear and not near(answer.grads[1 - k], m.got[1 - k] * direct[0]):
                    self._report("upstream", "it is the result's gradient", [text], program, 1 - k)
                if answer.error or near(answer.grads[k], own + direct[1]) or near(m.got[k] * direct[1], 0):
                    continue
                if near(answer.grads[k], own):
                    self.overwriting.add((BINARY.get(text, ""), k))
                    late.append((text, program, k))
                elif not self._faults(text):
                    self._report("unknown", "", [text], program, k)
        for text, program, k in late:
            twice = program_of(program.inputs[:1], (text, (0, 0)))
            if len(program.inputs) == 2 and self._differs(twice) == 0:
                program, k = twice, 0
            words = "a gradient is one share, not the sum: use += in place of ="
            self._report("overwrites", words, [text], program, k)

    def _repeats(self) -> None:
        """Does x * x give x two shares?"""
        for text in (*BINARY, "a ** b"):
            if text in self.measured and not self._faults(text):
                twice = program_of((3.0,), (text, (0, 0)))
                answer, apart = self._ask(twice), self._ask(alone(text, (3.0, 3.0))).grads[:2]
                if not answer.error and apart and not near(answer.grads[0], sum(apart)):
                    once = any(near(answer.grads[0], share) for share in apart)
                    words = "keep the operands in a tuple, not a set, and add both shares" if once else ""
                    self._report("repeated" if once else "unknown", words, [text], twice)

    # Graphs that share nodes

    def _shares(self) -> None:
        """Is a gradient complete before it is passed on? Graphs in which an interior node is used twice."""
        if not self._mergers():
            return
        fine = [text for text in self._mergers() if text in self._fine()] or self._mergers()
        f, h = (fine * 2)[:2]  # two operations, so that the two shares of a node differ
        long = [(f, (3, 2)), (f, (4, 2))]
        tails = [
            [(f, (3, 2)), (h, (4, 3))],
            [(f, (3, 2)), (h, (3, 4))],
            [*long, (h, (5, 3))],
            [*long, (h, (3, 5))],
            [(f, (3, 2)), (f, (3, 0)), (h, (4, 5))],
            [(f, (3, 2)), (h, (4, 3)), (f, (5, 2)), (h, (6, 5))],
        ]
        explained, shown = [], None
        for tail in tails:
            program = program_of((2.0, -1.5, 1.25), (f, (0, 1)), *tail)
            answer = self._ask(program)
            if answer.error:
                self._report("raises", answer.error, (), program)
                return
            ours, replaced = solved(program), self.overwriting
            wanted = dict(zip(ours[: len(program.inputs)], answer.grads, strict=False))
            walks = _wrong_orders(ours[-1])
            explained.append({(rank, name) for rank, name, order in walks if _explains(order, replaced, wanted)})
            if not any(_explains(order, replaced, wanted) for order in _right_orders(ours[-1])):
                shown = shown or program
        if shown:
            _, name = min(set.intersection(*explained), default=(0, "order"))
            self._report(name, ORDERS[name], (), shown, max(self._differs(shown), 0))

    def _differs(self, program: Program) -> int:
        """The place of the first input whose gradient is not ours, 0 for an error; -1 if all is right."""
        answer, ours = self._ask(program), solved(program)
        if answer.error or not all(near(x, float(y.data)) for x, y in zip(answer.data, ours, strict=True)):
            return 0
        sizes = absolute_adjoint(ours[-1])
        inputs = zip(ours[: len(program.inputs)], answer.grads, strict=False)
        wrong = (i for i, (x, got) in enumerate(inputs) if not near(got, float(x.grad), max(1, sizes.get(x, 0))))
        return next(wrong, -1)

    def _random_programs(self) -> None:
        """Random programs of the operations that seem right, for mistakes nobody has thought of."""
        texts = self._fine()
        if not texts or self.found.keys() & {*ORDERS, "direction", "equality"}:
            return
        step = st.tuples(st.sampled_from(texts), st.tuples(*[st.integers(0, 7)] * 4))
        inputs = st.lists(
            st.sampled_from([sign * x / 4 for x in range(1, 13) for sign in (1, -1)]), min_size=1, max_size=3
        )
        drawn = st.builds(_ordinary, inputs, st.lists(step, min_size=1, max_size=8)).filter(lambda p: p.steps)
        settings = hypothesis.settings(max_examples=60, database=None, deadline=None)
        try:
            generator = random.Random(self.seed)
            program = hypothesis.find(drawn, lambda p: self._differs(p) >= 0, settings=settings, random=generator)
            self._report("unknown", "", (), program, max(self._differs(program), 0))
        except hypothesis.errors.NoSuchExample:
            return
        except hypothesis.errors.Flaky:  # an order of nodes that a set decides
            self._report("unknown", "it differs from run to run")

    # What is right in one pass, and not in all cases

    def _limits(self) -> None:
        """The slope of relu at 0, exponential time, depth, gradients that are kept between passes."""
        if "relu(a)" in self._fine() and (slope := sum(self._ask(alone("relu(a)", (0.0,))).grads[:1])):
            self._limit("relu", f"the slope of relu at 0 is {four_digits(slope)}; most engines say 0")
        for f in [*self._mergers(), *(t for t in BINARY if t in self.spelled)][:1]:
            few, many = (self._ask(program_of((1.0,), *((f, (i, i)) for i in range(n)))).calls for n in (5, 9))
            if many > 6 * few > 0:
                self._limit("paths", "a node is visited once per path: 40 shared nodes would take years")
            chain = program_of((1.0, 1.0), *((f, (i + 1, 0)) for i in range(1000)))
            if error := self._ask(chain, watched=False).error:
                self._limit("depth", f"a chain of 1,000 operations: {error}")
            else:
                self.right.append("a chain of 1,000 operations")
            if f in self._fine() and not self.found.keys() & {*ORDERS, "direction"}:
                self._two_roots(f)

    def _two_roots(self, f: str) -> None:
        """backward() from two results that share nodes, without setting gradients to zero in between."""
        inputs, shared = (1.0, 2.0, 5.0, 7.0), (f, (0, 1))
        answer = self._ask(program_of(inputs, shared, (f, (4, 2)), (f, (4, 3))), roots=(5, 6))
        first, second = (slopes_of(program_of(inputs, shared, (f, (4, i))))[0] for i in (2, 3))
        got = answer.grads[0] if answer.grads else float("nan")
        if near(got, first + second):
            self.right.append("two roots that share nodes")
            return
        told = answer.error or f"{four_digits(got)} in place of {four_digits(first + second)}"
        reasons = {
            "interior nodes keep their gradients between passes, as in micrograd: ": first + first + second,
            "a pass walks the graph of an earlier pass again: ": 3 * first + second,
            "each backward() starts from zero: ": second,
        }
        reason = next((words for words, grad in reasons.items() if near(got, grad)), "")
        self._limit("interior", f"{reason}two roots that share nodes give {told}")


def _parting(ours: list[Value], grads: Sequence[float], place: int) -> str:
    """The last step that gives the first wrong node a share, and what the engine has there."""
    at, steps = {node: i for i, node in enumerate(ours)}, Steps(ours[-1])
    wrong = (n for n in steps.nodes[1:] if n in at and not near(grads[at[n]], float(n.grad)))
    node = next(wrong, ours[place]) if near(grads[-1], 1) else ours[place]  # some keep no gradients of results
    told = [step for step in steps if any(share.parent is node for share in step.shares)]
    return f"{told[-1]!r}; the engine has {node.label}.grad {four_digits(grads[at[node]])}" if told else ""


def _ordinary(inputs: Sequence[float], steps: Sequence[Any]) -> Program:
    """The program of those steps whose numbers are of ordinary size and not next to a kink."""
    program = Program(tuple(inputs), ())
    for step in steps:
        longer = Program(program.inputs, (*program.steps, step))
        try:
            if all(1e-2 < abs(x.data) < 20 and abs(x.grad) < 1e3 for x in solved(longer)):
                program = longer
        except (ValueError, ArithmeticError, TypeError):
            continue
    return program
