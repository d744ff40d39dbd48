"""The exercise: the solution passes, a gap that is left open is told as its step, wrong first tries are named."""

import re
import runpy
from pathlib import Path

import nbformat
import pytest

from tinygrad_edu import cli
from tinygrad_edu.testing.grade import exercise

# The code of each gap, in the order of the file.
SOLUTION = [
    "self.data, self.operands = data, operands\nself.grad, self._backward = 0.0, lambda: None",
    "return node(self.data + other.data, (self, other), add_rule)",
    "return node(self.data * other.data, (self, other), mul_rule)",
    "self.grad = 1.0\nfor v in reversed(topological_order(self)):\n    v._backward()",
    "return self * -1",
    "return self + -lift(other)",
    "return self * lift(other) ** -1",
    """\
def rule(out):
    self.grad += n * self.data ** (n - 1) * out.grad

return node(self.data**n, (self,), rule)""",
    """\
def rule(out):
    self.grad += (1 - out.data**2) * out.grad

return node(math.tanh(self.data), (self,), rule)""",
    "a.grad += out.grad\nb.grad += out.grad",
    "a.grad += b.data * out.grad\nb.grad += a.data * out.grad",
    """\
order, seen, stack = [], set(), [(root, False)]
while stack:
    v, done = stack.pop()
    if done:
        order.append(v)
    elif v not in seen:
        seen.add(v)
        stack += [(v, True), *((p, False) for p in v.operands)]
return order""",
    "self.w = [Value(random.uniform(-1, 1)) for _ in range(n_inputs)]\nself.b = Value(0.0)",
    "return sum((w * p for w, p in zip(self.w, x)), self.b).tanh()",
    """\
loss = sum(((neuron(x) - t) ** 2 for x, t in zip(points, targets)), Value(0.0)) / len(points)
for p in [*neuron.w, neuron.b]:
    p.grad = 0.0
loss.backward()
for p in [*neuron.w, neuron.b]:
    p.data -= rate * p.grad
return loss.data""",
]
GAP = re.compile(r'^( +)raise NotImplementedError\("step (\d)"\)$', re.MULTILINE)


def solved(text: str, open_step: int = 0, changes: tuple[tuple[str, str], ...] = ()) -> str:
    """The engine with its gaps filled, but for those of one step, and with a mistake."""
    codes = iter(SOLUTION)

    def fill(gap: re.Match[str]) -> str:
        code = next(codes)
        return gap[0] if int(gap[2]) == open_step else re.sub("^(?=.)", gap[1], code, flags=re.MULTILINE)

    text = GAP.sub(fill, text)
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    assert cli.main(["exercise", str(tmp_path / "work")]) == 0
    return tmp_path / "work" / "engine.py"


def told(engine: Path, capsys: pytest.CaptureFixture[str], hint: bool = False) -> str:
    capsys.readouterr()
    exercise.check(engine, hint)
    return capsys.readouterr().out


def test_the_solution_passes_all_steps(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = solved(engine.read_text(encoding="utf-8"))
    assert len(re.sub(r"(?m)^ +# Step.*\n", "", text).splitlines()) <= 120
    engine.write_text(text, encoding="utf-8")
    lines = told(engine, capsys).splitlines()
    assert [line[:12] for line in lines[:7]] == [f"step {n} holds" for n in range(1, 8)]
    assert "All seven steps hold" in lines[-1]


@pytest.mark.parametrize("step", [1, 4, 6, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3, 5, 7))])
def test_an_open_gap_is_told_as_its_step(step: int, engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine.write_text(solved(engine.read_text(encoding="utf-8"), step), encoding="utf-8")
    lines = told(engine, capsys).splitlines()
    assert lines[step - 1].startswith(f"step {step} not yet")
    assert lines[step].startswith("the gap is still open" if step != 6 else "there is no a-b, a/b, -a")
    assert all(line.endswith(f"holds: {title}") for line, title in zip(lines[: step - 1], exercise.TITLES))  # noqa: B905


EARLY = (
    "stack += [(v, True), *((p, False) for p in v.operands)]",
    "order.append(v)\n        stack += [(p, False) for p in v.operands]",
)
ASSIGNED = ("a.grad += b.data * out.grad\n    b.grad +=", "a.grad = b.data * out.grad\n    b.grad =")
WRONG = [  # a first try at each step, and what is said of it
    (1, ("self._backward = 0.0,", "self._backward = None,"), "Value(2.5).grad is None, expected 0"),
    (2, ("self.data * other.data, (self, other)", "self.data * other.data, (other, self)"), "expected (a, b)"),
    (3, ("a.grad += b.data * out.grad", "a.grad += b.data"), "a.grad is 3.0, expected 30"),
    (4, EARLY, "stands before one of its operands"),
    (5, ASSIGNED, "assigns instead of accumulating"),
    (6, ("(1 - out.data**2)", "(1 - self.data**2)"), "tanh' computed from the input"),
    (7, ("p.data -= rate", "p.data += rate"), "the loss goes from"),
]


@pytest.mark.parametrize(("step", "change", "words"), WRONG)
def test_a_wrong_first_try_is_named(
    step: int, change: tuple[str, str], words: str, engine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.write_text(solved(engine.read_text(encoding="utf-8"), 0, (change,)), encoding="utf-8")
    text = told(engine, capsys, hint=True)
    assert f"step {step} not yet" in text
    assert words in text
    assert f"hint: {exercise.HINTS[step - 1]}" in text


def test_the_folder_has_no_answers_and_keeps_work(engine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in engine.parent.iterdir():
        text = path.read_text(encoding="utf-8")
        assert not any(code.splitlines()[0] in text for code in SOLUTION)
    assert {int(step) for _, step in GAP.findall(engine.read_text(encoding="utf-8"))} == set(range(1, 8))
    assert cli.main(["exercise", str(engine.parent)]) == 1
    assert "is there already" in capsys.readouterr().err


def test_check_and_the_notebook_run(engine: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(engine.parent)
    with pytest.raises(SystemExit) as stop:
        runpy.run_path("check.py", run_name="__main__")
    assert stop.value.code == 7
    assert "step 1 not yet: a node\nthe gap is still open: step 1" in capsys.readouterr().out
    book = nbformat.read(engine.parent / "engine.ipynb", 4)
    nbformat.validate(book)
    scope: dict[str, object] = {}
    for cell in book.cells:
        if cell.cell_type == "code":
            exec(solved(cell.source) if "class Value" in cell.source else cell.source, scope)
    assert "All seven steps hold" in capsys.readouterr().out
