# %% [markdown]
# # A tiny GPT of scalars
#
# A language model says which character comes next. The ones that talk are transformers. A transformer needs only
# addition, multiplication, division, a maximum, a square root and an exponential. We write a small one with
# scalars, train it for a few steps as it is, and look at the graph. Then the compiler finds the matrices in it.

# %%
# %matplotlib inline
import os
import random
import time
from importlib import resources

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_edu as tg
from tinygrad_edu import nn, optim

QUICK = bool(os.environ.get("TINYGRAD_EDU_QUICK"))

# %% [markdown]
# ## Names
#
# The package comes with 2,000 first names of at most seven letters. They are a sample of the 32,033 names of
# [makemore](https://github.com/karpathy/makemore) (MIT licence). We keep 200 of them aside.

# %%
names = resources.files("tinygrad_edu.datasets").joinpath("data", "names.txt").read_text().split()
random.Random(0).shuffle(names)
train, held_out = names[200:], names[:200]
print(len(train), "names to learn from:", ", ".join(train[:8]), "...")

# %% [markdown]
# The alphabet has 27 characters: 26 letters, and `.`, which begins and ends a name. The model reads up to 8
# characters and predicts, at each place, the one that follows. This is how the model sees a name:

# %%
ALPHABET, PLACES = ".abcdefghijklmnopqrstuvwxyz", 8


def example(name):
    """The characters to read, the characters to predict, and the weight of each place."""
    characters = [ALPHABET.index(c) for c in f".{name}."]
    n, padding = len(name) + 1, [0] * (PLACES - len(name) - 1)
    return characters[:-1] + padding, characters[1:] + padding, [1 / n] * n + padding


for row in example("emma"):
    print(row)

# %% [markdown]
# ## Attention
#
# Attention is the part of the model where places look at each other. In all other parts every place works by itself.
# A place asks a query. It and every place before it offer a key and a value. The dot product of query and
# key says how well they fit. Softmax turns the fits into shares, and the place gets the values, mixed by these
# shares. Four heads do this side by side, each with a quarter of the numbers.
#
# A place sees itself and the places before it, `range(t + 1)`. That is why all eight predictions of a name are
# honest: none has seen the character that it predicts.


# %%
class Attention(nn.Module):
    def __init__(self, width, n_heads, rng):
        self.query, self.key, self.value, self.mix = (nn.Dense(width, width, rng=rng) for _ in range(4))
        self.n_heads, self.size = n_heads, width // n_heads

    def __call__(self, rows):
        queries, keys, values = self.query(rows), self.key(rows), self.value(rows)
        mixed = []
        for t in range(len(rows)):
            seen = range(t + 1)
            row = []
            for head in range(self.n_heads):
                part = slice(head * self.size, (head + 1) * self.size)
                fits = [tg.dot(queries[t][part], keys[s][part]) / self.size**0.5 for s in seen]
                shares = tg.softmax(fits)
                row += [tg.dot(shares, [values[s][i] for s in seen]) for i in range(part.start, part.stop)]
            mixed.append(row)
        return self.mix(mixed)


# %% [markdown]
# ## The model
#
# A table has one row of 16 numbers for each character. The place adds 16 numbers of its own. Attention adds what
# it has found elsewhere, and a small network of 16 → 64 → 16 adds its conclusions. The result is compared with
# each of the 27 characters. Before each part, `RMSNorm` scales the numbers of a place to one size.


# %%
def added(rows, others):
    return [[x + y for x, y in zip(row, other, strict=True)] for row, other in zip(rows, others, strict=True)]


class GPT(nn.Module):
    def __init__(self, width=16, n_heads=4, rng=None):
        self.token, self.place = nn.Embedding(27, width, rng), nn.Embedding(PLACES, width, rng)
        self.attention_norm, self.attention = nn.RMSNorm(width), Attention(width, n_heads, rng)
        self.mlp_norm, self.grow = nn.RMSNorm(width), nn.Dense(width, 4 * width, "relu", rng)
        self.shrink = nn.Dense(4 * width, width, rng=rng)
        self.head_norm, self.head = nn.RMSNorm(width), nn.Dense(width, 27, rng=rng)
        self._label_parameters()

    def __call__(self, characters):
        x = added(self.token(characters), self.place(range(len(characters))))
        x = added(x, self.attention(self.attention_norm(x)))
        x = added(x, self.shrink(self.grow(self.mlp_norm(x))))
        return self.head(self.head_norm(x))


model = GPT(rng=random.Random(0))
print(f"{len(model.parameters()):,} parameters")

# %% [markdown]
# ## One step
#
# The loss of a name is its surprise per character: the average of $-\log p$ over the characters that did come. A
# model that has learned nothing gives each character 1/27, and its loss is $\log 27 = 3.30$.


# %%
def loss(characters, following, weights):
    surprise = nn.cross_entropy(model(characters), following, reduction="none")
    return tg.dot(weights, surprise)


out = loss(*example("emma"))
out.backward()
print(f"loss {out:.3f}, from a graph of {len(tg.topological_order(out)):,} nodes; log 27 = {np.log(27):.3f}")

# %% [markdown]
# That is one name. Draw it with one box for everything that is done alike, and you recognise the transformer: a
# straight line from the characters to the loss, to which attention and the small network add what they find. One
# arrow runs back up, into the box `attention`, because this box holds the first three layers of attention and
# also the last.

# %%
picture = tg.draw(out, rankdir="TB", max_nodes=42)
picture.attr(ranksep="0.15", size="8,28")  # a little closer, and smaller: inches
picture

# %% [markdown]
# ## Names before training
#
# To make a name, begin with `.`. Draw the next character by the probabilities at the last place, and repeat until
# `.` comes. The scores are first divided by a temperature. A temperature below 1 makes likely characters even
# more likely.


# %%
def invent(rng, temperature=0.7):
    characters = [0]
    while len(characters) <= PLACES:
        scores = model(characters)[-1]
        shares = tg.softmax([score.data / temperature for score in scores])
        (character,) = rng.choices(range(27), shares)
        if character == 0:
            break
        characters.append(character)
    return "".join(ALPHABET[c] for c in characters[1:])


def invented(n, temperature=0.7):
    rng = random.Random(1)
    return ", ".join(invent(rng, temperature) for _ in range(n))


print(invented(8))

# %% [markdown]
# ## Trained on scalars
#
# We take ten steps of Adam, each with the mean loss of four names.

# %% tags=["slow"]
optimizer = optim.Adam(model.parameters(), lr=0.01)
batches = random.Random(2)
started = time.perf_counter()
for number in range(2 if QUICK else 10):
    batch = batches.sample(train, 4)
    out = tg.sum(loss(*example(name)) for name in batch) / len(batch)
    optimizer.zero_grad()
    out.backward()
    optimizer.step()
    if number % 3 == 0:
        print(f"step {number + 1:2}: loss {out:.3f}")
eager = (time.perf_counter() - started) / (4 * (number + 1))

# %% tags=["timing"]
print(f"{1000 * eager:.0f} ms per name: {len(train):,} names would take {eager * len(train):.0f} s")

# %% [markdown]
# It learns, but one name after the other and one number after the other.
#
# ## Compiled: what is alike?
#
# The compiler makes one array of everything that is done alike. Does it find such arrays in this loss?


# %%
def batch_of(names):
    """The same for several names, as arrays with one row per name."""
    return [np.array(part) for part in zip(*map(example, names), strict=True)]


step = tg.compile(loss, model.parameters())
value, gradient = step.value_and_grad(*batch_of(train[:32]))
print(step.groups.title)

# %% [markdown]
# All places are one axis, though place 3 mixes four values and place 4 mixes five. The compiler fills the shorter rows
# up: every place looks at all eight, and a **mask** adds minus infinity to the fits that lie in the future. Their
# shares are 0. People who write transformers write this mask by hand. These are the matrix products among the groups:

# %%
table = str(step.groups).splitlines()
print("\n".join([table[1], *(line for line in table if "matrix product " in line and "->" not in line)]))

# %% [markdown]
# Query, key and value of all places are three products, (B, 8, 16) each. The next two products have
# heads: the fits of all places to all places, (8, 8) in 4 heads, and the values mixed by their shares. Where
# another array is added to a product, it is one of the two additions on the straight line of the picture. Nobody
# told the compiler what a head is.
#
# ## Trained on arrays
#
# The same model continues where the scalars stopped, with the same optimiser and its memory. Each step takes 32
# names. After every 50 steps we look at the names kept aside.

# %% tags=["slow"]
everything, aside, steps = batch_of(train), batch_of(held_out), 100 if QUICK else 1000
curve, rows = [], np.random.default_rng(0)
with step.arrays() as theta, optimizer.arrays(theta) as move:
    for number in range(steps + 1):
        if number % 50 == 0:
            curve.append((number, step(*everything), step(*aside)))
        optimizer.lr = 0.01 * (1 - number / (steps + 1))
        batch = rows.integers(len(train), size=32)
        _, gradient = step.value_and_grad(*(part[batch] for part in everything))
        move(gradient)
print("step   to learn from   kept aside")
for number, known, unknown in curve[:: len(curve) // 2]:
    print(f"{number:4} {known:15.3f} {unknown:12.3f}")

# %% [markdown]
# And the time? We measure loss and gradient of 32 names at once, averaged over 20 runs:

# %% tags=["timing"]
batch = batch_of(train[:32])
started = time.perf_counter()
for _ in range(20):
    step.value_and_grad(*batch)
compiled = (time.perf_counter() - started) / (20 * 32)
print(f"{1000 * compiled:.2f} ms per name, and {1000 * eager:.0f} ms with scalars")

# %% tags=["slow"] alt="The surprise per character over the steps of training, for names to learn from and names kept aside: both fall"
counts = np.bincount([ALPHABET.index(c) for name in train for c in f"{name}."], minlength=27)
surprise = -np.log(counts / counts.sum())
by_letter = np.mean([np.mean([surprise[ALPHABET.index(c)] for c in f"{name}."]) for name in held_out])
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
numbers, known, unknown = zip(*curve, strict=True)
axes.plot(numbers, known, label="names to learn from")
axes.plot(numbers, unknown, "--", label="names kept aside")
axes.axhline(by_letter, color="gray", linewidth=0.8, linestyle=":", label="how often each letter comes")
axes.set_xlabel("step")
axes.set_ylabel("surprise per character")
axes.legend()
plt.show()

# %% [markdown]
# The dotted line is a model that knows how often each letter comes, and nothing about the letters before it. The
# names kept aside stop getting better while the others go on: 1,800 names are few for 4,283 parameters, and the
# model begins to know them by heart. The whole file has eighteen times as many.
#
# ## Names after training
#
# The numbers are back in the Values, and the same function invents names from them. A low temperature plays safe,
# a high one takes risks.

# %% tags=["slow"]
for temperature in (0.5, 0.8, 1.2):
    print(f"{temperature}: {invented(8, temperature)}")

# %% [markdown]
# ## What a place looks at
#
# These are the shares of attention for one name, in the four heads. Each row is a place. The colour says how much
# this place takes from the places up to it. We compute the shares as the model does.


# %% tags=["slow", "cover"] alt="Which earlier characters each place attends to, as a triangle of shares for each head"
def attention_shares(characters, head):
    """Row t has the shares that place t takes from the places up to t."""
    rows = model.attention_norm(added(model.token(characters), model.place(range(len(characters)))))
    part = slice(4 * head, 4 * head + 4)
    queries, keys = ([row[part] for row in f(rows)] for f in (model.attention.query, model.attention.key))
    shares = np.full((len(rows), len(rows)), np.nan)
    for t, query in enumerate(queries):
        fits = [tg.dot(query, key) / 2 for key in keys[: t + 1]]
        shares[t, : t + 1] = [share.data for share in tg.softmax(fits)]
    return shares


name = ".marilyn"
figure, every = plt.subplots(1, 4, figsize=(9, 2.6), layout="constrained")
for head, axes in enumerate(every):
    picture = axes.imshow(attention_shares([ALPHABET.index(c) for c in name], head), "Blues", vmin=0, vmax=1)
    axes.set_title(f"head {head + 1}")
    axes.set_xticks(range(len(name)), list(name))
    axes.set_yticks(range(len(name)), list(name))
figure.colorbar(picture, ax=every, shrink=0.8, label="share")
plt.show()
