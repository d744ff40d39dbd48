"""All contenders for one step, the loss and all gradients: NumPy and JAX by hand, PyTorch, our backends, "auto".

    OMP_NUM_THREADS=1 python tests/benchmarks/contenders.py [--rounds N] [--quick] [--markdown] [--first]

One thread. Milliseconds of the processor, not of the clock, so that other work on the machine counts less: the
least of some blocks, in which contenders alternate. All must agree on the loss and the gradients before anything
is timed. Contenders that are not installed are left out. With --first, seconds of the processor for a first call
with backend="jax", which traces, verifies and compiles: beside it one without verification, and XLA alone, which
compiles the same program.
"""

import functools
import itertools
import os
import sys
import time

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import common
import numpy as np
import rivals
import structures

import tinygrad_edu as tg
from tinygrad_edu import nn

HAVE = set(filter(common.installed, ("jax", "torch")))


class Network(structures.Structure):
    """A network of layers: its textbook in NumPy is `rival`."""

    def keep_layers(self, theta, sizes, *batch):
        kinds = ["relu"] * (len(sizes) - 2) + ["linear"]
        pairs = zip(itertools.pairwise(sizes), kinds, strict=True)
        self.model = nn.Sequential(*(nn.Dense(n, m, kind, rng=0) for (n, m), kind in pairs))
        self.arrays, self.batch = rivals.layers(theta, sizes), batch
        self.parameters = self.model.parameters()
        for parameter, x in zip(self.parameters, structures.joined(self.arrays).tolist(), strict=True):
            parameter.data = x

    def step(self):
        return self.rival.step()


class Classifier(Network):
    def __init__(self, sizes=(784, 128, 10), batch=128):
        theta, X, classes = rivals.problem(sizes, batch, "float64")
        Y = rivals.one_hot(classes, sizes[-1], "float64")
        self.keep_layers(theta, sizes, X, Y)
        self.rival = rivals.Classifier(theta, X, Y, sizes)

    def loss(self, x, y):
        return nn.cross_entropy(self.model(x), y)


class Moons(Network):
    def __init__(self, points=100):
        X, t = map(np.array, tg.datasets.moons(points))
        sizes = rivals.Moons.SIZES
        theta, _, _ = rivals.problem(sizes, 1, "float64")
        self.keep_layers(theta * 5, sizes, X, t.astype(float))
        self.rival = rivals.Moons(theta * 5, *self.batch)

    def loss(self, x, t):
        return nn.hinge(self.model(x)[0], t) + 1e-4 * sum(p * p for p in self.parameters)


def in_jax():
    """The losses by hand, of arrays and a batch."""
    import jax
    import jax.numpy as jnp

    def cross_entropy(Z, Y):
        return -(Y * jax.nn.log_softmax(Z)).sum(axis=-1).mean()

    def classifier(arrays, X, Y):
        W1, b1, W2, b2 = arrays
        return cross_entropy(jax.nn.relu(X @ W1 + b1) @ W2 + b2, Y)

    def convnet(arrays, X, Y):
        K, b, W, c = arrays
        Z = jax.lax.conv_general_dilated(X[:, None], K[:, None], (1, 1), "VALID")
        A = jax.nn.relu(Z + b[:, None, None])
        B, n, p = len(X), len(K), A.shape[-1] // 2
        pooled = A.reshape(B, n, p, 2, p, 2).max(axis=(3, 5))
        return cross_entropy(pooled.reshape(B, -1) @ W.T + c, Y)

    def attention(arrays, X, Y, heads=4):
        Q, K, V, M = arrays
        B, T, width = X.shape
        q, k, v = ((X @ W.T).reshape(B, T, heads, -1) for W in (Q, K, V))
        scores = jnp.einsum("bthi,bshi->bhts", q, k) / (width // heads) ** 0.5
        shares = jax.nn.softmax(jnp.where(jnp.tri(T, dtype=bool), scores, -jnp.inf))
        out = jnp.einsum("bhts,bshi->bthi", shares, v).reshape(B, T, width)
        return jnp.mean((out @ M.T - Y) ** 2)

    def gru(arrays, X, Y):
        Wz, Uz, bz, Wr, Ur, br, Wn, Un, bn = arrays

        def step(h, x):
            z = jax.nn.sigmoid(x @ Wz.T + h @ Uz.T + bz)
            r = jax.nn.sigmoid(x @ Wr.T + h @ Ur.T + br)
            n = jnp.tanh(x @ Wn.T + (r * h) @ Un.T + bn)
            return (1 - z) * n + z * h, None

        h, _ = jax.lax.scan(step, jnp.zeros_like(Y), X.transpose(1, 0, 2))
        return jnp.mean((h - Y) ** 2)

    def moons(arrays, X, t):
        W1, b1, W2, b2, W3, b3 = arrays
        scores = jax.nn.relu(jax.nn.relu(X @ W1 + b1) @ W2 + b2) @ W3 + b3
        return jax.nn.relu(1 - t * scores[:, 0]).mean() + 1e-4 * sum((p * p).sum() for p in arrays)

    def lorenz(arrays, T=5000, dt=1e-3):
        sigma, rho, beta, *state = arrays[0]

        def step(state, _):
            x, y, z = state
            moved = x + dt * sigma * (y - x), y + dt * (x * (rho - z) - y), z + dt * (x * y - beta * z)
            return moved, None

        (x, y, z), _ = jax.lax.scan(step, tuple(state), None, T)
        return x * x + y * y + z * z

    losses = {"MNIST": classifier, "convnet": convnet, "GRU": gru, "moons": moons}
    losses |= {"attention, masked": attention, "attention, causal": attention, "Lorenz": lorenz}

    def contender(name, case):
        step = jax.jit(jax.value_and_grad(losses[name]))
        arrays, batch = list(map(jnp.asarray, case.arrays)), list(map(jnp.asarray, case.batch))
        return lambda: jax.block_until_ready(step(arrays, *batch))

    return contender


def in_torch(threads=1):
    """The losses as PyTorch's users write them."""
    import torch

    torch.set_num_threads(threads)
    F = torch.nn.functional

    def classifier(arrays, X, Y):
        W1, b1, W2, b2 = arrays
        return F.cross_entropy(torch.addmm(b2, torch.relu(torch.addmm(b1, X, W1)), W2), Y.argmax(dim=1))

    def moons(arrays, X, t):
        W1, b1, W2, b2, W3, b3 = arrays
        scores = torch.addmm(b3, torch.relu(torch.addmm(b2, torch.relu(torch.addmm(b1, X, W1)), W2)), W3)
        return torch.relu(1 - t * scores[:, 0]).mean() + 1e-4 * sum((p * p).sum() for p in arrays)

    def convnet(arrays, X, Y):
        K, b, W, c = arrays
        pooled = F.max_pool2d(torch.relu(F.conv2d(X[:, None], K[:, None], b)), 2)
        return F.cross_entropy(F.linear(pooled.flatten(1), W, c), Y.argmax(dim=1))

    def attention(arrays, X, Y, heads=4):
        Q, K, V, M = arrays
        B, T, width = X.shape
        q, k, v = (F.linear(X, W).view(B, T, heads, -1).transpose(1, 2) for W in (Q, K, V))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return F.mse_loss(F.linear(out.transpose(1, 2).reshape(B, T, width), M), Y)

    def gru(arrays, X, Y):
        Wz, Uz, bz, Wr, Ur, br, Wn, Un, bn = arrays
        h = torch.zeros_like(Y)
        pairs = ((Wz, bz), (Wr, br), (Wn, bn))
        for xz, xr, xn in zip(*(F.linear(X, W, b).unbind(dim=1) for W, b in pairs), strict=True):
            z, r = torch.sigmoid(xz + F.linear(h, Uz)), torch.sigmoid(xr + F.linear(h, Ur))
            h = (1 - z) * torch.tanh(xn + F.linear(r * h, Un)) + z * h
        return F.mse_loss(h, Y)

    losses = {"MNIST": classifier, "moons": moons, "convnet": convnet, "GRU": gru}
    losses |= {"attention, masked": attention, "attention, causal": attention}

    def contender(name, case):
        if name not in losses:
            return None
        arrays = [torch.tensor(array, requires_grad=True) for array in case.arrays]
        batch = list(map(torch.from_numpy, case.batch))

        def step():
            loss = losses[name](arrays, *batch)
            return loss.item(), [gradient.numpy() for gradient in torch.autograd.grad(loss, arrays)]

        return step

    return contender


CASES = {
    "MNIST": (Classifier, functools.partial(Classifier, (20, 6, 3), 4)),
    "moons": (Moons, functools.partial(Moons, 10)),
    "convnet": (structures.Convnet, functools.partial(structures.Convnet, 2)),
    "attention, masked": (functools.partial(structures.Attention, True),) * 2,
    "attention, causal": (functools.partial(structures.Attention, False),) * 2,
    "GRU": (structures.GRU, functools.partial(structures.GRU, 2, 4, 2, 3)),
    "Lorenz": (structures.Lorenz,) * 2,
}


INSIDE = '"jax", in jax.jit'
OURS = ('"numpy"', '"python"', '"jax"', INSIDE)


def main():
    flags = {"markdown": "a table for a README", "first": "first calls on JAX"}
    chosen = common.parser_of(__doc__, 9, **flags).parse_args()
    settings = common.Settings(chosen)
    settings.seconds = min(settings.seconds, 0.05)
    dtype = "float64"
    by_hand = {"NumPy": lambda name, case: case.step}
    backends = ["numpy", *(["jax"] if "jax" in HAVE else []), "auto"]
    if "jax" in HAVE:
        import jax

        jax.config.update("jax_enable_x64", True)
        by_hand["jax.jit"] = in_jax()
    if "torch" in HAVE:
        by_hand["PyTorch"] = in_torch()
    if chosen.first:
        header = ["first call, s", "ours", "verify=False", "XLA alone", "ours / XLA", "verify=False / XLA"]
        cases = {name: (small if chosen.quick else full)() for name, (full, small) in CASES.items()}
        common.table(header, [first_calls(*named, dtype) for named in cases.items()], settings)
        return
    rows = []
    for name, (full, small) in CASES.items():
        print(name, file=sys.stderr, flush=True)
        case = small() if chosen.quick else full()
        rows.append(measured(name, case, by_hand, backends, dtype, settings))
    names = [*by_hand, *OURS, '"auto"', "auto chose"]
    header = [f"ms, {dtype}", *names, "best of ours / of theirs", "auto / best method"]
    common.table(header, rows, settings)
    common.machine(settings)
    print(f"load {os.getloadavg()[1]:.1f}")


def measured(name, case, by_hand, backends, dtype, settings):
    """A row of the table."""
    contenders = {key: make(name, case) for key, make in by_hand.items()}
    steps = {}
    for backend in [*backends[:1], *(["python"] if name == "Lorenz" else []), *backends[1:]]:
        steps[backend] = tg.compile(case.loss, case.parameters, dtype, backend=backend)
        contenders[f'"{backend}"'] = functools.partial(steps[backend].value_and_grad, *case.batch)
    if "jax" in steps:
        contenders[INSIDE] = inside_jax(steps["jax"], case)
    contenders = {key: step for key, step in contenders.items() if step}
    timing = {}
    for key, step in contenders.items():
        for _ in range(6):  # "auto" measures the first calls
            value, grads = step()
        grads = structures.joined(list(map(np.asarray, grads))) if isinstance(grads, list | tuple) else grads
        block = functools.partial(timed, step, steps.get(key.strip('"')), settings.seconds)
        timing[key] = (float(value), np.asarray(grads)), block
    common.compare(timing, common.TOLERANCE[dtype])
    least = {key: min(own) * 1e3 for key, own in common.interleaved(timing, settings.rounds).items()}
    own = [least[key] for key in least if key[0] == '"' and key != '"auto"']
    theirs = [least[key] for key in by_hand if key in least]
    row = [common.number(least[key]) if key in least else "-" for key in (*by_hand, *OURS)]
    auto = least['"auto"']
    row += [common.number(auto), steps["auto"].backend]
    methods = min(least[key] for key in OURS if key in least and key != INSIDE)  # what "auto" may choose
    return [name, *row, f"{min(own) / min(theirs):.2f}", f"{auto / methods:.2f}"]


def first_calls(name, case, dtype):
    """Seconds of a first call, of one without verification, and of XLA alone, which comes after them."""
    import jax

    calls, theta = [], np.array([parameter.data for parameter in case.parameters], dtype)
    for verify in (True, False):
        step = tg.compile(case.loss, case.parameters, dtype, backend="jax", verify=verify)
        calls.append(functools.partial(step.value_and_grad, *case.batch))
    calls.append(lambda: jax.jit(step.function).lower(theta, *case.batch).compile())
    seconds = []
    for call in calls:
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return [name, *(f"{x:.2f}" for x in seconds), *(f"{x / seconds[-1]:.2f}" for x in seconds[:2])]


def inside_jax(compiled, case):
    """`step.function` in a program of JAX's: as by hand, no array is copied to NumPy."""
    import jax
    import jax.numpy as jnp

    step, batch = jax.jit(compiled.function), list(map(jnp.asarray, case.batch))
    theta = jnp.asarray([p.data for p in case.parameters], batch[0].dtype if batch else None)
    return lambda: jax.block_until_ready(step(theta, *batch))


def timed(step, compiled, seconds):
    if compiled is None or not hasattr(compiled, "arrays"):
        return common.block(step, seconds, time.process_time)
    with compiled.arrays():  # as in training
        return common.block(step, seconds, time.process_time)


if __name__ == "__main__":
    main()
