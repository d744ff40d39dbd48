"""diagnose: every known mistake is named, no right engine is accused, and nothing that an engine does stops it."""

import contextlib
import functools
import gc
import io
import itertools
import json
import multiprocessing
import random
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import micrograd.engine
import micrograd_engines
import pytest
from learners import ENGINES, LIMITED, MUTANTS, Replacements, engine

import tinygrad_edu as tg
from tinygrad_edu.testing import Program, diagnose
from tinygrad_edu.testing.check.mistakes import Row
from tinygrad_edu.testing.grade import process
from tinygrad_edu.testing.grade.examination import Examination, _parting
from tinygrad_edu.testing.grade.explanation import Explanation
from tinygrad_edu.testing.grade.faulty_pass import Fault, Operation, Trial
from tinygrad_edu.testing.grade.operations import alone, near, program_of, solved

BY_TITLE = {title: (name, replacements, mistake) for title, name, replacements, mistake in MUTANTS}
COMPOSED = ", composed"  # operations that call others
IN_ANY_ORDER = {"order", "depth", "paths", "equality", "hook", "shared", "levels"}  # a set decides


def names(findings: list[Any]) -> list[str]:
    return [finding.name for finding in findings]


# --- What is named ------------------------------------------------------------------------------------------
LONG = ("backward() of the operands", "other._backward with its own gradient", "visited by _op", "the root has 2")
SENTENCES = {
    "a rule that is not called": "no gradient passes beyond the root: call each rule, as in node._backward()",
    "backward() of the operands": "every gradient is set to 1: only the root's is; call no operand's backward()",
    "+= in place": "changes the number of a node, in a+=b: it must give what a + b gives, in a new node",
}


@pytest.mark.parametrize(
    ("title", "name", "replacements", "mistake"),
    [
        pytest.param(*row, id=row[0], marks=[pytest.mark.slow] * (n % 8 > 0 or row[0] in LONG))
        for n, row in enumerate(MUTANTS)
        if not row[0].endswith(COMPOSED)
    ],
)
def test_each_mistake_is_named(title: str, name: str, replacements: Replacements, mistake: str) -> None:
    learner = engine(name, replacements)
    report = diagnose(learner)
    assert names(report.mistakes) == [mistake]
    (remark,) = report.mistakes
    assert mistake not in ("visited", "levels") or "a chain of 1,000 operations" not in report.right
    assert str(remark) == SENTENCES.get(title, str(remark))
    assert len(remark.program.splitlines()) == 4
    assert "expected" in remark.program
    if mistake in IN_ANY_ORDER | {"raises"}:
        return
    assert abs(remark.expected - remark.got) > 1e-4
    assert mistake in ("value", "mutates", "reflected", "swapped") or "step" in remark.step
    scope = learner if isinstance(learner, dict) else {learner.__name__: learner}
    with contextlib.redirect_stdout(io.StringIO()) as printed:  # the four lines show what they say
        exec(remark.program, dict(scope))
    assert float(printed.getvalue()) == pytest.approx(remark.got)


def test_the_step_at_which_numbers_part_is_the_last_that_gives_the_node_a_share() -> None:
    told = _parting(solved(program_of((3.0,), ("a * b", (0, 0)), ("a * b", (1, 0)))), [9.0, 3.0, 1.0], 0)
    assert re.fullmatch(r"step 2 of 2: b = a \* a: .* -> 27; the engine has a\.grad 9", told)


@pytest.fixture(scope="module")
def fresh() -> Iterator[ProcessPoolExecutor]:
    """A new process for each call."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
        yield pool


def named(name: str, replacements: Replacements) -> list[str]:
    return names(diagnose(engine(name, replacements)).mistakes)


@pytest.mark.slow
@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="the engine runs in a fork")
@pytest.mark.parametrize("row", [row for row in MUTANTS if row[0].endswith(COMPOSED)], ids=lambda row: row[0])
def test_each_mistake_is_named_where_operations_call_others(row: Any, fresh: ProcessPoolExecutor) -> None:
    """In a process of its own, as on the command line: sets of operands decide, and where these lie in memory."""
    _, name, replacements, mistake = row
    assert fresh.submit(named, name, replacements).result(300) == [mistake]


def answers(name: str, replacements: Replacements) -> list[process.Answer]:
    """What an engine answers to the questions that are asked of the one without a mistake."""
    interpreter = process.Interpreter(engine(name, replacements))
    return [interpreter.answer(program) for program in questions(name)]


@functools.cache
def questions(name: str) -> list[Program]:
    graded = process.EngineProcess(engine(name), 60, 512)
    examination = Examination(graded, 0)
    examination.run()
    graded.close()
    programs = [examination.spelled_as(trial.program) for trial in examination.trials]
    return list(dict.fromkeys(programs))[::4]


def agree(ours: list[process.Answer], theirs: list[process.Answer]) -> bool:
    return all(
        bool(a.error) == bool(b.error) and all(map(near, [*a.data, *a.grads], [*b.data, *b.grads]))
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize(
    ("most", "least"),
    [pytest.param(10, 0.8, marks=pytest.mark.slow), pytest.param(400, 0.9, marks=pytest.mark.thorough)],
)
def test_most_pairs_are_named(most: int, least: float) -> None:
    """Of two mistakes in one engine, whose answers are not those of one mistake alone, both are named."""
    pairs = [pair for pair in itertools.combinations(MUTANTS, 2) if pair[0][1] == pair[1][1]]
    random.Random(1).shuffle(pairs)
    named, tried = 0, 0
    for (_, name, first, one), (_, _, second, two) in pairs:
        text = functools.reduce(lambda text, change: text.replace(*change), first, ENGINES[name])
        if tried == most or one == two or not all(old in text for old, _ in second):
            continue
        both = answers(name, first + second)
        if not agree(both, answers(name, first)) and not agree(both, answers(name, second)):
            tried += 1
            named += {one, two} <= set(names(diagnose(engine(name, first + second)).mistakes))
    print(f"{named} of {tried} pairs of mistakes have both named")
    assert tried == most
    assert named >= least * tried  # a few pairs may have one or two more that are not named


def test_a_mistake_that_nobody_thought_of_has_its_program() -> None:
    away = " * (2 if 2.1 < self.data < 3.4 or -3.4 < self.data < -1.6 else 1)"  # where no operation is tried alone
    slopes = ("out.data * out.grad", "t * (1 - t) * out.grad", "(1 - t**2) * out.grad")
    wrong = [(slope, slope + away) for slope in slopes]
    report = diagnose(engine("lecture", wrong))
    (mistake,) = report.mistakes
    assert str(mistake) == "wrong gradient"
    assert len(mistake.graph.steps) <= 2  # shrunk
    assert abs(mistake.expected - mistake.got) > 1e-4
    assert str(diagnose(engine("lecture", wrong))) == str(report)


def test_other_mistakes_with_upstream_are_described() -> None:
    report = diagnose(engine("lecture", [("(1 - t**2) * out.grad", "(1 - t**2) * abs(out.grad)")]))
    assert "forgets upstream, in tanh(a): the sign of upstream is lost" in str(report)


CLIPPED = "gradients are clipped inside of backward"
WRONG_SLOPES = [
    ("other.data * out.grad", "abs(other.data) * out.grad", "wrong slope, in a*b, a*3, 3*a: its sign is lost"),
    (
        "self.data * out.grad",
        "(self.data or 1.0) * out.grad",
        "wrong slope, in a*b: it is right at most operands, and wrong at (0, 2)",
    ),
    ("out.data * out.grad", "min(out.data, 2e4) * out.grad", "wrong slope, in exp(a): it is right at most"),
    *(
        (right, wrong.format(f"min({c}, max(-{c}, {what}))"), f"{CLIPPED}, in {words} stays within {c:g}; pass")
        for c in (0.3, 1.0, 7.0)
        for right, wrong, what, words in [
            ("(1 - t**2) * out.grad", "(1 - t**2) * {}", "out.grad", "tanh(a): upstream"),
            ("(1 - t**2) * out.grad", "{}", "(1 - t**2) * out.grad", "tanh(a): the share"),
            ("other.data * out.grad", "{}", "other.data * out.grad", "a*b, a*3, 3*a: the share"),  # that of self
        ]
    ),
]


@pytest.mark.parametrize(
    ("right", "wrong", "words"),
    [pytest.param(*row, marks=[pytest.mark.slow] * ("a*b: it is right" in row[2])) for row in WRONG_SLOPES],
)
def test_a_slope_that_is_wrong_is_the_only_thing_that_is_blamed(right: str, wrong: str, words: str) -> None:
    (mistake,) = diagnose(engine("lecture", [(f"+= {right}", f"+= {wrong}")])).mistakes
    assert str(mistake).startswith(words)


def test_an_engine_that_differs_from_run_to_run_does_not_stop_the_grader() -> None:
    noisy = engine(
        "lecture", [("(1 - t**2) * out.grad", "(1 - t**2) * (out.grad + (len(self._prev) and self.noise()))")]
    )
    switch = itertools.cycle([0.0, 1.0])
    noisy.noise = lambda self: next(switch)
    assert not diagnose(noisy).ok


def test_no_address_decides_which_of_two_faults_works() -> None:
    """The fault of this operand works, then that of this operation, then that of all; of equal ones the first."""
    factors = ((2, "", -1), (3, "a * b", -1), (5, "a * b", 0))
    faults = [
        Fault(f"{x}", "", "share", lambda node, k, x=x: {"slope": x * node.row.slopes[k]}, at, k)
        for x, at, k in factors
    ]
    product = Operation("a * b", "a * b", (0, 1), Row((2.0, 3.0), 6.0, (3.0, 2.0), ()))
    answer = process.Answer((2.0, 3.0, 6.0), (5.0 * 3.0, 3.0 * 2.0, 1.0))
    trial = Trial(alone("a * b", (2.0, 3.0)), answer, [None, None, product], answer.data, "a * b")
    explanation = Explanation([trial], [])
    for given in itertools.permutations(faults):
        assert explanation._cost(0, given) == 0
    twice = replace(trial, answer=process.Answer(answer.data, (2 * 3.0, 2 * 2.0, 1.0)))
    for given in itertools.permutations([*faults[:1], replace(faults[0], name="the same"), *faults[1:]]):
        (first,) = Explanation([twice], given).faults
        assert first.name == next(fault.name for fault in given if fault.name in ("2", "the same"))


# --- What is right ------------------------------------------------------------------------------------------
VARIANTS = ("relu' of 0 is 1", "-= in place of += -", "0 in place of 0.0", "operands in a list")


@pytest.mark.parametrize(
    ("title", "name", "replacements", "limits"),
    [pytest.param(*row, id=row[0], marks=[pytest.mark.slow] * (row[0] in VARIANTS)) for row in LIMITED],
)
def test_right_engines_are_not_accused(title: str, name: str, replacements: Replacements, limits: str) -> None:
    report = diagnose(engine(name, replacements))
    assert report.mistakes == []
    assert set(names(report.limits)) == set(limits.split())
    again = "a pass walks the graph of an earlier pass again"
    assert (again in str(report)) == (title == "a list for all passes")
    if "missing" in limits:
        assert not report.ok
    else:
        assert report.check() is report


@pytest.mark.parametrize(
    ("learner", "limits"),
    [
        (micrograd.engine.Value, ["depth", "interior"]),
        (micrograd_engines.LocalGrads, ["depth", "interior"]),  # microgpt's
        (tg.Value, []),
        (tg.micrograd.engine.Value, []),
    ],
)
def test_the_engines_that_people_know(learner: Any, limits: list[str], request: Any) -> None:
    gc.callbacks.append(called := lambda *_: None)  # which is no function of the engine
    request.addfinalizer(lambda: (gc.set_threshold(700, 10, 10), gc.callbacks.remove(called)))
    gc.set_threshold(5)
    report = diagnose(learner)
    assert report.mistakes == []
    assert names(report.limits) == limits
    if limits:
        assert "two roots that share nodes give 34 in place of 24" in str(report.limits[1])
        assert "RecursionError" in str(report.limits[0])


# --- What cannot fool it ------------------------------------------------------------------------------------
class Constant:
    """Whatever it is asked, it says 1."""

    def __init__(self, data: float):
        self.data, self.grad = data, 1.0

    def __add__(self, other: Any) -> "Constant":
        return Constant(1.0)

    __mul__ = __radd__ = __rmul__ = __add__

    def backward(self) -> None:
        pass


class Borrowed(tg.Value):
    pass


class Wrapped:
    """Looks like an engine of one's own, and leaves all work to ours."""

    def __init__(self, data: Any):
        self.inner = data if isinstance(data, tg.Value) else tg.Value(data)

    data = property(lambda self: self.inner.data)
    grad = property(lambda self: self.inner.grad)

    def __mul__(self, other: Any) -> "Wrapped":
        return Wrapped(self.inner * getattr(other, "inner", other))

    def backward(self) -> None:
        self.inner.backward()


@pytest.mark.parametrize("learner", [Constant, Borrowed, Wrapped])
def test_an_engine_that_does_not_compute_by_itself_does_not_pass(learner: type) -> None:
    report = diagnose(learner)
    assert ("computes with tinygrad_edu" in str(report)) == (learner is not Constant)
    assert names(report.mistakes) == ["borrowed"] or (learner is Constant and not report.ok)


SORT = "        build_topo(self)\n"
AT_LAST = SORT + "        import os; self._op == 'relu' and all(v.data == 0 for v in self._prev) and os._exit(3)\n"
CATCHES = """\
        while True:
            try:
                big = [0] * 10**9
            except BaseException:
                pass
"""


@pytest.mark.parametrize(
    ("instead", "mistake", "words"),
    [
        ("        while True:\n            pass\n", "unusable", "it took more than 1 seconds"),
        (CATCHES, "unusable", "took more than 1 seconds"),
        ("        import os; os._exit(3)\n", "unusable", "ended its process (exit code 3)"),
        (AT_LAST, "unusable", "ended its process (exit code 3)"),  # at relu(0), which is asked at the end
        ("        raise SystemExit\n", "raises", "SystemExit"),
        ("        big = [0] * 10**11\n", "raises", "MemoryError"),
        ("        input()\n", "raises", "EOFError"),
    ],
    ids=["hangs", "hangs and catches", "exits", "exits at last", "SystemExit", "memory", "input"],
)
def test_an_engine_cannot_stop_the_grader(
    instead: str, mistake: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "DEATHS", 0)  # given up after the first answer that does not come
    report = diagnose(engine("lecture", [(SORT, instead)]), seconds=1 if mistake == "unusable" else 20)
    assert names(report.mistakes) == [mistake]
    assert words in str(report)


def test_errors_that_are_caught_and_prints_change_nothing(capfd: Any) -> None:
    caught = (
        "            try:\n                raise ValueError\n            except Exception:\n                pass\n"
    )
    said = SORT + "        print('x' * 9999)\n"
    report = diagnose(engine("lecture", [("            node._backward()\n", caught), (SORT, said)]))
    assert names(report.mistakes) == ["idle"]
    assert capfd.readouterr() == ("", "")


# --- The report ---------------------------------------------------------------------------------------------
def test_the_screen() -> None:
    report = diagnose(engine("lecture", BY_TITLE["assigns in *"][1] + BY_TITLE["wrong sign in -"][1]))
    lines = str(report).splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 100
    assert lines[0] == "Value: 2 mistakes, 2 limits, as the lecture's engine has"
    for text in (
        "not yet wrong sign, in a-b, 3-a:",
        "b.grad 0 -> -1; the engine has b.grad 1",
        "c = a - b c.backward() print",
    ):
        assert text in " ".join(str(report).split()), text
    with pytest.raises(AssertionError) as caught:
        report.check()
    assert str(report) in str(caught.value)


def test_the_json_and_the_page(tmp_path: Path) -> None:
    report = diagnose(engine("tape", BY_TITLE["b / a"][1]))
    facts = json.loads(report.to_json())
    assert (facts["ok"], facts["engine"], facts["mistakes"][0]["name"]) == (False, "Var", "swapped")
    assert facts["mistakes"][0]["program"].startswith("a, b = Var(2.0), Var(3.0)\nc = div(a, b)\n")
    page = report.to_html(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == page
    assert page.count("<iframe") == 1
    assert "c = div(a, b)" in page
    nothing = diagnose(engine("lecture", [("self.grad += other.data * out.grad", "self.grad += math.nan")]))
    assert json.loads(nothing.to_json(), parse_constant=pytest.fail)["ok"] is False


def test_engines_that_cannot_be_run_at_all(tmp_path: Path) -> None:
    for made, words in (
        (type("Empty", (), {}), r"Empty\(8.0\) does not make a node: Empty\(\) takes no arguments"),
        ({"x": 1}, r"there is no class with a method backward\(\), such as Value"),
        (3, "an engine is a class, a module, a dict or the path of a file, not 3"),
        (tmp_path / "none.py", "There is no file"),
        (type("Value", (), {"__init__": lambda self, x: vars(self).update(data=x)}), "holds its grad"),
        (type("Value", (), {"__init__": lambda self, x: vars(self).update(data=x, grad=0)}), "no method that sta"),
    ):
        with pytest.raises(ValueError, match=words):
            diagnose(made)


def test_where_nothing_forks_it_runs_here_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    for title in ("assigns shares", "root not set, tape"):
        name, replacements, mistake = BY_TITLE[title]
        report = diagnose(engine(name, replacements))
        assert names(report.mistakes) == [mistake]
        assert report.unlimited == "time and memory"
        assert "this system did not limit the time and memory of the engine" in str(report)
    assert names(diagnose(Wrapped).mistakes) == ["borrowed"]
