"""Tracing: what is refused stays refused, a change is noticed, and no other thread sees a trace."""

import contextlib
import copy
import functools
import linecache
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given

import tinygrad_edu as tg
from tinygrad_edu import Value, nn, optim
from tinygrad_edu.compiler import base
from tinygrad_edu.compiler.tracing import UNKNOWN, standing_in
from tinygrad_edu.testing.strategies import programs

X = np.random.default_rng(0).normal(size=(4, 3))
CLASSES = np.array([0, 1, 1, 0])
BACKENDS = pytest.mark.parametrize("backend", ["numpy", "python"])


def mlp() -> nn.MLP:
    return nn.MLP(3, [8, 2], "tanh", rng=0)


def loss_of(model: Any) -> Callable[[Any, Any], Any]:
    return lambda x, y: nn.cross_entropy(model(x), y)


# --- A refusal is remembered ------------------------------------------------------------------------------------


def catches(x: Any, w: Any) -> Any:
    try:
        if x > 100:  # here
            return w * x * 2
    except TypeError:
        pass
    return w * x


def suppresses(x: Any, w: Any) -> Any:
    with contextlib.suppress(Exception):
        w = w * float(x)  # here
    return w * x


def raises_another(x: Any, w: Any) -> Any:
    try:
        return w * x.data  # here
    except TypeError:
        raise ValueError("no number") from None


def catches_the_error_itself(x: Any, w: Any) -> Any:
    try:
        return w * max(x, 0.0)  # here
    except tg.TraceError:
        return w * x


def reads_a_parameter(x: Any, w: Any) -> Any:
    try:
        return x * w.data  # here
    except Exception:
        return w * x


def is_caught_in_a_generator(x: Any, w: Any) -> Any:
    def parts() -> Iterator[Any]:
        try:
            yield w * x if x else w  # here
        except TypeError:
            yield w * x

    return parts()


@pytest.mark.parametrize(
    ("function", "backend"),
    [
        (suppresses, "numpy"),  # the others are traced by examples there
        (catches, "python"),
        (suppresses, "python"),
        (raises_another, "python"),
        (catches_the_error_itself, "python"),
        (reads_a_parameter, "python"),
        (is_caught_in_a_generator, "python"),
    ],
)
def test_a_refusal_is_raised_whatever_the_function_does_with_it(function: Any, backend: str) -> None:
    w = Value(2.0)
    lines, start = function.__code__.co_filename, function.__code__.co_firstlineno
    here = next(i for i in range(start, start + 12) if "# here" in linecache.getline(lines, i))
    with pytest.raises(tg.TraceError, match=rf"in line {here} of .*test_tracing.py") as caught:
        tg.compile(lambda x: function(x, w), [w], backend=backend).predict([1.0, 200.0])
    assert any("one example" in note for note in caught.value.__notes__)
    assert (type(w), w.data) == (Value, 2.0)


def test_an_error_that_the_engine_raises_too_may_be_caught() -> None:
    w = Value(2.0)

    def function(x: Any) -> Any:
        try:
            return w * x * "2"
        except TypeError:
            return w * x * 2.0

    assert tg.compile(function, [w]).predict([1.0]).tolist() == [4.0]


def test_a_function_of_numpy_on_a_placeholder_is_refused_with_a_sentence() -> None:
    w = Value(2.0)
    with pytest.raises(
        tg.TraceError, match=r"a function of NumPy was called with a placeholder in line .*tg.exp\(x\)"
    ):
        tg.compile(lambda x: np.exp(w * x), [w]).predict([1.0])


@pytest.mark.parametrize("known", [True, False])
def test_the_line_is_found_in_code_without_a_file(known: bool) -> None:
    source, name = "def function(x):\n    y = x * 2\n    return y if y > 1 else x\n", f"<cell {known}>"
    if known:  # as IPython and doctest do
        linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    namespace: dict[str, Any] = {}
    exec(compile(source, name, "exec"), namespace)
    w = Value(1.0)
    with pytest.raises(tg.TraceError) as caught:
        tg.compile(lambda x: w * namespace["function"](x), [w]).predict([1.0, 0.1])
    text = ": `return y if y > 1 else x`" if known else ""
    assert f"in line 3 of {name}{text}." in str(caught.value)


def test_the_line_is_the_users_also_beside_a_folder_of_a_similar_name(tmp_path: Any) -> None:
    from tinygrad_edu.compiler import tracing

    name = tracing.PACKAGE.rstrip("/\\") + "_of_mine.py"
    namespace: dict[str, Any] = {}
    exec(compile("def function(x):\n    return x if x > 0 else 2 * x\n", name, "exec"), namespace)
    w = Value(1.0)
    with pytest.raises(tg.TraceError, match=r"in line 2 of .*_of_mine.py"):
        tg.compile(lambda x: w * namespace["function"](x), [w]).predict([1.0, -1.0])


# --- What changes after the trace -------------------------------------------------------------------------------


@BACKENDS
def test_a_mode_that_changes_is_noticed(backend: str) -> None:
    model = nn.Sequential(nn.Dense(3, 2, rng=0), nn.Dropout(0.5, rng=0)).eval()
    step = tg.compile(lambda x: tg.sum(model(x)), model.parameters(), backend=backend)
    value, _ = step.value_and_grad(X)
    model.train()
    for call in (step, step.value_and_grad, step.predict):
        with pytest.raises(tg.TraceError, match=r"Dropout draws anew in every call.*call model.eval\(\) first"):
            call(X)
    model.eval()
    assert step.value_and_grad(X)[0] == value


@BACKENDS
def test_a_module_of_ones_own_may_branch_on_its_mode(backend: str) -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            self.w = Value(3.0)

        def __call__(self, x: Any) -> Any:
            return self.w * x * (10.0 if self.training else 1.0)

    model, calls = Noisy(), []
    step = tg.compile(lambda x: (calls.append(x), model(x))[1], model.parameters(), backend=backend)
    for _ in range(3):
        assert step.value_and_grad([1.0])[0] == 30.0
        assert step.value_and_grad([1.0])[1][0] == 10.0
        model.eval()
        assert step.value_and_grad([1.0])[0] == 3.0
        model.train()
    assert len(calls) == 4  # a trace and a comparison for each mode: both programs are kept


def test_running_statistics_that_change_are_noticed() -> None:
    norm = nn.BatchNorm(3).eval()
    step = tg.compile(lambda x: tg.sum(norm(x)), norm.parameters())
    for mean in (0.0, 2.0):
        norm.running_mean[:] = [mean] * 3
        expected = [tg.sum(norm(x)).data for x in X]
        np.testing.assert_allclose(step.predict(X), expected, rtol=1e-12)


@BACKENDS
def test_a_constant_that_is_computed_inside_is_watched(backend: str) -> None:
    w, a = Value(1.0), Value(2.0)
    step = tg.compile(lambda x: w * x * (a * 2), [w], backend=backend)
    assert step.value_and_grad([1.0])[0] == 4.0
    a.data = 5.0
    assert step.value_and_grad([1.0])[0] == 10.0


@BACKENDS
def test_programs_of_old_shapes_are_dropped(backend: str) -> None:
    w, traced = Value(1.0), []

    def function(x: Any) -> Any:
        traced.append(len(x))
        return w * tg.sum(x)

    step = tg.compile(function, [w], backend=backend, verify=False)
    for n in range(1, 41):
        assert step.predict(np.ones((1, n)))[0] == n
    assert len(step._programs) == 32
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
    (made,) = step._programs
    assert len(made._runs) == 8


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


class Closed(Model):
    """The same with a lambda that closes over the model."""

    def __init__(self, backend: str = "numpy"):
        self.net = mlp()
        self.step = tg.compile(lambda x, y: self.loss(x, y), self.parameters(), backend=backend)


GLOBAL = mlp()


def global_loss(x: Any, y: Any) -> Any:
    return tg.sum(nn.cross_entropy(GLOBAL(row), y) for row in [x])  # the model is named in an inner function


def loss_with(model: Any, x: Any, y: Any) -> Any:
    return nn.cross_entropy(model(x), y)


def closed(backend: str) -> Any:
    model = mlp()

    def loss(x: Any, y: Any) -> Any:
        return nn.cross_entropy(model(x), y)

    return tg.compile(loss, model.parameters(), backend=backend)


def pickled(x: Any) -> Any:
    return pickle.loads(pickle.dumps(x))


STEPS: dict[str, Callable[[str], Any]] = {
    "a method": lambda backend: Model(backend).step,
    "a model that the function closes over": closed,
    "a global model": lambda backend: tg.compile(global_loss, GLOBAL.parameters(), backend=backend),
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
    if "closes" in name and how not in (copy.copy, copy.deepcopy):
        with pytest.raises(
            pickle.PicklingError, match=r"cannot find closed.<locals>.loss, which is a lambda or stands"
        ):
            how(step)
        return
    twin = how(step)
    assert repr(twin) == repr(step)
    again, others = twin.value_and_grad(X, CLASSES)
    assert (again, list(others)) == (value, list(gradient))
    if how is not copy.copy:
        twin.parameters[0].data += 1.0
        assert twin.value_and_grad(X, CLASSES)[0] != value
    assert step.value_and_grad(X, CLASSES)[0] == value


@BACKENDS
@pytest.mark.parametrize(("kind", "how"), [(Model, copy.deepcopy), (Model, pickled), (Closed, copy.deepcopy)])
def test_a_model_that_holds_its_step_can_be_copied(kind: Any, how: Any, backend: str) -> None:
    model = kind(backend)
    value = model.step.backward(X, CLASSES)
    twin = how(model)
    assert twin.step.parameters == twin.parameters() != model.parameters()
    assert twin.step.backward(X, CLASSES) == value
    assert [p.grad for p in twin.parameters()] == [2 * p.grad for p in model.parameters()]


def test_a_copy_keeps_its_options_and_makes_its_programs_anew() -> None:
    w = Value(2.0)
    step = tg.compile(lambda x: w * x, [w], "float32", verify=False)
    step.predict([1.0])
    twin = copy.deepcopy(step)
    assert (twin.dtype, twin.verify, twin.parameters[0].data) == (np.float32, False, 2.0)
    with pytest.raises(RuntimeError, match="Nothing is compiled yet"):
        _ = twin.source


def helper(x: Any) -> Any:
    return GLOBAL(x)[0]


def by_way_of_another(x: Any) -> Any:
    return helper(x)


def test_what_pickle_would_tear_apart_is_refused() -> None:
    w = Value(2.0)
    with pytest.raises(pickle.PicklingError, match="which is a lambda"):
        pickle.dumps(tg.compile(lambda x: w * x, [w]))
    step = tg.compile(by_way_of_another, GLOBAL.parameters())
    with pytest.raises(pickle.PicklingError, match="without the parameters that it uses"):
        pickle.dumps(step)
    assert copy.deepcopy(step).parameters == step.parameters  # those that the function goes on using
    with step.arrays(), pytest.raises(RuntimeError, match="is inside a block of arrays"):
        copy.deepcopy(step)


# --- Threads ----------------------------------------------------------------------------------------------------


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads take turns a hundred times as often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-5)
    yield
    sys.setswitchinterval(before)


def test_to_other_threads_a_parameter_is_what_it_was() -> None:
    """All that a Value can do, while another thread traces it, and while one gives it another number."""
    w, v = Value(2.0, label="w"), Value(3.0, label="v")
    w.grad = 7.0

    def seen() -> list[Any]:
        y = w * v + v * w + w / v + v / w + w - v + (v - w) + w**v + v**w + w**2 + 2**w - (1 - w) + 2 / w + -w
        results = [
            y,
            abs(w),
            w.tanh(),
            w.leaky_relu(alpha=0.5),
            tg.sum([v, w]),
            tg.dot([w, v], [v, w]),
            tg.max(v, w),
        ]
        results += [sum([w, v]), tg.where(w > 0, w, v), tg.log_softmax([v, w])[0], copy.copy(w), copy.deepcopy(w)]
        results += [pickle.loads(pickle.dumps(w)), 3 * w, w * 3, np.float64(3.0) * w, v + w]
        truths = [w < v, v < w, w <= 2, w > 2, w <= 3, bool(w), w == w, w == v, v != w, isinstance(w, Value)]
        root = w * v * w
        root.backward()
        slopes, root.grad = (w.grad, v.grad), 0.0
        w.grad, v.grad = 7.0, 0.0
        w.data += 1.0
        w.data -= 1.0
        text = [repr(w), f"{w:.2f}", repr(root), hash(w) == hash(w), tg.gradients(root, [w, v])]
        with pytest.raises(TypeError):
            float(w)  # type: ignore[arg-type]
        return [[(r.data, r.grad, type(r)) for r in results], truths, slopes, text]

    alone = seen()
    for number in (UNKNOWN, 5.0):
        opened, done = threading.Event(), threading.Event()

        def stand_in(number: Any = number, opened: Any = opened, done: Any = done) -> Any:
            with standing_in({w: number}):
                opened.set()
                done.wait(10)
                return None if number is UNKNOWN else (w.data, (w * v).data)

        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(stand_in)
            opened.wait(10)
            try:
                here = seen()
                step = tg.compile(lambda x: w * x * v, [v])  # where w is a constant
                assert step.value_and_grad([2.0])[1].tolist() == [4.0]
            finally:
                done.set()
            assert other.result() == (None if number is UNKNOWN else (5.0, 15.0))
        assert here == alone
    assert (type(w), w.data, w.grad) == (Value, 2.0, 7.0)


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


def test_values_of_a_class_of_ones_own_are_parameters() -> None:
    class Named(Value):
        note = "of the class"

    w = Named(2.0)
    w.note = "mine"
    for backend in ("numpy", "python"):
        assert tg.compile(lambda x: w * x + abs(w), [w], backend=backend).value_and_grad([1.0])[0] == 4.0
    assert (type(w), w.note, w.data) == (Named, "mine", 2.0)


def trained(model: Any, n_steps: int) -> list[Any]:
    optimizer, loss = optim.Adam(model.parameters(), 0.05), loss_of(model)
    for _ in range(n_steps):
        optimizer.zero_grad()
        (tg.sum([loss(x, y) for x, y in zip(X.tolist(), CLASSES.tolist(), strict=True)]) / 4).backward()
        optimizer.step()
    return [(p.data, p.grad) for p in model.parameters()]


def train_while_compiling(n_steps: int, n_trainers: int, n_compilers: int) -> None:
    expected, models = trained(mlp(), n_steps), [mlp() for _ in range(n_trainers)]
    stop = threading.Event()

    def compile_again(i: int) -> None:
        model = models[i % n_trainers]
        while not stop.is_set():
            backend = ("numpy", "python")[i % 2]
            step = tg.compile(loss_of(model), model.parameters(), backend=backend)
            step.value_and_grad(X, CLASSES)
            step.predict(X, CLASSES)

    with ThreadPoolExecutor(n_trainers + n_compilers) as pool:
        compilers = [pool.submit(compile_again, i) for i in range(n_compilers)]
        try:
            results = list(pool.map(lambda model: trained(model, n_steps), models))
        finally:
            stop.set()
        for compiler in compilers:
            compiler.result()
    assert results == [expected] * n_trainers
    assert {type(p) for model in models for p in model.parameters()} == {Value}


def compile_at_once(n_threads: int, times: int) -> None:
    model = mlp()
    expected = tg.compile(loss_of(model), model.parameters()).value_and_grad(X, CLASSES)

    def compiled(i: int) -> bool:
        for _ in range(times):
            value, gradient = tg.compile(loss_of(model), model.parameters()).value_and_grad(X, CLASSES)
            assert value == expected[0]
            assert (gradient == expected[1]).all()
        return True

    with ThreadPoolExecutor(n_threads) as pool:
        assert all(pool.map(compiled, range(n_threads)))
    assert {type(p) for p in model.parameters()} == {Value}


@pytest.mark.usefixtures("restless")
def test_a_model_is_trained_eagerly_while_it_is_compiled() -> None:
    train_while_compiling(3, 1, 2)


@pytest.mark.usefixtures("restless")
def test_two_threads_compile_one_model_at_once() -> None:
    compile_at_once(2, 2)


@pytest.mark.slow
@pytest.mark.usefixtures("restless")
def test_eight_threads_train_while_eight_compile() -> None:
    train_while_compiling(15, 8, 8)


@pytest.mark.slow
@pytest.mark.usefixtures("restless")
def test_eight_threads_compile_one_model_at_once() -> None:
    compile_at_once(8, 20)


@pytest.mark.slow
@pytest.mark.usefixtures("restless")
def test_eight_threads_train_in_arrays() -> None:
    """Each has a model of its own: what one does shows in no other."""

    def run(i: int) -> list[float]:
        model = mlp()
        step = tg.compile(loss_of(model), model.parameters())
        with step.arrays() as theta:
            for _ in range(30):
                theta -= 0.1 * step.value_and_grad(X, CLASSES)[1]
        return [p.data for p in model.parameters()]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(run, range(8)))
    assert results == [run(0)] * 8


def test_an_interrupt_in_any_line_of_arrays_leaves_no_block_open() -> None:
    w = Value(0.0, "w")
    step = tg.compile(lambda x: w * x, [w])

    def enter(at: int) -> int:
        """The lines that a block takes. An interrupt comes in the line of number `at`."""
        lines = 0

        def interrupt(frame: Any, event: str, argument: Any) -> Any:
            nonlocal lines
            text = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
            if event == "line" and frame.f_code.co_filename == base.__file__ and "with _lock" not in text:
                lines += 1  # CPython handles no signal while it takes or gives back a lock
                if lines == at:
                    raise KeyboardInterrupt
            return interrupt

        before = sys.gettrace()
        sys.settrace(interrupt)
        try:
            with step.arrays():
                pass
        finally:
            sys.settrace(before)
        return lines

    lines = enter(at=-1)
    assert lines > 20
    for at in range(1, lines + 1):
        with pytest.raises(KeyboardInterrupt):
            enter(at)
        assert enter(at=-1) == lines


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer that interrupts")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_at_any_moment_leaves_the_parameters_as_they_were() -> None:
    model = mlp()
    before = [(p.data, p.grad, type(p)) for p in model.parameters()]
    rng, interrupts = np.random.default_rng(0), 0

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    def compile_it() -> Any:
        step = tg.compile(loss_of(model), model.parameters())
        with step.arrays():
            return step.value_and_grad(X, CLASSES)[0]

    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        expected = compile_it()
        seconds.append(time.perf_counter() - started)
    usual, handler = min(seconds), signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(100):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.01, 1.0) * usual)
                compile_it()
                signal.setitimer(signal.ITIMER_REAL, 0)
            except (KeyboardInterrupt, TypeError, SystemError):  # NumPy's C code may make another error of it
                interrupts += 1
            assert [(p.data, p.grad, type(p)) for p in model.parameters()] == before
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    assert interrupts > 10
    assert compile_it() == expected
