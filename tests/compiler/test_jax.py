"""backend="jax": the numbers of the eager engine, on one device and on several. Skipped where JAX is missing."""

import gc
import math
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import programs
import pytest
import recurrences
from cases import OPTIMIZERS
from comparing import compare

import tinygrad_edu as tg
from tinygrad_edu import CompileError, Value, micrograd, nn, optim
from tinygrad_edu.compiler.backends import jax as text
from tinygrad_edu.compiler.run import compiled_jax
from tinygrad_edu.elementary import exp, where
from tinygrad_edu.testing import assert_near

jax = pytest.importorskip("jax")
export = pytest.importorskip("jax.export")
checkify = pytest.importorskip("jax.experimental.checkify")
pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
SECONDS = 400  # for one program in a process of its own


CASES = [  # each operation of the array programs at least once
    *("cross_entropy_one_hot", "cross_entropy_class_index", "moons_with_hinge_and_weight_decay"),
    *("one_constant_batch_in_the_graph", "normalised_rows", "tied_embedding", "convolution_strided"),
    *("max_pooling_with_ties", "ties_of_max_and_min", "attention_of_two_heads", "attention_masked_by_infinity"),
    *("choices", "extremes_of_different_kinds", "constants_of_every_kind", "own_rule_of_three_inputs"),
    "own_reduction",
]


@pytest.fixture(autouse=True)
def _float64() -> Iterator[None]:
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


W, BY_HAND, TABLE = [Value(0.3), Value(-0.2), Value(0.5)], micrograd.Value(0.3), [0.1, -0.4, 0.9]


def picked(picks: Any, xs: Any) -> Any:
    """A parameter is picked at every stage."""
    h = Value(0.1)
    for k, x in zip(picks, xs, strict=True):
        h = (h * W[k] + x).tanh() if k == 1 else h * W[2] + x
    return h


def unit(x: Any) -> Any:
    """What was computed from plain numbers has no gradient."""
    terms = [p * x for p in W[:2]]
    return terms[0] / math.sqrt(sum(term.data**2 for term in terms)) + 2 * terms[1]


def straight_through(x: Any) -> Any:
    """An operation by hand has the slope that it says."""
    u = BY_HAND * x
    return micrograd.Value(math.tanh(5 * u.data), (u,), (1.0,)) * u


def best_path(xs: Any) -> Any:
    best = [p * xs[0] for p in PATH[3]]
    for x in xs[1:]:
        best = [tg.max([b + p[j] for b, p in zip(best, PATH, strict=False)]) + PATH[3][j] * x for j in range(3)]
    return tg.max(best)


def root(x: Any) -> Any:
    y: Any = x * x + 1.0
    for _ in range(50):
        before, y = y, 0.5 * (y + (W[0] * W[0] + x * x) / y)
        if abs(y.data - before.data) < 1e-12:
            break
    return y


PATH = programs.leaves(programs.normal(4, 3), "p")
EVERY = "value_and_grad per_example_grads jacobian hessian hvp input_grads"
PICKS = np.array([[0, 1, 1, 0, 1], [1, 1, 0, 0, 0]]), np.random.default_rng(0).normal(size=(2, 5))
NAMES = "cross_entropy_one_hot recurrence_of_one_step one_constant_batch_in_the_graph mean_of_embeddings".split()
ON_NUMPY: dict[str, tuple[Any, str]] = {  # a program, and what is asked of it
    **{name: (programs.CASES[name], EVERY) for name in (*NAMES, "cross_entropy_class_index")},
    "picked": (lambda: (picked, W, PICKS), "per_example_grads"),
    "a table of numbers": (
        lambda: (lambda k, x: W[0] * x * TABLE[k % 3], W[:1], [[0, 2, 4], np.ones(3)]), "value_and_grad"),
    "plain numbers": (lambda: (unit, W[:2], [[1.0, -2.0]]), "value_and_grad hessian"),
    # XLA computes the sums twice, with other last digits: which of them is the largest?
    "a path": (lambda: (best_path, programs.flat(PATH), [programs.normal(8, 6)]), "value_and_grad"),
    "a root": (lambda: (root, W[:1], [[0.5, 0.7, 0.2]]), "value_and_grad"),
    "by hand": (lambda: (straight_through, [BY_HAND], [[1.0, -2.0, 0.5]]), "value_and_grad per_example_grads"),
}  # fmt: skip


@pytest.mark.parametrize("name", ON_NUMPY)
def test_values_and_derivatives_are_those_of_numpy(name: str) -> None:
    make, kinds = ON_NUMPY[name]
    function, parameters, batch = make()
    ours, by_jax = (tg.compile(function, parameters, backend=backend) for backend in ("numpy", "jax"))
    vector = np.random.default_rng(0).normal(size=len(parameters))
    rtol, atol = (1e-9, 1e-11) if kinds == EVERY else (1e-12, 1e-12)
    for kind in kinds.split():
        more = [vector] if kind == "hvp" else []
        results = [getattr(step, kind)(*batch, *more) for step in (ours, by_jax)]
        for expected, actual in zip(*(x if isinstance(x, tuple) else (x,) for x in results), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)
    assert "jax.grad" in by_jax.source or kinds == "value_and_grad"


def test_stablehlo_takes_batches_of_any_size(tmp_path: Path) -> None:
    function, parameters, batch = programs.CASES["cross_entropy_one_hot"]()
    step = tg.compile(function, parameters, backend="jax")
    step(*batch)
    step.save(tmp_path / "model.stablehlo")
    with np.load(tmp_path / "model.npz") as weights:
        theta = weights["parameters"]
    exported = export.deserialize((tmp_path / "model.stablehlo").read_bytes())
    some = [np.asarray(array[:2], float) for array in batch]
    value, gradient = step.value_and_grad(*some)
    result = exported.call(theta, *some)
    assert float(result[0]) == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(result[1], gradient, rtol=1e-9, atol=1e-12)


def classifier(backend: str = "jax", **options: Any) -> tuple[Any, nn.Module, list[Any]]:
    """Its compiled loss, the model and a batch."""
    model = nn.MLP(6, [5, 3], rng=0)
    batch = [programs.normal(7, 6), np.eye(3)[[0, 1, 2, 2, 1, 0, 1]]]
    step = tg.compile(lambda x, y: nn.cross_entropy(model(x), y), model, backend=backend, **options)
    return step, model, batch


# --- Numbers ---------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("case", "dtype"),
    [
        *((case, "float64") for case in CASES),
        ("cross_entropy_class_index", "float32"),
        ("attention_causal", "float32"),
    ],
)
def test_programs_agree_with_the_eager_engine(case: str, dtype: str) -> None:
    jax.config.update("jax_enable_x64", dtype == "float64")
    function, parameters, batch = programs.CASES[case]()
    step = compare(function, parameters, *batch, dtype=dtype, backend="jax")
    assert step.value_and_grad(*batch)[1].dtype == dtype


PARAMETERS_OF_BLOCKS = programs.flat(recurrences.Ws, recurrences.gains, recurrences.shifts, recurrences.v)
SCANS: dict[str, Any] = {  # carried: a state; three stages; none; and stages with weights of their own
    **{name: recurrences.LOOPS[name] for name in ("gru", "delayed", "translator")},
    "blocks": (recurrences.OWN["normed before"], PARAMETERS_OF_BLOCKS, [recurrences.X], (1, 1)),
}


@pytest.mark.parametrize("name", SCANS)
def test_loops_are_scans(name: str) -> None:
    function, parameters, batch, (n, _) = SCANS[name]
    step = compare(function, programs.flat(parameters), *batch, backend="jax")
    assert step.source.count("jax.lax.scan(") == n


POINTS = [-2.0, -1.0, -0.75, 0.0, 0.25, 1.0, 3.0]


@pytest.mark.parametrize("name", [name for name, rule in tg.RULES.items() if rule.n_inputs == 1])
def test_slopes_are_those_of_the_rules_at_kinks_too(name: str) -> None:
    rule, w = tg.RULES[name], Value(1.0, label="w")
    points = [x for x in POINTS if all(x in interval for interval in rule.domain) and (x or name != "reciprocal")]
    step = tg.compile(lambda x: rule(w * x) + 0 * w, [w], backend="jax")
    for x in points:
        out = rule.forward(x)
        value, (slope,) = step.value_and_grad([x])
        assert_near(value, float(out), 1 + abs(out), 1e-12)
        exact = rule.shares(1.0, out, x)[0] * x
        assert slope == exact or abs(slope - exact) <= 1e-12 * (1 + abs(exact)) or math.isnan(exact * 0)


def test_predict_gives_nested_outputs() -> None:
    _, model, (X, _) = classifier()

    def outputs(x: Any) -> list[Any]:
        z = model(x)
        return [z, [2.0, z[0], model.layers[0].neurons[0].b]]

    def flat(x: Any) -> list[Any]:
        return [*model(x), 2.0, model(x)[0], *model.parameters()[:2], model(x)[2]]

    expected = tg.compile(flat, model.parameters()).predict(X)
    assert np.allclose(tg.compile(flat, model.parameters(), backend="jax").predict(X), expected, 1e-12)
    assert tg.compile(lambda x: [model(x)], model.parameters(), backend="jax").predict(X).shape == (7, 1, 3)


# --- A pure function -------------------------------------------------------------------------------------------
SOURCE = '''
def examples(parameters, X, Y):
    """What the function returns for each example of a batch."""
    dtype = parameters.dtype
    X = jnp.asarray(X, dtype)
    Y = jnp.asarray(Y, dtype)
    B = X.shape[0]
    part_1, part_2 = jnp.split(parameters[:53], [35])
    W1 = part_1.reshape(5, 7)[:, :6]  # (5, 6)
    b1 = part_1[6::7]  # (5)
    W2 = part_2.reshape(3, 6)[:, :5]  # (3, 5)
    b2 = part_2[5::6]  # (3)
    Z1 = X @ W1.T + b1  # (B, 5)
    A1 = jax.nn.relu(Z1)  # (B, 5)
    Z2 = A1 @ W2.T + b2  # (B, 3)
    logsumexp_1 = jax.nn.logsumexp(Z2, axis=-1)  # (B)
    sum_1 = Y.sum(axis=-1)  # (B)
    mul_1 = sum_1 * logsumexp_1  # (B)
    sum_2 = jnp.vecdot(Z2, Y)  # (B)
    loss = mul_1 - sum_2  # (B)
    return loss


def mean(parameters, X, Y):
    return examples(parameters, X, Y).mean()


function = jax.value_and_grad(mean)
'''


def test_the_source_is_what_a_person_would_write_and_runs_alone() -> None:
    step, model, batch = classifier()
    value, gradient = step.value_and_grad(*batch)
    assert step.source.endswith(SOURCE)
    alone: dict[str, Any] = {}
    exec(step.source, alone)
    theta = np.array([parameter.data for parameter in model.parameters()])
    result, slopes = alone["function"](theta, *batch)
    assert abs(result - value) < 1e-14
    assert np.allclose(slopes, gradient, 0, 1e-15)


def test_gradients_per_example_read_slices_and_are_not_copied() -> None:
    step, _, (X, Y) = classifier()
    each = step.per_example_grads(X, Y)
    assert "jnp.split(parameters" not in step.source
    assert not each.flags.writeable
    assert np.allclose(each, classifier("numpy")[0].per_example_grads(X, Y), 0, 1e-14)


def test_the_function_runs_under_the_transformations_of_jax() -> None:
    step, model, (X, Y) = classifier()
    theta = np.array([parameter.data for parameter in model.parameters()])
    value, gradient = jax.jit(step.function)(theta, X, Y)  # compiled and verified inside of the jit
    plain, slopes = classifier("numpy")[0].value_and_grad(X, Y)
    assert abs(value - plain) < 1e-14
    assert np.allclose(gradient, slopes, 0, 1e-14)
    values, gradients = jax.vmap(step.function, (0, None, None))(np.stack([theta, 2 * theta]), X, Y)
    assert values.shape == (2,)
    assert np.allclose(gradients[0], gradient, 0, 1e-14)
    larger = jax.grad(lambda t: step.function(t, X, Y)[0] ** 2)(theta)
    assert np.allclose(larger, 2 * value * gradient, 0, 1e-14)
    by_inputs = jax.grad(lambda x: step.function(theta, x, Y)[0])(X)
    assert by_inputs.shape == X.shape
    assert abs(by_inputs).max() > 0


def test_a_program_that_is_made_under_jit_is_verified(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(text.ACTIVATIONS, "relu", "jax.nn.gelu({})")
    step, model, (X, Y) = classifier()
    for call in (lambda: jax.jit(step.function)(np.zeros(len(model.parameters())), X, Y), lambda: step(X, Y)):
        with pytest.raises(CompileError, match="disagrees with the eager one"):
            call()


def test_indices_have_random_places_when_a_program_is_made_under_jit() -> None:
    table, w = nn.Embedding(5, 2, rng=0), Value(0.5)
    step = tg.compile(lambda i: tg.sum(table(i)) * w, [*table.parameters(), w], backend="jax")
    theta = np.array([p.data for p in step.parameters])
    value, gradient = jax.jit(step.function)(theta, np.array([4, 1, 4]))
    assert abs(value - 0.5 * np.mean([table.W[i][0].data + table.W[i][1].data for i in (4, 1, 4)])) < 1e-14
    assert np.count_nonzero(gradient) == 5
    with pytest.raises(IndexError, match="has the indices 0 to 4, got 5"):
        step.value_and_grad(np.array([0, 5]))


def test_a_branch_is_looked_at_for_each_example_and_checked_in_the_pure_function() -> None:
    w = Value(0.5, label="w")

    def function(x: Any) -> Any:
        return w * x * x if x.data > -10 else sum({(w * x).exp()})  # a set is no side of a choice

    step = tg.compile(function, [w], backend="jax")
    assert step.value_and_grad([1.0, -2.0, 3.0])[1] == pytest.approx(14 / 3)
    with step.train(optim.SGD([w], lr=0.1)) as train:
        train([1.0, -2.0])
        with pytest.raises(tg.TraceError, match="give different graphs"):
            train([1.0, -20.0])
    assert w.data == pytest.approx(0.5 - 0.25)
    function_checked = jax.jit(checkify.checkify(step.function))
    error, (value, _) = function_checked(np.ones(1), np.array([1.0, 2.0]))
    error.throw()
    assert float(value) == pytest.approx(2.5)
    error, _ = function_checked(np.ones(1), np.array([1.0, -20.0]))
    with pytest.raises(ValueError, match=r"takes a path that step\.function has not seen"):
        error.throw()
    with pytest.raises(ValueError, match=r"checkify\.checkify"):
        jax.jit(step.function)(np.ones(1), np.ones(3))
    with pytest.raises(tg.TraceError) as caught:
        tg.compile(function, [w], backend="jax").function(np.ones(1), np.ones(3))
    assert any("value_and_grad" in note for note in caught.value.__notes__)


def test_the_pure_function_of_rows_of_several_lengths_that_are_padded() -> None:
    w = [Value(0.4), Value(-0.7)]

    def function(xs: list[Value]) -> Value:
        rows = [tg.softmax([x * w[0] for x in xs[: t + 1]]) for t in range(len(xs))]
        means = [sum(p * x for p, x in zip(row, xs, strict=False)) for row in rows]
        first, *others = sorted(means, key=lambda mean: -mean.data)
        return tg.max(first * w[1], 0.1) + sum(others) * w[1]

    step, X = tg.compile(function, w, backend="jax"), np.random.default_rng(0).normal(size=(4, 5))
    value, gradient = step.value_and_grad(X)
    pure = jax.jit(step.function)(np.array([0.4, -0.7]), X)
    np.testing.assert_allclose(pure[0], value, rtol=1e-12)
    np.testing.assert_allclose(pure[1], gradient, rtol=1e-12)


def test_a_rule_keeps_its_own_backward() -> None:
    through = tg.rule(lambda x: where(x > 0, 1.0, -1.0), backward=lambda u, out, x: (u,), name="through")
    fixed = tg.rule(lambda x, y: 2.0, backward=lambda upstream, out, x, y: (0, upstream * exp(x)), name="fixed")
    w = Value(0.5, label="w")
    step = tg.compile(lambda x: through(w * x) + 3 * fixed(x, w), [w], backend="jax")
    value, gradient = step.value_and_grad([1.0, -3.0])
    assert value == 6.0
    assert abs(gradient[0] - (-1 + 1.5 * (math.exp(1) + math.exp(-3)))) < 1e-14
    assert "@jax.custom_vjp\ndef through(x):" in step.source


def test_a_rule_that_does_not_run_on_symbols_is_named() -> None:
    loud = tg.rule(lambda x: math.sin(x), backward=lambda upstream, out, x: (upstream,), name="loud")
    with pytest.raises(TypeError, match=r"The rule loud does not run on symbols, .*sin instead of math\.sin"):
        tg.compile(lambda x: loud(x), [Value(1.0)], backend="jax").predict([1.0])


# --- Training --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_training_moves_the_parameters_as_on_numpy(make: Callable[..., Any]) -> None:
    runs = []
    for backend in ("numpy", "jax"):
        step, model, (X, Y) = classifier(backend)
        optimizer = make(model.parameters())
        with step.train(optimizer) as train:
            for _ in range(20):
                value = train(X, Y)
            after, _ = step.value_and_grad(X, Y)  # it reads what the devices have
        assert 0 < abs(after - value) < 0.5
        states = [number for p in model.parameters() for number in optimizer.state[p]]
        runs.append([value, *(p.data for p in model.parameters()), *states])
    assert np.allclose(*runs, 1e-12, 1e-14)


def test_every_step_of_a_training_draws_the_numbers_of_eager_training() -> None:
    model = nn.Sequential(nn.Dense(2, 3, "tanh", rng=0), nn.Dropout(0.4), nn.Dense(3, 1, rng=1))
    start, rng, ends = [p.data for p in model.parameters()], np.random.default_rng(0), []

    def noisy(x: Any, y: Any) -> Any:
        out = model(x)[0] + random.gauss(0, 0.1)
        return (out - y) ** 2 if y > 0 else out**2

    batches = [(rng.normal(size=(n, 2)), rng.normal(size=n)) for n in (4, 3, 4)]
    for backend in ("numpy", "jax"):
        for parameter, number in zip(model.parameters(), start, strict=True):
            parameter.data = number
        random.seed(3)
        with tg.compile(noisy, model, backend=backend).train(optim.Adam(model.parameters(), lr=0.1)) as train:
            losses = [train(*batch) for batch in batches]
        ends.append([*losses, *(p.data for p in model.parameters()), random.random()])
    assert ends[0] == pytest.approx(ends[1], rel=1e-9)


def test_a_loss_of_nan_moves_nothing() -> None:
    w = Value(2.0)
    step, optimizer = tg.compile(lambda x: w * w * x, [w], backend="jax"), optim.Adam([w])
    with step.train(optimizer) as train:
        assert math.isnan(train([math.nan]))
    assert w.data == 2.0
    assert not optimizer.state


def test_an_interrupt_loses_no_step() -> None:
    step, model, (X, Y) = classifier()
    adam, first, steps = optim.Adam(model.parameters()), model.parameters()[0], 0
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    gc.disable()  # JAX has a callback of the collector, and Python drops an interrupt that comes inside of it
    tracer = sys.gettrace()
    sys.settrace(None)  # an interrupt inside of coverage leaves its lock, and it waits for it forever
    try:
        with pytest.raises(KeyboardInterrupt), step.train(adam) as train:  # noqa: PT012 - steps, until it comes
            train(X, Y)
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            while True:
                train(X, Y)
                steps += 1
    finally:
        gc.enable()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        sys.settrace(tracer)
    assert adam.state[first][0] - 1 in (steps, steps + 1)


def test_training_without_a_batch_and_without_a_block() -> None:
    w = Value(2.0)
    with tg.compile(lambda: (w - 1) ** 2, [w], backend="jax").train(optim.SGD([w], lr=0.25)) as train:
        assert [train(), train()] == [1.0, 0.25]
    assert w.data == 1.25
    losses: dict[str, list[float]] = {"numpy": [], "jax": []}
    for backend, numbers in losses.items():
        w.data = 2.0
        update = tg.compile(lambda x: (w - x) ** 2, [w], backend=backend).train(optim.Adam([w], lr=0.25))
        for _ in range(3):
            update([1.0, 1.0])
            numbers.append(w.data)
    assert losses["jax"] == pytest.approx(losses["numpy"], rel=1e-14)


# --- Errors ----------------------------------------------------------------------------------------------------
def compiled(**options: Any) -> Any:
    w = Value(1.0)
    return tg.compile(lambda x: w * x, [w], backend="jax", **options)


def test_float64_needs_the_switch_of_jax() -> None:
    jax.config.update("jax_enable_x64", False)
    with pytest.raises(ValueError, match=r'jax_enable_x64", True.*or compile with dtype="float32"'):
        compiled()
    assert compiled(dtype="float32")([2.0]) == 2.0
    w = Value(1.0)
    with pytest.raises(CompileError, match="float32 cannot hold the constant 1e-50"):
        tg.compile(lambda x: w * x + 1e-50, [w], "float32", backend="jax")([1.0])


def test_no_jax_and_an_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "__version__", "0.4.38")
    with pytest.raises(ImportError, match=r"needs JAX 0\.\d+ or newer, and this is JAX 0\.4\.38: pip install"):
        compiled()
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(ImportError, match=r'pip install "tinygrad-edu\[jax\]"'):
        compiled()


def test_a_device_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def devices() -> None:
        raise RuntimeError("Unable to initialize backend 'cuda'")

    monkeypatch.setattr(jax, "devices", devices)
    with pytest.raises(RuntimeError, match=r"does not find the device.*'cuda'.*Unset JAX_PLATFORMS"):
        compiled()


def test_wrong_meshes(monkeypatch: pytest.MonkeyPatch) -> None:
    step, mesh = compiled(), jax.make_mesh((1,), ("batch",))
    sgd = optim.SGD(step.parameters)
    for wrong in (8, jax.devices(), jax.sharding.Mesh(np.array(jax.devices()[0]), ())):
        with pytest.raises(TypeError, match=r"mesh is a jax\.sharding\.Mesh with one axis or more"):
            step.train(sgd, mesh=wrong)
    with pytest.raises(ValueError, match="other parameters than those of the compiled function"):
        step.train(optim.SGD([Value(1.0)]))
    monkeypatch.setattr(jax, "devices", lambda *platform: [])
    with pytest.raises(ValueError, match="which is not among the devices of JAX"):
        step.train(sgd, mesh=mesh)


def start(program: str, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    """A program in a process of its own."""
    paths = os.pathsep.join([str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env={**os.environ, "PYTHONPATH": paths, "JAX_ENABLE_X64": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(*processes: "subprocess.Popen[str]") -> list[str]:
    """What they print, once all have ended."""
    try:
        results = [(process, *process.communicate(timeout=SECONDS)) for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, _, errors in results:
        assert process.returncode == 0, errors
    return [printed for _, printed, _ in results]


STEPS = """
import jax, numpy as np, tinygrad_edu as tg
from tinygrad_edu import nn, optim

rng = np.random.default_rng(0)
X, Y = rng.normal(size=(60, 6)), np.eye(3)[rng.integers(0, 3, 60)]

def trained(mesh, steps=100):
    model = nn.MLP(6, [8, 3], rng=0)
    step = tg.compile(lambda x, y: nn.cross_entropy(model(x), y), model.parameters(), backend="jax")
    with step.train(optim.Adam(model.parameters(), lr=0.01), mesh=mesh) as train:
        for i in range(steps):
            size = 20 if i % 10 else 13  # which no number of devices divides
            train(X[i % 40 : i % 40 + size], Y[i % 40 : i % 40 + size])
        text = train.lower(X, Y).compile().as_text()
    return np.array([p.data for p in model.parameters()]), text
"""
EIGHT = f"""{STEPS}
one, _ = trained(None)
assert jax.device_count() == 8
for mesh in (jax.make_mesh((8,), ("rows",)), jax.make_mesh((4, 2), ("any", "other"))):
    many, text = trained(mesh)
    assert abs(one - many).max() < 1e-10, abs(one - many).max()
    assert "all-reduce" in text
    assert "sharding" in text or "num_partitions=8" in text
from tinygrad_edu.optim import Adam
model, data = nn.MLP(4, [5, 3], rng=0), tg.datasets.iris(standardize=True)
history = tg.fit(model, nn.cross_entropy, data, Adam(model.parameters()), epochs=2, batch_size=50, backend="jax",
                 mesh=jax.make_mesh((8,), ("x",)), progress=False)
print(f"{{history.epochs[-1]['loss']:.10f}}")
"""


def test_eight_devices_train_as_one_does() -> None:
    (printed,) = finished(start(EIGHT, XLA_FLAGS="--xla_force_host_platform_device_count=8"))
    model, data = nn.MLP(4, [5, 3], rng=0), tg.datasets.iris(standardize=True)
    adam = optim.Adam(model.parameters())
    history = tg.fit(model, nn.cross_entropy, data, adam, epochs=2, batch_size=50, progress=False)
    assert abs(float(printed) - history.epochs[-1]["loss"]) < 1e-9


TWO = f"""
import sys, jax
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
{STEPS}
many, text = trained(jax.make_mesh((2,), ("batch",)))
assert "all-reduce" in text
one, _ = trained(None)
assert abs(one - many).max() < 1e-10, abs(one - many).max()
try:
    trained(jax.sharding.Mesh(np.array(jax.devices()[:1]), ("batch",)), 0)
except ValueError as error:
    print(error)
"""


def free_address() -> str:
    with socket.socket() as listening:
        listening.bind(("localhost", 0))
        return f"localhost:{listening.getsockname()[1]}"


def test_two_processes_train_as_one_does() -> None:
    address = free_address()
    printed = finished(start(TWO, address, "0"), start(TWO, address, "1"))
    assert "The mesh has no device of process 1" in printed[1]


def test_the_program_of_the_readme_runs_in_two_processes() -> None:
    readme = (HERE.parent.parent / "tinygrad_edu/compiler/README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"cat > train\.py <<'END'\n(.*?)END\n", readme, re.DOTALL)
    address = free_address()
    printed = finished(*(start(program, address, "2", number) for number in "01"))
    assert printed[1].count("devices") == 0
    assert re.search(r"^2 devices, loss 0\.\d+$", printed[0], re.MULTILINE)


# --- What a first call costs ------------------------------------------------------------------------------------
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", ["cross_entropy_one_hot", "attention_causal"])  # the second one has padded rows
def test_verification_compiles_nothing_that_is_not_used(case: str, dtype: str) -> None:
    """XLA's compiler takes most of a first call. The same function without verification costs as many programs."""
    function, parameters, batch = programs.CASES[case]()
    names: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: names.append(name))
    counts = []
    for verify in (False, False, True):  # the first one also compiles what JAX itself needs
        names.clear()
        step = tg.compile(function, parameters, dtype, backend="jax", verify=verify)
        step.value_and_grad(*batch)
        counts.append(names.count("/jax/core/compile/backend_compile_duration"))
    assert counts[2] == counts[1] > 0


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_fault_of_the_printer_is_found_with_numpys_program(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy's program is right here, and the one in JAX is not."""
    source, (step, _, batch) = text.JaxEmitter._module, classifier(dtype=dtype)
    monkeypatch.setattr(text.JaxEmitter, "_module", lambda *args: source(*args).replace("nn.relu(", "nn.silu("))
    with pytest.raises(CompileError, match="defect of the compiler"):
        step.value_and_grad(*batch)


def test_a_slow_first_call_says_what_it_does(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(compiled_jax, "PATIENCE", 0.001)
    step, model, batch = classifier()
    step.value_and_grad(*batch)
    assert "verify=False leaves this out" in capsys.readouterr().err
    step.value_and_grad(*batch)
    assert not capsys.readouterr().err
    for verify in (False, True):
        classifier(verify=verify)[0].function(np.zeros(len(model.parameters())), *batch)
    assert capsys.readouterr().err.count("verify=False") == 1
