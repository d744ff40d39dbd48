# %% [markdown]
# # Vanishing and exploding gradients
#
# Backpropagation multiplies slopes. Ten factors of 0.22 make 0.0000003, ten factors of 7.2 make 374 million. A
# deep network can learn only if the product stays near 1. We watch it vanish and repair that in three ways. Then
# we watch it explode, and tame that too. Each time we measure.

# %%
# %matplotlib inline
import itertools
import math
import random
import statistics

import matplotlib.pyplot as plt

import tinygrad_edu as tg
from tinygrad_edu import Value, datasets, nn, optim
from tinygrad_edu.testing import gradcheck
from tinygrad_edu.viz import plots

# %% [markdown]
# ## Ten sigmoids in a row
#
# The slope of the sigmoid is s(1 - s), where s is its output. It is largest at x = 0, and even there it is only
# 1/4.

# %% alt="The sigmoid and its slope, which is 0.25 at most"
xs = [i / 20 for i in range(-120, 121)]
figure, axes = plt.subplots(figsize=(5, 2.6), layout="constrained")
axes.plot(xs, [tg.sigmoid(x) for x in xs], label="sigmoid")
axes.plot(xs, [tg.grad(tg.sigmoid)(x) for x in xs], label="its slope")
axes.axhline(0.25, color="gray", linewidth=0.8, linestyle=":")
axes.set_xlabel("x")
axes.legend()
plt.show()

# %% [markdown]
# Put ten of them one after the other. There is one path from the result back to x, so the gradient is the product
# of the ten slopes on this path.

# %%
x = Value(0.0, label="x")
chain = [x]
for _ in range(10):
    chain.append(chain[-1].sigmoid())
y = chain[-1]
y.backward()

slopes = [tg.gradients(after, before) for before, after in itertools.pairwise(chain)]
print("slopes  ", *(f"{slope:.3f}" for slope in slopes))
print(f"product  {math.prod(slopes):.2e}")
print(f"x.grad   {x.grad:.2e}   at most {0.25**10:.2e}")

# %% [markdown]
# No sigmoid is saturated here. Every slope is close to the largest possible one, and still the gradient is gone.
# With `heat=True` the colour of each node shows its gradient on a logarithmic scale. The result has a double
# frame and the gradient 1. The colour fades on the way back to x.

# %%
tg.draw(y, heat=True, rankdir="TB")

# %% [markdown]
# The same graph as a page: drag a number and everything follows, step through both passes, try the quiz. Run the cell
# to see it (where no script may run there is a picture), or write it to a file: `tg.live(y).to_html("page.html")`.

# %%
tg.live(y)

# %% [markdown]
# ## Ten sigmoid layers
#
# Now a network: two inputs, a linear layer, ten blocks of width 8, and a linear layer with two scores. Later only
# `block` will change. The data are 24 points of two moons.

# %%
WIDTH, DEPTH = 8, 10


def block(kind: str, rng: random.Random) -> nn.Module:
    if kind == "relu":
        return nn.Dense(WIDTH, WIDTH, "relu", rng=rng)
    dense, sigmoid = nn.Dense(WIDTH, WIDTH, rng=rng), nn.Activation("sigmoid")
    if kind == "batch norm":
        return nn.Sequential(dense, nn.BatchNorm(WIDTH), sigmoid)
    if kind == "residual":
        return nn.Residual(nn.Sequential(dense, sigmoid))
    return nn.Sequential(dense, sigmoid)


def deep(kind: str) -> nn.Sequential:
    rng = random.Random(0)
    blocks = [block(kind, rng) for _ in range(DEPTH)]
    return nn.Sequential(nn.Dense(2, WIDTH, rng=rng), *blocks, nn.Dense(WIDTH, 2, rng=rng))


points, signs = datasets.moons(24, seed=0)
classes = [(sign + 1) // 2 for sign in signs]
model = deep("sigmoid")
loss = nn.cross_entropy(model(points), classes)
loss.backward()
print(f"loss {loss:.4f}")

# %% [markdown]
# The histograms show the gradients of each layer's weights, in powers of ten. (layer0 and layer11 are the linear
# layers, layer1 to layer10 the blocks.) The last layers are at the top. From there down, the histograms march to
# the left, by a factor of about four per layer.

# %% alt="The sizes of the gradients, a row for each layer: the first layers have the smallest"
plots.gradient_histograms(model)

# %% [markdown]
# The signal on its way up meets the same slopes as the gradient on its way down. Look at the outputs of the
# layers: after a few layers, each unit says the same for all 24 points. Its spread (the standard deviation over
# the points) shrinks as the gradients do. The last layers do not know which point they are looking at.

# %% alt="The outputs of each layer, a row for each: they gather around 0.5"
plots.activation_histograms(model, points)


# %%
def spreads(model: nn.Module) -> list[float]:
    """For every layer, the standard deviation over the points, averaged over the units."""
    rows, found = points, []
    for layer in model.layers:
        rows = layer(rows)
        units = zip(*rows, strict=True)
        found.append(statistics.fmean(statistics.pstdev([x.data for x in unit]) for unit in units))
    return found


print("spread by layer:", *(f"{spread:.0e}" for spread in spreads(model)[:-1]))

# %% [markdown]
# From here on, one number describes a network: the size of the gradients of the first block, divided by that of
# the tenth. `Dense` draws its weights for sigmoids so that a matrix roughly keeps the length of a vector
# (Xavier). So the nine steps between these blocks leave little more than the product of nine slopes.


# %%
def gradients_by_layer(model: nn.Module) -> list[float]:
    model.zero_grad()
    nn.cross_entropy(model(points), classes).backward()
    return [statistics.fmean(map(abs, gradients)) for gradients in plots.layer_gradients(model).values()]


def first_to_tenth(model: nn.Module) -> float:
    sizes = gradients_by_layer(model)
    return sizes[1] / sizes[DEPTH]


ratio = first_to_tenth(model)
print(f"first / tenth block: {ratio:.1e}, or {ratio ** (1 / 9):.2f} for each of the nine steps")

# %% [markdown]
# ## Repair one: relu and He's weights
#
# The slope of relu is 1 or 0. Where it is 1, nothing is lost. But about half of the units are at 0, so only half
# of the mean square passes. Weights of variance 2/n, twice the usual 1/n, compensate for that (He et al. 2015).
# In general, with variance g/n the mean square changes by a factor of g/2 per layer, on average over the weights.
# So ten layers of width 32 divide it by a thousand for g = 1, multiply it by a thousand for g = 4, and keep it
# for g = 2. The dashed lines show this prediction, and each thin line is one network.

# %% alt="The mean square of the outputs over the depth, for three starts: one vanishes, one stays, one explodes"
rng = random.Random(1)
inputs = [rng.gauss(0.0, 1.0) for _ in range(32)]
start = statistics.fmean(x * x for x in inputs)
figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
for g, color in ((4, "tab:red"), (2, "tab:green"), (1, "tab:blue")):

    def init(n_inputs: int, n_outputs: int, rng: random.Random, g: int = g) -> float:
        return rng.gauss(0.0, math.sqrt(g / n_inputs))

    for _ in range(5):
        network = nn.Sequential(*(nn.Dense(32, 32, "relu", rng=rng, init=init) for _ in range(10)))
        layers = plots.layer_outputs(network, [inputs])
        sizes = [start, *(statistics.fmean(x * x for x in outputs) for outputs in layers)]
        axes.plot(sizes, color=color, linewidth=0.8, alpha=0.7)
    predicted = [start * (g / 2) ** i for i in range(11)]
    axes.plot(predicted, "--", color=color, label=f"variance {g}/n")
axes.set_yscale("log")
axes.set_xlabel("layer")
axes.set_ylabel("mean square of the outputs")
axes.legend()
plt.show()

# %% [markdown]
# `nn.Dense(..., "relu")` uses these weights by default. With ten such blocks, the histograms no longer march.

# %% alt="The sizes of the gradients of a network of relus, a row for each layer: all are alike"
relu = deep("relu")
print(f"first / tenth block: {first_to_tenth(relu):.2g}")
plots.gradient_histograms(relu)

# %% [markdown]
# ## Repair two: batch normalisation
#
# `BatchNorm` subtracts from each unit its mean over the batch and divides by its spread. If the spread of a
# signal has become five times smaller, `BatchNorm` multiplies the signal by five, and the gradient that comes
# back too. So before each sigmoid the spread is 1 again. The sigmoid, with slopes of 1/4 at most, leaves 0.22 of
# it, in the first block and in the tenth. Now the gradients of the first block are the larger ones, but by a
# factor of ten, not of a million.

# %%
normalised = deep("batch norm")
print("spread by layer:", *(f"{spread:.2f}" for spread in spreads(normalised)[:-1]))
print(f"first / tenth block: {first_to_tenth(normalised):.2g}")

# %% [markdown]
# ## Repair three: a way around
#
# A residual block computes x + sigmoid(x). Its slope is 1 + s(1 - s), which is never below 1. `tg.why` lists the
# paths of a gradient with their products. Three such blocks have 2^3 = 8 paths, because each sigmoid is passed
# through or passed by. The path around all of them has the largest product, exactly 1.

# %%
r0 = Value(0.0, label="r0")
r1 = r0 + r0.sigmoid()
r2 = r1 + r1.sigmoid()
r3 = r2 + r2.sigmoid()
print(tg.why(r3, r0))

# %% [markdown]
# Here is the network with the same ten sigmoid layers and a way around each:

# %%
residual = deep("residual")
print(f"first / tenth block: {first_to_tenth(residual):.2g}")

# %% [markdown]
# ## What it is worth
#
# We take twenty-five steps of gradient descent, with the same learning rate for all four networks. Guessing
# blindly between two classes of equal size costs log 2 = 0.693 per point. The plain network learns to guess
# blindly, and nothing else. The other three learn. (The residual network starts at a loss that lies above this
# picture: the outputs of its sigmoids are positive and add up over ten blocks.)

# %% alt="The loss over the steps of four deep networks: with sigmoids it stands still; with relus, batch norm or residual connections it falls"
figure, axes = plt.subplots(figsize=(5.5, 3), layout="constrained")
for kind in ("sigmoid", "relu", "batch norm", "residual"):
    trained, losses = deep(kind), []
    optimizer = optim.SGD(trained.parameters(), lr=0.1)
    for _ in range(25):
        loss = nn.cross_entropy(trained(points), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.data)
    axes.plot(losses, label=kind)
    print(f"{kind:<10}  loss {losses[0]:.3f} -> {losses[-1]:.3f}")
axes.axhline(math.log(2), color="gray", linewidth=0.8, linestyle=":")
axes.set_ylim(0, 1.2)
axes.set_xlabel("step")
axes.set_ylabel("loss")
axes.legend()
plt.show()

# %% [markdown]
# ## Exploding gradients
#
# Now the factors are above 1. A recurrent network multiplies by one weight w again and again. Ten times gives w^10 x. Let
# the input x be 0.5 and let the wanted output be 0.5 too. Then the best w is 1. The loss is flat below it, and a
# cliff above.


# %%
def cliff(w):
    state = 0.5
    for _ in range(10):
        state = state * w
    return (state - 0.5) ** 2


for w in (0.5, 0.9, 1.1, 1.5, 2.0):
    print(f"w = {w}   loss {cliff(w):<10.4g} slope {tg.grad(cliff)(w):.4g}")

# %% [markdown]
# At w = 2, one step of gradient descent throws w to -79,000, and the next step throws it to 10^92. Then the loss
# overflows, and `tg.blame` says at which node.

# %%
w = Value(2.0, label="w")
for step in range(3):
    w.grad = 0.0
    loss = cliff(w)
    loss.backward()
    print(f"step {step}: w = {w:<10.4g} loss {loss:<10.4g} slope {w.grad:.4g}")
    if not math.isfinite(loss.data):
        print(tg.blame(loss))
        break
    w.data -= 0.03 * w.grad

# %% [markdown]
# Even such a large gradient tells one useful thing: the direction. `clip_grad_norm` keeps the direction and
# shortens the gradient to a length of 1 at most. Call it between `backward()` and `step()`. Here is the same
# descent from the same place:

# %%
w = Value(2.0, label="w")
optimizer = optim.SGD([w], lr=0.03)
for step in range(51):
    optimizer.zero_grad()
    loss = cliff(w)
    loss.backward()
    before = optim.clip_grad_norm([w], max_norm=1.0)  # the length before
    if step % 10 == 0:
        print(f"step {step:>2}: w = {w:.4f}   loss {loss:<8.2g} slope {before:<8.2g} clipped {w.grad:.2g}")
    optimizer.step()

# %% [markdown]
# In a network the length is that of all gradients together, so one factor shortens them all. Take ten linear
# layers in which every weight is 0.9. Each layer multiplies by 7.2, and 7.2^10 is 374 million.

# %%
network = nn.Sequential(*(nn.Dense(WIDTH, WIDTH, rng=0, init=nn.constant(0.9)) for _ in range(DEPTH)))
scores = network([0.5] * WIDTH)
tg.dot(scores, scores).backward()
parameters = network.parameters()
before = [p.grad for p in parameters]
length = optim.clip_grad_norm(parameters, max_norm=1.0)
factors = [p.grad / g for p, g in zip(parameters, before, strict=True)]
print(f"output / input {scores[0].data / 0.5:.4g}")
print(f"length of the gradient: before {length:.3g}, after {math.hypot(*(p.grad for p in parameters)):.3g}")
print(f"every gradient was multiplied by {min(factors):.3g} to {max(factors):.3g}")

# %% [markdown]
# ## Exercises
#
# 1. The slope of tanh is 1 at x = 0. What is the gradient of ten tanh in a row at x = 0, and what at x = 1? Say
#    first, then compute.
# 2. Ten sigmoids in a row kill the gradient. Ten of `sigmoid(w * (x - 0.5))` need not. Find the w for which the
#    gradient at x = 0.5 is exactly 1. What happens with twice that w?
# 3. Ten residual blocks `x + sigmoid(x)` give a gradient of at least 1 and at most 1.25^10 = 9.3. Take n blocks
#    of `x + a * sigmoid(x)`. Which a > 0, depending on n, keeps the gradient below e^(1/4) = 1.28?
# 4. `clip_grad_value` clips each gradient by itself. What do `clip_grad_norm` and `clip_grad_value` make of the
#    gradient (30, 0.4) with a limit of 1? Which of the two changes the direction?

# %% [markdown]
# ## Answers
#
# Try first. Jupyter folds the code of the answers: click on the dots to see it.


# %% tags=["answer"]
# Answer 1
# The slope at 0 is 1 and tanh(0) = 0, so the product is 1. From 1 on, each tanh moves x towards 0, where
# slopes are near 1: the product falls, but slower and slower.
def ten_tanh(x):
    for _ in range(10):
        x = tg.tanh(x)
    return x


print(f"at 0: {tg.grad(ten_tanh)(0.0):.3g}, at 1: {tg.grad(ten_tanh)(1.0):.3g}")
gradcheck(ten_tanh, 1.0)


# %% tags=["answer"]
# Answer 2
# At x = 0.5 the argument is 0 and the output 0.5 again: ten times the same slope w / 4. So w = 4 gives 1, and
# w = 8 gives 2^10: the gradient explodes, with sigmoids.
def steep(x, w):
    for _ in range(10):
        x = tg.sigmoid(w * (x - 0.5))
    return x


print([tg.grad(steep)(0.5, w) for w in (1.0, 4.0, 8.0)])
gradcheck(steep, 0.5, 4.0)


# %% tags=["answer"]
# Answer 3
# The slope of a block is at most 1 + a/4, and (1 + a/4)^n <= exp(n a / 4). That is e^(1/4) for a = 1/n.
def blocks(x, n):
    for _ in range(n):
        x = x + tg.sigmoid(x) / n
    return x


print([f"{tg.grad(lambda x, n=n: blocks(x, n))(-0.5):.3f}" for n in (1, 10, 100)])
gradcheck(lambda x: blocks(x, 10), -0.5)

# %% tags=["answer"]
# Answer 4
# By norm: both are multiplied by 1/30.003, so the direction stays. By value: (1, 0.4), another direction.
pair = [Value(0.0), Value(0.0)]
for clip in (optim.clip_grad_norm, optim.clip_grad_value):
    pair[0].grad, pair[1].grad = 30.0, 0.4
    clip(pair, 1.0)
    direction = math.degrees(math.atan2(pair[1].grad, pair[0].grad))
    print(f"{clip.__name__:<14} {pair[0].grad:.4f} {pair[1].grad:.4f}   direction {direction:.2f} degrees")
slope = gradcheck(lambda p: 30 * p[0] + 0.4 * p[1], [0.0, 0.0]).rows  # the gradient (30, 0.4) is that of a plane
assert [row.analytic for row in slope] == [30.0, 0.4]
