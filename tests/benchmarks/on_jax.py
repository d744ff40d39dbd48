"""How fast `step.function` of backend="jax" is under jax.jit, beside JAX written by hand.

    python tests/benchmarks/on_jax.py [--rounds N] [--quick] [--float64]

The classifier 784-128-10 (batch 128), the convnet, masked attention and the GRU of structures.py. Each step is
the loss and all gradients. By hand, the parameters are separate arrays, as a person keeps them, and the gradient
is `jax.value_and_grad`. All must agree before anything is timed: to 1e-9 of the largest gradient in float64, to
1e-4 in float32. Blocks of steps alternate; a ratio is the median over neighbouring blocks, with the extremes.

Then the first call of `step.value_and_grad`, which traces, verifies and compiles, beside XLA alone, which compiles
the same program: seconds of CPU.
"""

import functools
import time

import common
import jax
import jax.numpy as jnp
import numpy as np
import rivals
import structures

import tinygrad_edu as tg
from tinygrad_edu import nn


class Classifier:
    """784-128-10 of `nn.Dense`, relu and cross-entropy, for a batch of 128."""

    def __init__(self, sizes=(784, 128, 10), batch=128):
        theta, X, classes = rivals.problem(sizes, batch, "float64")
        self.arrays = rivals.layers(theta, sizes)
        self.batch = X, rivals.one_hot(classes, sizes[-1], "float64")
        model = rivals.dense_model(self.arrays)
        self.parameters, self.loss = model.parameters(), lambda x, y: nn.cross_entropy(model(x), y)


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


WORK = {  # of all sizes, of small ones, by hand, and the bar
    "classifier 784-128-10": (Classifier, ((20, 6, 3), 4), classifier, 1.1),
    "convnet": (structures.Convnet, (2,), convnet, 1.2),
    "attention, masked": (functools.partial(structures.Attention, True), (2, 4), attention, 1.3),
    "GRU, 20 steps of 32": (structures.GRU, (2, 4, 2, 3), gru, 1.3),
}


def contender(function, parameters, batch, seconds):
    """A jitted function as `compiled.py` measures it."""
    step = jax.jit(function)
    loss, gradient = step(parameters, *batch)
    gradients = np.concatenate([np.ravel(part) for part in jax.tree.leaves(gradient)])
    run = functools.partial(common.block, lambda: jax.block_until_ready(step(parameters, *batch)), seconds)
    return (float(loss), gradients), run


def first_calls(name, work, dtype):
    """CPU seconds of a first call, of one without verification, and of XLA alone, which comes after them."""
    batch, seconds = [np.asarray(x, dtype) for x in work.batch], []
    theta = np.array([parameter.data for parameter in work.parameters], dtype)
    for verify in (True, False):
        step = tg.compile(work.loss, work.parameters, dtype, backend="jax", verify=verify)
        seconds.append(cpu(functools.partial(step.value_and_grad, *batch)))
    seconds.append(cpu(lambda: jax.jit(step.function).lower(theta, *batch).compile()))
    return [name, *(f"{x:.2f}" for x in seconds), *(f"{x / seconds[-1]:.2f}" for x in seconds[:2]), "1.3"]


def cpu(call):
    start = time.process_time()
    call()
    return time.process_time() - start


def main():
    chosen = common.parser_of(__doc__, 15, float64="in double precision").parse_args()
    jax.config.update("jax_enable_x64", chosen.float64)
    settings = common.Settings(chosen)
    settings.markdown = True
    dtype = "float64" if chosen.float64 else "float32"
    rows, first = [], []
    for name, (make, small, by_hand, bar) in WORK.items():
        work = make(*small) if chosen.quick else make()
        first.append(first_calls(name, work, dtype))
        batch = [jnp.asarray(x, dtype) for x in work.batch]
        step = tg.compile(work.loss, work.parameters, dtype, backend="jax", verify=chosen.quick)
        theta = jnp.asarray([parameter.data for parameter in work.parameters], dtype)
        arrays = [jnp.asarray(array, dtype) for array in work.arrays]
        contenders = {
            "by hand": contender(jax.value_and_grad(by_hand), arrays, batch, settings.seconds),
            "step.function": contender(step.function, theta, batch, settings.seconds),
        }
        common.compare(contenders, common.TOLERANCE[dtype])
        ours, theirs = common.interleaved(contenders, settings.rounds).values()
        times = [common.milliseconds(blocks) for blocks in (theirs, ours)]
        rows.append([name, *times, common.ratio(theirs, ours), str(bar)])
    common.table([f"ms, {dtype}", "step.function", "JAX by hand", "ratio", "bar"], rows, settings)
    header = ["first call, CPU s", "ours", "verify=False", "XLA alone", "ours / XLA", "verify=False / XLA", "bar"]
    common.table(header, first, settings)
    print(f"JAX {jax.__version__}, {jax.devices()}")


if __name__ == "__main__":
    main()
