"""How fast compiled steps are: beside NumPy written by hand, PyTorch and the eager engine.

    python tests/benchmarks/compiled.py [--only PART] [--rounds N] [--quick] [--markdown]  # $OMP_NUM_THREADS: 2

The parts, each forward, loss and all gradients:
  mnist    the classifier 784-128-10 in batches of 32, 128 and 512, of both precisions
  structures  a convnet, attention, a GRU, an RNN of 300 steps, 12 residual blocks and an equation of 5,000 steps:
           what the compiler must find, beside programs written by hand
  west     10,000 operations without any regular structure, by "Fastest Autograd in the West"
  derivatives  gradients per example of the classifier at a batch of 128, beside NumPy by `einsum`; a product
           with its Hessian, and the Hessian of a fit of 49 parameters and 200 points, beside a gradient of it
  documents  microgpt as it is published: a document in a batch of 64 of equal length, beside the same on Values;
           and one pass over names of many lengths in batches of 64, compiling included

Compiled steps, NumPy by hand and PyTorch share a process. README.md says how every comparison is made.
"""

import itertools
import os
import statistics
import sys
from types import SimpleNamespace

THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = str(THREADS)  # NumPy and PyTorch read these when they are imported

import common
import numpy as np
import rivals
import structures
from common import (
    TOLERANCE,
    TORCH,
    compare,
    installed,
    interleaved,
    milliseconds,
    number,
    ratio,
    seconds_of,
    table,
    title,
)
from contenders import in_torch
from published import MicroGPT

import tinygrad_edu as tg
from tinygrad_edu import Value, nn


class Settings(common.Settings):
    """Sizes too."""

    def __init__(self, options):
        super().__init__(options)
        quick = options.quick
        self.sizes, self.batches = ((20, 6, 3), (4,)) if quick else ((784, 128, 10), (32, 128, 512))
        self.small = (2, 6) if quick else ()  # the batch and the size of a structure
        self.operations, self.lanes = (100, 3) if quick else (10_000, 1000)
        self.names = 4 if quick else 1000


# --- Contenders: see common.py ---------------------------------------------------------------------------------
def compiled(step, batch, seconds):
    """The contender that `tg.compile` returned, its parameters kept in an array as they are in training."""
    loss, gradients = step.value_and_grad(*batch)

    def block():
        with step.arrays():
            return common.block(lambda: step.value_and_grad(*batch), seconds)

    return (loss, np.array(gradients)), block


def by_hand(rival, seconds, flat=rivals.flat):
    loss, gradients = rival.step()
    return (loss, flat(gradients)), lambda: common.block(rival.step, seconds)


# --- The parts ---------------------------------------------------------------------------------------------------
def classifier(sizes, batch, dtype):
    """The loss of one example x with one-hot target y, the parameters, their numbers, and a batch X, Y."""
    theta, X, classes = rivals.problem(sizes, batch, dtype)
    model = nn.MLP(sizes[0], sizes[1:], rng=0)
    parameters = model.parameters()
    for parameter, x in zip(parameters, theta.tolist(), strict=True):
        parameter.data = x

    def loss(x, y):
        return nn.cross_entropy(model(x), y)

    return loss, parameters, theta, (X, rivals.one_hot(classes, sizes[-1], dtype))


def dense(sizes, batch, dtype, seconds):
    """The same classifier of layers `nn.Dense`, which keep W as the textbook does: (inputs, outputs)."""
    theta, X, classes = rivals.problem(sizes, batch, dtype)
    arrays = rivals.layers(theta, sizes)
    model = rivals.dense_model(arrays)
    step = tg.compile(lambda x, y: nn.cross_entropy(model(x), y), model, dtype=dtype)
    (loss, gradients), block = compiled(step, (X, rivals.one_hot(classes, sizes[-1], dtype)), seconds)
    parts = np.split(gradients, np.cumsum([a.size for a in arrays])[:-1])
    return (loss, rivals.flat([g.reshape(a.shape) for g, a in zip(parts, arrays, strict=True)])), block


def first_call(loss, parameters, arrays, **options):
    """What `tg.compile` returns, and how much longer that and a first call take than a second call."""

    def first():
        step = tg.compile(loss, parameters, **options)
        step.value_and_grad(*arrays)
        return step

    seconds, step = seconds_of(first)
    return step, seconds - seconds_of(lambda: step.value_and_grad(*arrays))[0]


def mnist(settings):
    sizes, seconds = settings.sizes, settings.seconds
    pixels = "MNIST's digits" if sizes[0] == 784 and rivals.mnist(1) else "random pixels"
    title(f"Classifier {'-'.join(map(str, sizes))}, {pixels}: median ms of a step, and ratios", settings)
    others, rows = ("NumPy", "PyTorch"), []
    torch = in_torch(THREADS) if installed(TORCH) else None
    for dtype, batch in itertools.product(("float32", "float64"), settings.batches):
        loss, parameters, theta, arrays = classifier(sizes, batch, dtype)
        contenders = {
            "NumPy": by_hand(rivals.Classifier(theta, *arrays, sizes), seconds),
            "nn.MLP": compiled(tg.compile(loss, parameters, dtype=dtype), arrays, seconds),
            "nn.Dense": dense(sizes, batch, dtype, seconds),
        }
        if torch:
            case = SimpleNamespace(arrays=rivals.layers(theta, sizes), batch=arrays)
            contenders["PyTorch"] = by_hand(SimpleNamespace(step=torch("MNIST", case)), seconds)
        compare(contenders, TOLERANCE[dtype])
        blocks = interleaved(contenders, settings.rounds)
        for ours in ("nn.Dense", "nn.MLP"):
            row = [milliseconds(blocks[name]) if name in blocks else "-" for name in (ours, *others)]
            row += [ratio(blocks[ours], blocks[name]) if name in blocks else "-" for name in others]
            rows.append([f"{dtype}, batch {batch}, {ours}", *row])
    table(["", "ours", *others, *(f"to {name}" for name in others)], rows, settings)


def structured(settings):
    title("Programs with a structure to find, float64", settings)
    rows = []
    for name, make in structures.STRUCTURES.items():
        case = make(*settings.small)
        on_numpy = case.backend == "numpy"
        step, seconds = first_call(case.loss, case.parameters, case.batch, backend=case.backend)
        contenders = {
            "compiled": compiled(step, case.batch, settings.seconds),
            "by hand": by_hand(case, settings.seconds, structures.joined),
        }
        print(name, file=sys.stderr)
        compare(contenders, TOLERANCE["float64"])
        blocks = interleaved(contenders, settings.rounds)
        row = [name, milliseconds(blocks["compiled"]), milliseconds(blocks["by hand"])]
        row += [ratio(blocks["compiled"], blocks["by hand"]), str(len(step.groups)) if on_numpy else "-"]
        row += [str(step.source.count("\n")), f"{seconds:.2f}", "-"]
        if make in (structures.GRU, structures.RNN):  # the same program, for inputs that are one stage shorter
            X, Y = case.batch
            row[-1] = f"{seconds_of(lambda: step.value_and_grad(X[:, 1:], Y))[0]:.2f}"  # noqa: B023 - it is called at once
        rows.append(row)
    header = ["", "ms", "by hand, ms", "ratio", "groups", "lines", "trace + compile s", "another length s"]
    table(header, rows, settings)


def west(settings):
    operations, lanes = settings.operations, settings.lanes
    title(f'"Fastest Autograd in the West", {operations:,} operations, float64', settings)
    # The article's leaves, 0 to 99, leave no gradient to compare (see rivals.west): smaller ones go before them.
    west_contenders([i / 100 for i in range(100)], 100, lanes, settings.seconds)
    one, many, seconds = west_contenders([*map(float, range(100))], operations, lanes, settings.seconds)
    rows = []
    for name, own in (blocks := interleaved(one | many, settings.rounds)).items():
        n = lanes if name in many else 1
        row = [name, f"{n:,}", f"{seconds[name]:.2f}" if name in seconds else "-", milliseconds(own)]
        per_lane = [s / n for s in own]
        micro = statistics.median(per_lane) / operations * 1e6
        rows.append([*row, number(micro), ratio(blocks["eager"], per_lane)])
    header = ["", "lanes", "trace + compile s", "median ms", "µs/operation/lane", "eager / this, per lane"]
    table(header, rows, settings)


def west_contenders(leaves, operations, lanes, seconds):
    """Contenders of one lane, contenders of many, and by name the seconds to trace and compile. All agree."""
    values, noise = [Value(x) for x in leaves], rivals.west_noise(lanes, len(leaves))

    def loss(lane=None):
        nodes = values if lane is None else [v + x for v, x in zip(values, lane, strict=True)]
        return rivals.west(nodes, operations, tg.softplus, tg.softmax)

    used = set(tg.topological_order(loss()))  # no operation reaches back to the first leaves
    parameters = [v for v in values if v in used]

    def eager_step(lane=None):
        for parameter in parameters:
            parameter.grad = 0.0
        out = loss(lane)
        out.backward()
        return out.data, [p.grad for p in parameters]

    scalar, scalar_seconds = first_call(loss, parameters, (), backend="python")
    laned, laned_seconds = first_call(loss, parameters, (noise,))
    one = {
        "eager": (eager_step(), lambda: common.block(eager_step, seconds)),
        "compiled, backend=python": compiled(scalar, (), seconds),
    }
    many = {"compiled, lanes": compiled(laned, (noise,), seconds)}
    few = noise[:3]
    outs, gradients = zip(*map(eager_step, few.tolist()), strict=True)
    mean = np.mean(outs), np.mean(gradients, axis=0)
    for group in (one, many, {"eager": (mean, None), "compiled, 3 lanes": compiled(laned, (few,), seconds)}):
        compare(group, TOLERANCE["float64"])
    return one, many, {"compiled, backend=python": scalar_seconds, "compiled, lanes": laned_seconds}


def derivatives(settings):
    title("Derivatives of compiled functions, float64", settings)
    sizes, batch = ((12, 8, 4), 6) if settings.quick else ((784, 128, 10), 128)
    theta, X, classes = rivals.problem(sizes, batch, "float64")
    numpy = rivals.Classifier(theta, X, rivals.one_hot(classes, sizes[-1], "float64"), sizes)
    model, fit = rivals.dense_model(rivals.layers(theta, sizes)), nn.MLP(1, [16, 1], rng=0)
    step = tg.compile(lambda x, c: nn.cross_entropy(model(x), c), model)
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 1)), rng.normal(size=200)
    small, ones = tg.compile(lambda x, y: (fit(x) - y) ** 2, fit), np.ones(49)
    with step.arrays(), small.arrays():
        expected = numpy.each()
        assert abs(step.per_example_grads(X, classes) - expected).max() <= 1e-9 * abs(expected).max()
        np.testing.assert_allclose(small.hvp(*points, ones), small.hessian(*points) @ ones, rtol=1e-7, atol=1e-9)
        vector, rows = rng.normal(size=len(theta)), []
        for name, ours, theirs in (
            ("per_example_grads / NumPy by hand", lambda: step.per_example_grads(X, classes), numpy.each),
            ("hvp / gradient", lambda: step.hvp(X, classes, vector), lambda: step.value_and_grad(X, classes)),
            ("hessian / gradient", lambda: small.hessian(*points), lambda: small.value_and_grad(*points)),
        ):
            pair = {f: (None, lambda f=f: common.block(f, settings.seconds)) for f in (ours, theirs)}
            a, b = interleaved(pair, settings.rounds).values()
            rows.append([name, milliseconds(a), milliseconds(b), ratio(a, b)])
    table(["ms", "first", "second", "ratio"], rows, settings)


def documents(settings):
    names = (common.ROOT / "tinygrad_edu" / "datasets" / "data" / "names.txt").read_text().split()
    texts = [[26, *(ord(letter) - ord("a") for letter in name), 26] for name in names[: settings.names]]
    title(f"microgpt as it is published, {len(texts)} names", settings)
    lengths = [len(text) for text in texts]
    length, model = max(lengths, key=lengths.count), MicroGPT()
    batch = np.array([text for text in texts if len(text) == length][:64])
    step = tg.compile(model.loss, model.params)

    def eagerly():
        loss = model.loss(batch[0].tolist())
        loss.backward()
        return loss.data

    seconds, loss = seconds_of(eagerly)
    value, gradient = step.value_and_grad(batch[:1])
    slopes = [p.grad for p in model.params]
    compare({"eager": ((loss, slopes), None), "compiled": ((value, gradient), None)}, 1e-12)
    with step.arrays():
        own = common.block(lambda: step.value_and_grad(batch), settings.seconds) / len(batch)
    print(f"a document of {length} tokens: {own * 1e3:.3f} ms, one of {len(batch)}; eager {seconds * 1e3:.0f} ms")
    step = tg.compile(model.loss, model.params)
    with step.train(tg.optim.Adam(model.params, lr=0.01)) as update:
        seconds, losses = seconds_of(lambda: [update(texts[i : i + 64]) for i in range(0, len(texts), 64)])
    print(f"{len(set(lengths))} lengths: {seconds:.1f} s; loss {losses[0]:.2f} -> {losses[-1]:.2f}")


PARTS = {
    "mnist": mnist,
    "structures": structured,
    "west": west,
    "derivatives": derivatives,
    "documents": documents,
}


def main():
    parser = common.parser_of(__doc__, 9, markdown="tables for a README")
    parser.add_argument("--only", choices=PARTS, help="one part of them")
    options = parser.parse_args()
    settings = Settings(options)
    common.machine(settings)
    for name in [options.only] if options.only else PARTS:
        PARTS[name](settings)


if __name__ == "__main__":
    main()
