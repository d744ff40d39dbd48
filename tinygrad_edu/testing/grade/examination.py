"""What a learner misunderstood: an engine is asked all questions first, and all its answers are explained at once.

The questions: operations alone, in a chain, beside a second use of an operand, and graphs that share nodes. The
explanation is the smallest set of faults, see `faults` and `explanation`. Every mistake comes with a program whose
numbers differ from ours.
"""

import contextlib
import itertools
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ...debug.stepping import Steps
from ...engine.calculus import absolute_adjoint
from ...engine.value import Value
from ...viz.words import four_digits
from ..check.mistakes import Row
from ..check.random_program import Program
from . import process
from .explanation import Explanation
from .faults import MISTAKES, ROOT, of_root, of_walks
from .faulty_pass import Fault, Operation, Trial
from .operations import (
    BINARY,
    MADE_OF,
    REFLECTED,
    TEXTS,
    alone,
    base_of,
    computed,
    listed,
    names_of,
    near,
    operands_of,
    ordinary,
    points,
    program_of,
    slopes_of,
    solved,
    spellings,
)
from .process import Answer, EngineProcess, GivenUp

UNMEANT = ("NameError", "AttributeError", "UnboundLocalError")  # no engine raises these on purpose
ORDINARY = 3  # the first points of an operation, at which it must not fail
CARRIERS = (("a * b", -4.0), ("a * b", 60.0), ("-a",), ("a * 3",), ("3 * a",), ("3 - a",), ("tanh(a)",))
# Graphs on the inputs 0, 1 and 2: "f32" is the operation f of the nodes 3 and 2, and makes the next node.
SHARED = (
    "f01 f32 h43; f01 f32 h34; f01 f32 f42 h53; f01 f32 f42 h35; "
    "f01 f32 f30 h45; f01 f32 h43 f52 h65; f01 f01 h34"  # the last one has the same operation twice
).split("; ")
WALKS = {"order", "depth", "paths", "direction", "levels", "equality", "visited", "shared", "reseeded", "idle"}
NOT_OF_OPERATIONS = WALKS | {"root", "start", "clipped"}


@dataclass(frozen=True)
class Remark:
    """A limit: its name and a sentence. Or a mistake, with a title, the operations, and the smallest program.

    `program` is four lines of Python, `graph` the same for our engine. `step` is the step of the chain rule at
    which the two first differ.
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

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has no nan."""
        told = {name: x for name, x in vars(self).items() if name != "graph"} | {"text": str(self)}
        return {name: str(x) if isinstance(x, float) and not math.isfinite(x) else x for name, x in told.items()}


class Examination:
    """Asks an engine everything: `right`, `mistakes` and `limits` are what came out."""

    def __init__(self, engine: EngineProcess, seed: int):
        self.engine, self.seed = engine, seed
        self.mistakes: dict[str, Remark] = {}
        self.limits: list[Remark] = []
        self.right: list[str] = []
        self.spelled: dict[str, str] = {}  # our text of an operation -> the engine's
        self.forward: dict[str, Sequence[str]] = {}  # the functions that compute it
        self.measured: list[str] = []  # the operations whose results are right
        self.trials: list[Trial] = []
        self.failed: list[tuple[str, Program, Answer]] = []
        self.fails: dict[str, str] = {}  # the error of an operation that the engine has, and that never works
        self.everywhere = False  # is there a mistake that all operations have?
        self.seeded, self.start, self.borrowed = False, 0.0, ""  # is the root's gradient set by hand?

    def run(self) -> None:
        """Ask, explain, and try at random. An engine that hangs or ends its process repeatedly is given up."""
        asked = False
        try:
            self._ask_all()
            asked = True
            self._explain()
            self._in_place()
            self._random_programs()
            self._limits()
        except GivenUp as end:
            if not asked or self.engine.deaths > process.DEATHS:  # or is only its time up?
                self._report("unusable", f"it {end}")
        if self.borrowed:
            self._report("borrowed", f"it calls {self.borrowed}; an engine to be graded computes by itself")
        names, fine = self.mistakes.keys(), self.fine()
        facts = {
            f"operations {listed([t for t in fine if t not in REFLECTED], 99)}": fine,
            f"reflected operators {listed([t for t in fine if t in REFLECTED])}": {*fine} & {*REFLECTED},
            "gradients accumulate": self.measured and not names & {"overwrites", "repeated", "direction"},
            "topological order": self._mergers() and not names & WALKS,
        }
        self.right = [fact for fact, holds in facts.items() if holds] + self.right

    def fine(self) -> list[str]:
        """The operations without a mistake of their own."""
        wrong = {text for finding in self.mistakes.values() for text in finding.operations}
        return [text for text in self.measured if text not in wrong]

    def _mergers(self) -> list[str]:
        """The operations of two operands."""
        return [text for text in ("a * b", "a + b", "a - b", "a / b") if text in self.measured]

    # Asking

    def _ask(self, program: Program, **options: Any) -> Answer:
        (answer,) = self._answers([program], **options)
        return answer

    def _answers(self, programs: Iterable[Program], **options: Any) -> list[Answer]:
        options = {"seeded": self.seeded} | options
        answers = list(self.engine.ask(list(map(self.spelled_as, programs)), **options))
        self.borrowed = self.borrowed or next((answer.borrowed for answer in answers if answer.borrowed), "")
        return answers

    def spelled_as(self, program: Program) -> Program:
        """The program as the engine writes its operations."""
        return Program(program.inputs, tuple((self.spelled[text], indices) for text, indices in program.steps))

    def _ask_all(self) -> None:
        answers_alone = {text: answers for text in TEXTS if (answers := self._alone(text))}
        if not self.spelled and not self.failed:
            self._report("unusable", "no operation gives a node")
        answers_alone = {text: self._judge(text, answers) for text, answers in answers_alone.items()}
        for text, program, answer in self.failed if "mutates" not in self.mistakes else ():
            self._report("raises", answer.error, [text], program)
        for text in self.measured:
            for program, answer in answers_alone[text]:
                self._add(program, answer, text)
        questions = [(program, text) for text in self.measured for program in self._questions(text)]
        questions += [(program, "") for program in self._shared()]
        questions.sort(key=lambda question: bool(question[1]) and len(question[0].steps) > 2)  # shown if need be
        replies = self._answers(program for program, _ in questions)
        for (program, text), answer in zip(questions, replies, strict=True):
            self._add(program, answer, text)
        if self.trials:
            self.start = sum(self._ask(self.trials[0].program, roots=()).grads[:1])

    def _alone(self, text: str) -> list[tuple[Program, Answer]]:
        """What the engine answers to one operation between leaves; [] if it does not have it, or always fails."""
        programs = [alone(text, point) for point in points(text)]
        for spelled in spellings(text):
            self.spelled[text] = spelled
            answers = self._answers(programs[:ORDINARY], watched=True)
            if not any(answer.stage == "forward" for answer in answers):
                break
            error, was_called = answers[0].error, answers[0].forward
            if was_called and not error.startswith("NotImplemented"):
                self.fails.setdefault(text, error)
                if spelled[:2] == "a." and error.startswith(UNMEANT):
                    self.failed.append((text, programs[0], answers[0]))
                    return []
        else:
            del self.spelled[text]
            return []
        self.forward[text] = answers[0].forward
        if not (self.seeded or any(answers[0].grads) or any(answer.error for answer in answers)):
            again = self._answers(programs[:ORDINARY], seeded=True)
            if any(any(answer.grads[:-1]) for answer in again):
                self._report("root", ROOT, (), programs[0])
                answers, self.seeded = again, True
        pairs = list(zip(programs, answers + self._answers(programs[ORDINARY:]), strict=True))
        self.failed += [(text, program, answer) for program, answer in pairs if answer.error][:1]
        return [pair for pair in pairs if not pair[1].error]

    def _judge(self, text: str, answers: list[tuple[Program, Answer]]) -> list[tuple[Program, Answer]]:
        """Are the results of an operation right, and its operands left alone? The answers for which that holds."""
        changed, wrong, right = list[Program](), list[Program](), list[tuple[Program, Answer]]()
        for program, answer in answers:
            if not all(map(near, answer.data, program.inputs)):
                changed.append(program)
            elif not near(answer.data[-1], float(solved(program)[-1].data), 0.01):
                wrong.append(program)
            else:
                right.append((program, answer))
        known = self.mistakes["value"].operations if "value" in self.mistakes else ()
        if changed:
            self._report("mutates", "a node keeps the number it was made with", [text], changed[0])
        if right and (changed or not wrong):
            self.measured.append(text)
        elif not changed and not any(self._calls(text, other) for other in known):
            name, sentence = "value", ""
            if text in (*REFLECTED, "a - b", "a / b", "a - 3", "a / 4"):
                turned = (float(solved(alone(text[::-1], program.inputs))[-1].data) for program, _ in answers[:3])
                if all(near(answer.data[-1], x) for (_, answer), x in zip(answers, turned, strict=False)):
                    name = "reflected" if text in REFLECTED else "swapped"
                    sentence = f"{text} computes {text[::-1]}"
            self._report(name, sentence, [text], wrong[0])
        return right

    def _questions(self, text: str) -> Iterator[Program]:
        """An operation below another one, above another one, beside another use of an operand, and of x and x."""
        x, second, n = *points(text)[:2], len(points(text)[0])
        chains = [c for c in CARRIERS if c[0] in self.measured and c[0] != text]
        chains = [c for c in chains if len(c) > 1] + [c for c in chains if len(c) == 1][:2]
        for point, (carrier, *last) in itertools.product((x, second), chains):
            yield program_of((*point, *last), (text, range(n)), (carrier, (n + len(last), n)))
        if n == 2:
            yield program_of((3.0,), (text, (0, 0)))
        for f, k in itertools.product(self._mergers()[:2], range(n)):
            yield program_of(x, (text, range(n)), (f, (n, k)))
            if f in ("a + b", "a * b"):
                inputs = (*x, x[k] / -8 if f == "a * b" else x[k] + 8, -8.0)
                deep = (f, (n, n + 1)), (text, [n + 2 if i == k else i for i in range(n)])
                yield program_of(inputs, *deep)
                yield program_of(inputs, *deep, (f, (n + 3, n + 2)))

    def _shared(self) -> Iterator[Program]:
        """Is a gradient complete before it is passed on? Graphs in which a node is used twice, and long chains."""
        mergers = self._mergers()[:2]
        for f, h in itertools.product(mergers, repeat=2):
            for graph in SHARED:
                steps = ((f if step[0] == "f" else h, map(int, step[1:])) for step in graph.split())
                yield program_of((2.0, -1.5, 1.25), *steps)
        for f in mergers:
            numbers = (2.0, 6.0, 3.0, 4.0) if f == "a * b" else (1.0, 4.0, 2.0, 3.0)
            for last in (numbers[3], 7.0):  # two nodes with equal numbers, and the same with different ones
                yield program_of((*numbers[:3], last), (f, (0, 1)), (f, (2, 3)), (f, (4, 5)))
            for length in (3, 5, 8, 13, 30):
                yield program_of((1.0, 1.0), *((f, (i + 1, 0)) for i in range(length)))

    # What an engine makes of a program

    def _add(self, program: Program, answer: Answer, text: str = "") -> None:
        """Remember an answer to be explained, if there is one."""
        if answer.error:
            if "raises" not in self.mistakes:
                self._report("raises", answer.error, [text] * bool(text), program)
            return
        nodes: list[Operation | None] = [None] * len(program.inputs)
        values, places = list(program.inputs), list[Any](range(len(nodes)))
        for step, indices in program.steps:
            letters = [places[-1 - i % len(places)] for i in indices[: 1 + step.endswith(" b")]]
            places.append(self._expand(step, operands_of(step, letters), nodes, values))
        numbers = [values[p] for p in places]
        if "mutates" in self.mistakes and not all(map(near, answer.data, numbers)):
            return  # the gradients belong to other numbers
        apart = range(len(program.inputs)) if len(program.steps) == 1 else (-1,)  # each operand by itself
        self.trials += [Trial(program, answer, nodes, values, text, k) for k in apart]

    def _calls(self, text: str, other: str) -> bool:
        """Does the engine call its function for another operation to compute this one?"""
        return bool(self.forward.get(other)) and self.forward[other][0] in self.forward.get(text, ())

    def _expand(
        self, text: str, operands: list[Any], nodes: list[Operation | None], values: list[float]
    ) -> int | float:
        """Append the nodes that the engine makes for an operation. Returns the place of the result, or a number.

        An operand is a place in nodes, or a number (a float).
        """
        base = base_of(text)
        if base in ("a + b", "a * b") and not isinstance(operands[0], int):
            operands = operands[::-1]  # 3 * a is a.__rmul__(3), and that is a * 3
        x = tuple(values[p] if isinstance(p, int) else p for p in operands)
        out, slopes = computed(base, x)
        if not any(isinstance(p, int) for p in operands):
            return out
        caller = base if self._calls(text, base) else text
        for steps in MADE_OF.get(base, ()):
            names: dict[Any, Any] = {"a": operands[0], "b": operands[-1]}
            for step, *letters in steps:
                inner = operands_of(step, [names.get(p, p) for p in letters])
                if any(isinstance(p, int) for p in inner) and not self._calls(caller, base_of(step)):
                    break
                names["_"] = self._expand(step, inner, nodes, values)
            else:
                result: int | float = names["_"]
                return result
        for k, p in enumerate(operands):
            if not isinstance(p, int):  # a number becomes a node
                operands = [*operands[:k], len(nodes), *operands[k + 1 :]]
                nodes.append(None)
                values.append(p)
        nodes.append(Operation(text, base, tuple(operands), Row(x, out, slopes, ())))
        values.append(out)
        return len(nodes) - 1

    # Explaining

    def _explain(self) -> None:
        """Find the smallest set of faults, and report each with the smallest program that shows it."""
        general = [*of_root(self.trials), *of_walks()]
        if self.start:
            words = f"a new node has the gradient {self.start:.4g}"
            general.append(Fault("start", words, "start", self.start, cost=0.0))
        if self.engine.spelling.shared:  # it was seen, and makes walks end early
            general = [fault for fault in general if fault.kind != "levels"]
            words = f"{self.engine.spelling.shared} belongs to the class: make a new one in __init__"
            general.append(Fault("shared", words, "walk", "shared", cost=0.9))
        explanation = Explanation(self.trials, general, self.start)
        for fault in explanation.faults:
            shown = explanation.shown_by(fault)
            texts = [text for text in self.measured if any(trial.text == text for trial in shown)]
            if fault.at:
                texts = [text for text in texts if fault.at in (base_of(text), f"{text} only")]
                texts = texts or [fault.at.removesuffix(" only")]
            elif fault.name in NOT_OF_OPERATIONS:
                texts = []
            program = min(shown, key=lambda trial: (len(trial.program.steps), trial.text not in texts)).program
            self._report(fault.name, fault.sentence, texts, program)
        blamed = {fault.at for fault in explanation.faults}
        self.everywhere = "" in blamed
        for trial in explanation.unexplained:
            if not (blamed & {"", *trial.places}):
                self._report("unknown", "", [trial.text] * bool(trial.text), trial.program)

    def _report(
        self, name: str, sentence: str, operations: Sequence[str] = (), shown: Program | None = None
    ) -> None:
        """Add a mistake. One that is known gets more operations, and keeps its first program."""
        if name in self.mistakes:
            all = (*self.mistakes[name].operations, *operations)
            self.mistakes[name] = replace(self.mistakes[name], operations=tuple(dict.fromkeys(all)))
        else:
            mistake = Remark(name, sentence, MISTAKES[name], tuple(operations))
            self.mistakes[name] = mistake
            if shown:
                with contextlib.suppress(GivenUp):
                    self.mistakes[name] = self._shown_by(mistake, shown)

    def _shown_by(self, mistake: Remark, program: Program) -> Remark:
        """The mistake with its program as Python, both numbers, and the step at which they part."""
        ours, names, spelling = solved(program), names_of(program), self.engine.spelling
        for _ in range(20):  # where a set decides the order, not every run is wrong
            answer = self._ask(program)
            if (place := self._wrong(program, answer)) >= 0:
                break
        place, read, got, step = max(place, 0), spelling.gradient, None, ""
        expected = float(ours[place].grad)
        bad = next((i for i, x in enumerate(answer.data) if not near(x, float(ours[i].data))), None)
        if bad is not None:
            place, read, expected, got = bad, spelling.data, float(ours[bad].data), answer.data[bad]
        elif not answer.error:
            got, step = answer.grads[place], _parting(ours, answer.grads, place)
        told = answer.error if got is None else four_digits(got)
        seed = f"{spelling.gradient.format(names[-1])} = 1.0; " * self.seeded
        lines = [
            f"{', '.join(names[: len(program.inputs)])} = {', '.join(map(spelling.make.format, program.inputs))}",
            "; ".join(self.spelled_as(program).assignments(names)),
            seed + spelling.backward.format(names[-1]),
            f"print({read.format(names[place])})  # expected {four_digits(expected)}, got {told}",
        ]
        return replace(mistake, program="\n".join(lines), expected=expected, got=got, step=step, graph=program)

    def _in_place(self) -> None:
        """Does a += b give what a + b gives, where an engine has an __iadd__ of its own?"""
        for text in self._mergers():
            program, spelled = alone(text, points(text)[0]), self.spelled[text]
            self.spelled[text] = f"a.__i{BINARY[text].replace('div', 'truediv')}__(b)"
            answer = self._ask(program)
            if not answer.error and text in self.fine() and self._wrong(program, answer) >= 0:
                is_kept = near(answer.data[0], program.inputs[0])
                name = "mutates" if not is_kept else "value" if any(answer.grads[:-1]) else "severed"
                words = f"it must give what {text} gives, in a new node"
                self._report(name, words, [text.replace(" b", "= b")], program)
            self.spelled[text] = spelled

    def _differs(self, program: Program) -> bool:
        return self._wrong(program, self._ask(program)) >= 0

    def _wrong(self, program: Program, answer: Answer) -> int:
        """The place of the first input whose gradient is not ours, 0 for an error; -1 if all is right."""
        ours = solved(program)
        if answer.error or not all(near(x, float(y.data)) for x, y in zip(answer.data, ours, strict=True)):
            return 0
        sizes, few = absolute_adjoint(ours[-1]), 0.01 if len(program.steps) == 1 else 1.0
        inputs = enumerate(ours[: len(program.inputs)])
        wrong = (i for i, x in inputs if not near(answer.grads[i], float(x.grad), max(few, sizes.get(x, 0))))
        return next(wrong, -1)

    def _random_programs(self) -> None:
        """100 random programs of the operations that seem right, for mistakes nobody has thought of."""
        fine, draw = self.fine(), random.Random(self.seed)
        wrong = [text for text in self.measured if text not in fine]
        texts = [text for text in fine if not any(self._calls(text, other) for other in wrong)]
        programs = list[Program]()
        for _ in range(100 * bool(texts and not self.everywhere)):
            inputs = [draw.choice((0.25, -0.25)) * draw.randint(1, 12) for _ in range(draw.randint(1, 3))]
            steps = [(draw.choice(texts), draw.choices(range(8), k=4)) for _ in range(draw.choice((1, 2, 8)))]
            programs.append(ordinary(inputs, steps))
        programs = [program for program in programs if program.steps]
        answers = self._answers(programs)
        differing = [p for p, answer in zip(programs, answers, strict=True) if self._wrong(p, answer) >= 0]
        if differing:
            smallest = min(differing, key=lambda program: len(program.steps))
            starts = (Program(smallest.inputs, smallest.steps[:n]) for n in range(1, len(smallest.steps)))
            smallest = next(filter(self._differs, starts), smallest)
            steady = self._differs(smallest)  # or is there an order of nodes that a set decides?
            self._report("unknown", "" if steady else "it differs from run to run", (), smallest)

    # What is right in one pass, and not in all cases

    def _limits(self) -> None:
        """The slope of relu at 0, exponential time, depth, gradients that are kept between passes."""
        if "relu(a)" in self.fine() and (slope := sum(self._ask(alone("relu(a)", (0.0,))).grads[:1])):
            self._limit("relu", f"the slope of relu at 0 is {four_digits(slope)}; most engines say 0")
        mergers = sorted(self._mergers(), key=lambda text: text not in self.fine())
        f = next((text for text in [*mergers, *BINARY] if text in self.spelled), "")
        if not f:
            return
        doubled = [program_of((1.0,), *((f, (i, i)) for i in range(n))) for n in (5, 9)]
        few, many = (answer.calls for answer in self._answers(doubled, watched=True))
        if many > 6 * few > 0:
            self._limit("paths", "a node is visited once per path: 40 shared nodes would take years")
        chain, sound = program_of((1.0, 1.0), *((f, (i + 1, 0)) for i in range(1000))), f in self.fine()
        sound = sound and not self.mistakes.keys() & WALKS
        answer = self._ask(chain)
        if self._wrong(chain, answer) < 0:
            self.right.append("a chain of 1,000 operations")
        elif answer.error or sound:
            self._limit("depth", f"a chain of 1,000 operations: {answer.error or 'its gradients are wrong'}")
        if sound:
            self._two_roots(f)

    def _limit(self, name: str, sentence: str) -> None:
        self.limits.append(Remark(name, sentence))

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
