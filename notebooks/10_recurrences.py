# %% [markdown]
# # Recurrences
#
# Some things are read one after the other: letters, notes, the digits of a number. Two kinds of network do that. A
# **recurrent** network keeps a state and changes it at every step, with the same weights. **Attention** keeps
# everything, and at every step looks back at all of it. We write both with scalars. Then we ask the compiler what they
# are as arrays, and read from its program how gradients go back through time.

# %%
# %matplotlib inline
import random
import re
import time

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_edu as tg
from tinygrad_edu import Value, optim

# %% [markdown]
# ## Sums, as at school
#
# We add two numbers as we learned it: from the right, digit by digit, with a carry. Our digits are bits. At each step
# the network sees one bit of each number and says one bit of the sum. It does not see the carry: it must remember it.
# Bits are -1 and 1 here, and the lowest comes first.


# %%
def additions(n, length, rng):
    """n additions: pairs of bits (n, length, 2), and the bits of their sums (n, length), all of them -1 or 1."""
    a, b = rng.integers(0, 2 ** (length - 1), (2, n))
    a_bits, b_bits, sums = (numbers[:, None] >> np.arange(length) & 1 for numbers in (a, b, a + b))
    return np.stack([a_bits, b_bits], axis=-1) * 2.0 - 1, sums * 2.0 - 1


pairs, sums = additions(1, 6, np.random.default_rng(3))
for name, bits in (("  a", pairs[0, :, 0]), ("  b", pairs[0, :, 1]), ("sum", sums[0])):
    print(name, "".join("01"[int(bit > 0)] for bit in bits[::-1]))

# %% [markdown]
# ## A recurrent network
#
# The state $h$ is a list of numbers, here three. At each step it is made anew from what the network sees and from the
# state before:
#
# $$h_t = \tanh(W_x x_t + W_h h_{t-1} + b) \qquad\qquad \text{score}_t = v \cdot h_t + c$$
#
# The bit is 1 if the score is positive. The first state, $h_0$, is learned too. In scalars, with a loop:

# %%
WIDTH, LENGTH = 3, 6
rng = random.Random(0)


def matrix(name, rows, columns):
    return [
        [Value(rng.gauss(0, columns**-0.5), label=f"{name}{i}{j}") for j in range(columns)] for i in range(rows)
    ]


Wx, Wh, (v,) = matrix("Wx", WIDTH, 2), matrix("Wh", WIDTH, WIDTH), matrix("v", 1, WIDTH)
b, start = ([Value(0.0, label=f"{name}{i}") for i in range(WIDTH)] for name in ("b", "h"))
c = Value(0.0, label="c")
weights = [w for row in [*Wx, *Wh, b, start, v, [c]] for w in row]


def states(pairs):
    h, seen = start, []
    for x in pairs:
        h = [tg.tanh(tg.dot(Wx[i], x) + tg.dot(Wh[i], h) + b[i]) for i in range(WIDTH)]
        seen.append(h)
    return seen


def scores(pairs):
    return [tg.dot(v, h) + c for h in states(pairs)]


def loss(pairs, sums):
    """The logistic loss, averaged over the steps: log 2 = 0.693 for a network that guesses."""
    return tg.sum(tg.softplus(-bit * score) for bit, score in zip(sums, scores(pairs), strict=True)) / len(sums)


out = loss(pairs[0], sums[0])
out.backward()
print(f"{len(weights)} weights, {len(tg.topological_order(out))} nodes, loss {out.data:.4f}")

# %% [markdown]
# ## Back through time
#
# The same weight is used at every step. So its gradient is a sum with one part for each step, and each part has come
# back through all steps after it. This is called **backpropagation through time**, but there is nothing new in it: it
# is the sum over paths of [lesson 2](02_backprop_step_by_step.ipynb). The smallest recurrent network has one number
# as its state, and one weight. Here are three steps of it:

# %%
w = Value(0.8, label="w")
h = Value(1.0, label="h0")
for t in range(3):
    h = tg.tanh(w * h)
    h.label = f"h{t + 1}"
tg.live(h)

# %%
print(tg.why(h, w))

# %% [markdown]
# Three paths, because `w` was used three times. The path through the last step is short. The path from the first step
# goes through two more steps: each of them multiplies its product by the slope of tanh and by `w`. Far back, the
# products become small or large, as in [lesson 5](05_vanishing_exploding.ipynb).
#
# ## The compiler finds the loop
#
# The compiler gets the scalars of all six steps, with no sign of where a step begins. It groups nodes that do the same
# to the same kind of operands. Groups that repeat, each stage reading the one before, are a loop:

# %%
step = tg.compile(loss, weights)
X, Y = additions(64, LENGTH, np.random.default_rng(0))
value, gradient = step.value_and_grad(X, Y)
print(step.groups)

# %% [markdown]
# These are the equations of its program, from the examples to the loss. `B` is the number of examples in the batch. The
# product with `Wx` needs no state, so it is done for all steps at once. Then comes the loop: `Ah[t]` is the state
# before step t, and `Ah[0]` is the learned start. All states are kept, because the way back needs them.


# %%
def equations(step):
    """The equations and the loops of a program's source: forward, then backward."""
    lines = step.source.partition("    def run")[2].splitlines()
    lines = [re.sub(" {4,}", "   ", line[8:]) for line in lines if line.strip().startswith(("# ", "for "))]
    lines = [line if line.startswith("for") else line.replace("# ", "", 1) for line in lines]
    (last,) = (i for i, line in enumerate(lines) if line.startswith("loss ="))
    return "\n".join(lines[: last + 1]), "\n".join(lines[last + 1 :])


forward, backward = equations(step)
print(forward)

# %% [markdown]
# ## Backpropagation through time, read from the source
#
# And these are its gradients:

# %%
print(backward)

# %% [markdown]
# Read the loop in which `Wh` stands. It is `reversed`: it goes from the last step to the first. The gradient of a state
# has two parts. One is from its own score, and lies in `dAh` before the loop begins. The other is from the state
# after it: `dZh[t] @ Wh`. So on its way back a gradient is multiplied by `Wh` and by the slope of tanh, `slope_1`, at every
# step, and that is why it vanishes or explodes. After the loop, the gradient of each weight is *one* product over all steps
# and all examples, such as `dWh`: the sum over time is inside it.
#
# Here is the same as a textbook has it, by hand:


# %%
def by_hand(X, Y):
    Wx_, Wh_, b_, start_, v_ = (
        np.array([[w.data for w in row] for row in m]) for m in (Wx, Wh, [b], [start], [v])
    )
    B, T, _ = X.shape
    H = np.zeros((T + 1, B, WIDTH))
    H[0] = start_
    for t in range(T):
        H[t + 1] = np.tanh(X[:, t] @ Wx_.T + H[t] @ Wh_.T + b_)
    scores = H[1:] @ v_[0] + c.data
    dscores = -Y.T / (1 + np.exp(Y.T * scores)) / (B * T)

    dWx, dWh, db, dh = np.zeros_like(Wx_), np.zeros_like(Wh_), 0.0, np.zeros((B, WIDTH))
    for t in reversed(range(T)):
        dh = dscores[t][:, None] * v_ + dh  # from the score, and from the state after
        dz = dh * (1 - H[t + 1] ** 2)
        dWx += dz.T @ X[:, t]
        dWh += dz.T @ H[t]
        db += dz.sum(axis=0)
        dh = dz @ Wh_
    dv = np.einsum("tb,tbi->i", dscores, H[1:])
    return np.concatenate([dWx.ravel(), dWh.ravel(), db, dh.sum(axis=0), dv, [dscores.sum()]])


print("the gradients agree to 1e-14:", np.allclose(by_hand(X, Y), gradient, rtol=0, atol=1e-14))

# %% [markdown]
# ## Training
#
# 500 steps of Adam, each with 64 additions that were never seen before.

# %%
optimizer, draws = optim.Adam(weights, lr=0.03), np.random.default_rng(0)
with step.arrays() as theta, optimizer.arrays(theta) as move:
    for number in range(501):
        X, Y = additions(64, LENGTH, draws)
        value, gradient = step.value_and_grad(X, Y)
        move(gradient)
        if number % 100 == 0:
            print(f"step {number:3}: loss {value:.3f}")

# %% [markdown]
# Has it learned six bits by heart, or how to add? A recurrent network takes a sequence of any length. So we give it
# numbers of up to a thousand million:

# %%
predict = tg.compile(scores, weights).predict
for length in (6, 12, 30):
    X, Y = additions(500, length, np.random.default_rng(1))
    right = (np.sign(predict(X)) == Y).all(axis=1).mean()
    print(f"{length:2} bits: {right:.0%} of 500 sums are right, in every bit")

# %% [markdown]
# It can add. Where does it keep the carry? Here are its three numbers while it adds two numbers of 16 bits, with the
# carry that we would write down. Look at state 0: it is blue where the carry is 1 and red where it is 0. Nobody told
# the network that there is such a thing as a carry.

# %% tags=["cover"] alt="The bits of a sum, the carry, and the hidden state that follows it step by step"
X, Y = additions(1, 16, np.random.default_rng(2))
bits, carry = (X[0] > 0).astype(int), [0]
for pair in bits:
    carry.append(int(pair.sum() + carry[-1] > 1))
rows = np.array([[unit.data for unit in h] for h in states(X[0])]).T
figure, (above, below) = plt.subplots(2, 1, figsize=(7, 3.2), layout="constrained", sharex=True)
above.imshow(np.vstack([bits.T, carry[1:]]) * 2 - 1, "Greys", vmin=-1, vmax=1.6, aspect="auto")
above.set_yticks(range(3), ["bits of a", "bits of b", "carry"])
below.imshow(rows, "RdBu_r", vmin=-1, vmax=1, aspect="auto")
below.set_yticks(range(3), ["state 0", "state 1", "state 2"])
below.set_xlabel("step, the lowest bit first")
plt.show()

# %% [markdown]
# ## Causal attention
#
# A recurrent network must squeeze the past into its state. Attention keeps the past as it is, and looks. A step asks
# a **query**, each step so far has a **key**, and softmax turns their products into shares that add up to 1. The
# result is the mean of the numbers so far, weighted by these shares. *Causal* means: step t sees the steps up to t,
# `range(t + 1)`, and none after.
#
# The task: at each step a letter comes with a number. Say the mean of all numbers so far that came with the same
# letter. The letters are rows of 0 and one 1.

# %%
LETTERS, SIZE, PLACES = 4, 3, 8
Wq, Wk = matrix("Wq", SIZE, LETTERS), matrix("Wk", SIZE, LETTERS)
looks = [w for row in Wq + Wk for w in row]


def shares(letters):
    """Row t: how much step t takes from each step up to t."""
    queries = [[tg.dot(row, letter) for row in Wq] for letter in letters]
    keys = [[tg.dot(row, letter) for row in Wk] for letter in letters]
    return [tg.softmax([tg.dot(query, keys[s]) for s in range(t + 1)]) for t, query in enumerate(queries)]


def means(letters, numbers):
    return [tg.dot(row, numbers[: len(row)]) for row in shares(letters)]


def error(letters, numbers, wanted):
    return tg.sum((m - w) ** 2 for m, w in zip(means(letters, numbers), wanted, strict=True)) / PLACES


def examples(n, rng):
    letters, numbers = rng.integers(0, LETTERS, (n, PLACES)), rng.normal(size=(n, PLACES))
    same = (letters[:, :, None] == letters[:, None, :]) & np.tri(PLACES, dtype=bool)
    return np.eye(LETTERS)[letters], numbers, (same * numbers[:, None, :]).sum(axis=-1) / same.sum(axis=-1)


# %% [markdown]
# Step t mixes t + 1 numbers, so no two steps do quite the same. What does the compiler make of that?

# %%
attention = tg.compile(error, looks)
batch = examples(64, np.random.default_rng(0))
value, gradient = attention.value_and_grad(*batch)
print(attention.groups)
print(equations(attention)[0])

# %% [markdown]
# There is no loop: no step waits for another. All steps are one array. As in [lesson 9](09_a_tiny_gpt_of_scalars.ipynb)
# the rows are filled up to 8, and a mask adds minus infinity to what lies in the future. `sum_1` is the product of all
# queries and all keys, `P1` has the shares, and `sum_3` mixes the numbers.

# %%
optimizer, draws = optim.Adam(looks, lr=0.05), np.random.default_rng(1)
with attention.arrays() as theta, optimizer.arrays(theta) as move:
    for number in range(301):
        value, gradient = attention.value_and_grad(*examples(64, draws))
        move(gradient)
        if number % 100 == 0:
            print(f"step {number:3}: error {value:.1e}")

# %% [markdown]
# It has learned to look at the same letter, and to look at all of them alike:

# %% alt="The shares with which each step attends to the steps before it, as a grid"
letters = [1, 0, 1, 2, 0, 1, 3, 1]
rows = shares(np.eye(LETTERS)[letters].tolist())
picture = np.full((PLACES, PLACES), np.nan)
for t, row in enumerate(rows):
    picture[t, : t + 1] = [share.data for share in row]
figure, axes = plt.subplots(figsize=(4.2, 3.4), layout="constrained")
image = axes.imshow(picture, "Blues", vmin=0, vmax=1)
axes.set_xticks(range(PLACES), ["abcd"[letter] for letter in letters])
axes.set_yticks(range(PLACES), ["abcd"[letter] for letter in letters])
axes.set_xlabel("looks at")
axes.set_ylabel("step")
figure.colorbar(image, label="share")
plt.show()

# %% [markdown]
# ## Two ways to remember
#
# | | recurrent | attention |
# |---|---|---|
# | keeps | a state of fixed size | everything so far |
# | work for T steps | T steps, one after the other | all T²/2 pairs, at once |
# | way of a gradient over a distance d | through d steps: d products of slopes | one step |
# | as arrays | a loop over t | matrix products over all pairs |
#
# The last line is why transformers took over: a matrix product uses all of a machine at once, a loop waits for each
# step. And the line above it is why they learn what lies far apart. But for adding, three numbers of state are
# enough, for numbers of any length. Here is the time of both programs:


# %% tags=["timing"]
def seconds(call, *arguments):
    """The shortest of ten runs."""
    times = []
    for _ in range(10):
        started = time.perf_counter()
        call(*arguments)
        times.append(time.perf_counter() - started)
    return min(times)


rng64 = np.random.default_rng(0)
for name, program, function, batch in (
    ("recurrent", step, loss, additions(64, LENGTH, rng64)),
    ("attention", attention, error, examples(64, rng64)),
):
    one = [part[0].tolist() for part in batch]
    compiled = seconds(program.value_and_grad, *batch) / 64
    eager = seconds(lambda function=function, one=one: function(*one).backward())
    print(f"{name}: {1e6 * compiled:.1f} microseconds for an example, compiled; {1e6 * eager:.0f} as scalars")
