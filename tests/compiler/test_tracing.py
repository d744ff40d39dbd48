"""Tracing: what is refused stays refused, a change is noticed, and no other thread sees a trace."""

import contextlib
import copy
import functools
import linecache
import pickle
import random
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import COPIES, run_lines
from hypothesis import given

import tinygrad_edu as tg
from tinygrad_edu import Value, nn
from tinygrad_edu.compiler.run import base
from tinygrad_edu.compiler.trace import lending, placeholder
from tinygrad_edu.compiler.trace.lending import standing_in
from tinygrad_edu.testing.check.strategies import programs

X = np.random.default_rng(0).normal(size=(4, 3))
CLASSES = np.array([0, 1, 1, 0])
BACKENDS = pytest.mark.parametrize("backend", ["numpy", "python"])


def mlp() -> nn.MLP:
    return nn.MLP(3, [8, 2], "tanh", rng=0)


def loss_of(model: Any) -> Callable[[Any, Any], Any]:
    return lambda x, y: nn.cross_entropy(model(x), y)


# --- A refusal is remembered ------------------------------------------------------------------------------------
Use = Callable[[Any, Any], Any]


# what is caught, and what is raised instead
HANDLES: dict[str, tuple[type[Exception], type[Exception] | None]] = {
    "catches": (TypeError, None),
    "catches all": (Exception, None),
    "raises another": (TypeError, ValueError),
}


def handled(use: Use, caught: type[Exception], other: type[Exception] | None) -> Use:
    def function(x: Any, w: Any) -> Any:
        try:
            return use(x, w)
        except caught:
            if other:
                raise other("no number") from None
            return w * x

    return function


USES: list[Use] = [  # each in a line of its own, which the error names
    lambda x, w: w * float(x),
    lambda x, w: w * x * 2 if x > 100 else w,
    lambda x, w: w * x.data,
    lambda x, w: x * w.data,
    lambda x, w: next(w * x if part else w for part in (x,)),  # in a generator
    lambda x, w: x * float(x * w),
]
HOW: Any = {"numpy": {}, "javascript": {"backend": "javascript", "example": (1.0,)}}


@pytest.mark.parametrize(("use", "backend"), [(USES[-1], "numpy"), *((use, "javascript") for use in USES)])
@pytest.mark.parametrize("handles", HANDLES)
def test_a_refusal_is_raised_whatever_the_function_does_with_it(handles: str, use: Any, backend: str) -> None:
    w = Value(2.0)
    line = rf"in line {use.__code__.co_firstlineno} of .*test_tracing.py"
    with pytest.raises(tg.TraceError, match=line) as caught:
        tg.compile(lambda x: handled(use, *HANDLES[handles])(x, w), [w], **HOW[backend]).predict([1.0, 200.0])
    assert any("one example" in note for note in caught.value.__notes__)
    assert (type(w), w.data) == (Value, 2.0)


@pytest.mark.parametrize("name", ["<cell 1>", "<cell 2>", placeholder.PACKAGE.rstrip("/\\") + "_of_mine.py"])
def test_the_line_is_found_in_code_without_a_file_or_beside_a_folder_of_a_similar_name(name: str) -> None:
    source = "def function(x):\n    y = x * 2\n    return [*[y.exp()]][0] if y > 1 else x\n"
    if name == "<cell 1>":  # as IPython and doctest do
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    namespace: dict[str, Any] = {}
    exec(compile(source, name, "exec"), namespace)
    w = Value(1.0)
    with pytest.raises(tg.TraceError) as caught:
        tg.compile(lambda x: w * namespace["function"](x), [w]).predict([1.0, 0.1])
    text = ": `return [*[y.exp()]][0] if y > 1 else x`" if name == "<cell 1>" else ""
    assert f"in line 3 of {name}{text}." in str(caught.value)


# --- What changes after the trace -------------------------------------------------------------------------------
@BACKENDS
@pytest.mark.parametrize("held", [lambda model: lambda: model, weakref.ref])  # one that is looked into, one not
def test_a_mode_that_changes_is_noticed(backend: str, held: Any) -> None:
    model = nn.Sequential(nn.Dense(3, 2, rng=0), nn.Dropout(0.5, rng=0)).eval()
    of = held(model)
    step = tg.compile(lambda x: tg.sum(of()(x)), model.parameters(), backend=backend)
    value, _ = step.value_and_grad(X)
    model.train()
    assert step.value_and_grad(X)[0] != value
    model.eval()
    assert step.value_and_grad(X)[0] == value


@BACKENDS
def test_programs_of_old_shapes_are_dropped(backend: str) -> None:
    w, traced = Value(1.0), []

    def function(x: Any) -> Any:
        traced.append(len(x))
        return w * tg.sum(x)

    step = tg.compile(function, [w], backend=backend, verify=False)
    for n in range(1, 41):
        assert step.predict(np.ones((1, n)))[0] == n
    assert len(step._programs.builds) == 32
    step.predict(np.ones((1, 9)))  # one of the last 32, and now the last one that was used
    step.predict(np.ones((1, 41)))
    step.predict(np.ones((1, 9)))
    assert traced == [*range(1, 41), 41]
    step.predict(np.ones((1, 1)))
    assert traced[-1] == 1


def test_buffers_of_old_batch_sizes_are_dropped() -> None:
    w = Value(1.0)
    step = tg.compile(lambda x: w * x, [w])
    for size in [*range(1, 21), 1]:
        assert step.predict(np.ones(size)).shape == (size,)
    (build,) = step._programs.builds
    assert len(build._runs) == 8


# --- Copies -----------------------------------------------------------------------------------------------------
class Model(nn.Module):
    """A model that holds its compiled loss, a method."""

    def __init__(self, backend: str = "numpy"):
        self.net = mlp()
        self.step = tg.compile(self.loss, self.parameters(), backend=backend)

    def __call__(self, x: Any) -> Any:
        return self.net(x)

    def loss(self, x: Any, y: Any) -> Any:
        return nn.cross_entropy(self(x), y)


def loss_with(model: Any, x: Any, y: Any) -> Any:
    return nn.cross_entropy(model(x), y)


pickled = COPIES["pickle"]
STEPS: dict[str, Callable[[str], Any]] = {
    "a method": lambda backend: Model(backend).step,
    "a partial": lambda backend: tg.compile(
        functools.partial(loss_with, model := mlp()), model.parameters(), backend=backend
    ),
}


@BACKENDS
@pytest.mark.parametrize("how", [copy.deepcopy, pickled, lambda x: pickled(pickled(x)), copy.copy])
@pytest.mark.parametrize("name", STEPS)
def test_a_copy_computes_the_same_and_has_parameters_of_its_own(name: str, how: Any, backend: str) -> None:
    step = STEPS[name](backend)
    value, gradient = step.value_and_grad(X, CLASSES)
    twin = how(step)
    assert repr(twin) == repr(step)
    again, others = twin.value_and_grad(X, CLASSES)
    assert (again, list(others)) == (value, list(gradient))
    if how is not copy.copy:
        twin.parameters[0].data += 1.0
        assert twin.value_and_grad(X, CLASSES)[0] != value
    assert step.value_and_grad(X, CLASSES)[0] == value


@BACKENDS
@pytest.mark.parametrize("how", [copy.deepcopy, pickled])
def test_a_model_that_holds_its_step_can_be_copied(how: Any, backend: str) -> None:
    model = Model(backend)
    value = model.step.backward(X, CLASSES)
    twin = how(model)
    assert twin.step.parameters == twin.parameters() != model.parameters()
    assert twin.step.backward(X, CLASSES) == value
    assert [p.grad for p in twin.parameters()] == [2 * p.grad for p in model.parameters()]


def test_a_copy_keeps_its_options_and_makes_its_programs_anew() -> None:
    w = Value(2.0)
    step = tg.compile(lambda x: w * x, [w], "float32", verify=False)
    step.predict([1.0])
    twin = copy.copy(step)
    assert (twin.dtype, twin.verify, twin.parameters[0].data) == (np.float32, False, 2.0)
    with pytest.raises(RuntimeError, match="Nothing is compiled yet"):
        _ = twin.source


@pytest.mark.parametrize("how", [pickled, copy.deepcopy])
def test_what_a_copy_would_tear_apart_is_refused(how: Any) -> None:
    w = Value(2.0)
    with pytest.raises(pickle.PicklingError, match="Compile a method, a Module or functools"):
        how(tg.compile(lambda x: w * x, [w]))
    step = STEPS["a method"]("numpy")
    with step.arrays(), pytest.raises(RuntimeError, match="is inside a block of arrays"):
        how(step)


# --- Threads ----------------------------------------------------------------------------------------------------
@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns a hundred times as often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    yield
    sys.setswitchinterval(before)


def test_to_other_threads_a_lent_parameter_is_what_it_was() -> None:
    """One thread gives w another number. This one computes with its own, and compiles when the block ends."""
    w, v, opened, done = Value(2.0, label="w"), Value(3.0), threading.Event(), threading.Event()

    def lend() -> Any:
        with standing_in({w: 5.0}):
            opened.set()
            done.wait(300)
            return w.data, (w * v).data

    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(lend)
        opened.wait(300)
        (root := w * v * w).backward()
        w.data += 1.0
        step = pool.submit(lambda: tg.compile(lambda x: w * x, [w]).value_and_grad([2.0])[0])
        assert (root.data, w.grad, v.grad, w.data, w > 2, f"{w:.1f}") == (12.0, 12.0, 4.0, 3.0, True, "3.0")
        assert not step.done()
        done.set()
        assert (other.result(), step.result()) == ((5.0, 15.0), 6.0)
    assert (type(w), w.data, w.grad) == (Value, 3.0, 12.0)


READS: list[Any] = [lambda w: w.data, lambda w: (w * w).backward(), lambda w: w > 0, lambda w: w.grad]


@pytest.mark.parametrize("use", READS)
def test_to_use_a_parameter_while_another_thread_traces_it_is_refused(use: Any) -> None:
    w, tracing, done = Value(2.0, "w"), threading.Event(), threading.Event()

    def loss(x: Any) -> Value:
        tracing.set()
        done.wait(300)
        return w * x

    step, known = tg.compile(loss, [w], verify=False), tg.compile(lambda x: w * x, [w])
    known([1.0])
    with ThreadPoolExecutor(2) as pool:
        other = pool.submit(step.value_and_grad, [3.0])
        tracing.wait(300)
        with pytest.raises(tg.TraceError) as error:
            bool(use(w))
        assert "another thread compiles a function of this Value" in str(error.value.__notes__)
        waits = pool.submit(known.backward, [1.0])
        done.set()
        assert other.result()[0] == 6.0
        assert waits.result() == 2.0
    assert (type(w), w.data, w.grad) == (Value, 2.0, 1.0)


@given(programs())
def test_a_value_that_stands_in_computes_with_its_other_number(program: Any) -> None:
    """Random programs: value and gradients are those of a Value with that number, and nothing stays of it."""
    plain, other = [Value(x) for x in program.inputs], [Value(-9.0) for _ in program.inputs]
    expected = program(*plain)
    expected.backward()
    with standing_in(dict(zip(other, program.inputs, strict=True))):
        result = program(*other)
        result.backward()
        assert repr([result.data, *(x.grad for x in other)]) == repr([expected.data, *(x.grad for x in plain)])
    assert {(x.data, x.grad, type(x)) for x in other} == {(-9.0, 0.0, Value)}
    assert not lending._here.numbers


def test_values_of_a_class_of_ones_own_are_parameters() -> None:
    class Named(Value):
        note = "of the class"

    w = Named(2.0)
    w.note = "mine"
    for backend in ("numpy", "python"):
        assert tg.compile(lambda x: w * x + abs(w), [w], backend=backend).value_and_grad([1.0])[0] == 4.0
    assert (type(w), w.note, w.data) == (Named, "mine", 2.0)


@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize(("n_threads", "times"), [(2, 2), pytest.param(8, 10, marks=pytest.mark.slow)])
def test_threads_compile_one_model_at_once_and_train_their_own_in_arrays(n_threads: int, times: int) -> None:
    model = mlp()
    expected = tg.compile(loss_of(model), model.parameters()).value_and_grad(X, CLASSES)

    def compiled(i: int) -> list[float]:
        for _ in range(times):
            value, gradient = tg.compile(loss_of(model), model.parameters()).value_and_grad(X, CLASSES)
            assert value == expected[0]
            assert (gradient == expected[1]).all()
        own = mlp()
        step = tg.compile(loss_of(own), own.parameters())
        with step.arrays() as theta:
            for _ in range(3 * times):
                theta -= 0.1 * step.value_and_grad(X, CLASSES)[1]
        return [p.data for p in own.parameters()]

    with ThreadPoolExecutor(n_threads) as pool:
        results = list(pool.map(compiled, range(n_threads)))
    assert results == [compiled(0)] * n_threads
    assert {type(p) for p in model.parameters()} == {Value}


def test_an_interrupt_in_any_line_of_arrays_leaves_no_block_open() -> None:
    w = Value(0.0, "w")
    step = tg.compile(lambda x: w * x, [w])

    def inside(frame: Any) -> bool:
        # CPython handles no signal while it takes or gives back a lock
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        return frame.f_code.co_filename == base.__file__ and "with _lock" not in text

    def enter() -> None:
        with step.arrays():
            pass

    lines = run_lines(enter, inside)
    assert lines > 20
    for at in range(1, lines + 1):
        with pytest.raises(KeyboardInterrupt):
            run_lines(enter, inside, at)
        assert run_lines(enter, inside) == lines


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The pass")  # an interrupt inside of one may be taken for its fault
def test_an_interrupt_in_any_line_of_the_compiler_leaves_the_parameters_as_they_were() -> None:
    model, folder = mlp(), str(Path(base.__file__).parent)
    before = [(p.data, p.grad, type(p)) for p in model.parameters()]

    def inside(frame: Any) -> bool:
        text = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        return frame.f_code.co_filename.startswith(folder) and "with _lock" not in text

    def compile_it() -> None:
        step = tg.compile(loss_of(model), model.parameters())
        with step.arrays():
            step.value_and_grad(X, CLASSES)

    lines = run_lines(compile_it, inside)
    assert lines > 1000
    for at in sorted(random.Random(0).sample(range(1, lines), 40)):
        with contextlib.suppress(KeyboardInterrupt):  # a pass that is left out goes on
            run_lines(compile_it, inside, at)
        assert [(p.data, p.grad, type(p)) for p in model.parameters()] == before, at
    compile_it()
