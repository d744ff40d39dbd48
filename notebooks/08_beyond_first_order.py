# %% [markdown]
# # Beyond first order
#
# The engine can compute a derivative as a graph, and this graph can be differentiated again. So we get second
# derivatives. They give us a method that needs six steps where gradient descent needs thousands, and a look at
# the landscape around a trained network. Last, we choose between two directions in which to walk through a graph.

# %%
# %matplotlib inline
import math
import random
import time

import matplotlib.pyplot as plt
import numpy as np

import tinygrad_edu as tg
from tinygrad_edu import Value, datasets, nn

# %% [markdown]
# ## A derivative is a graph
#
# `gradients(..., create_graph=True)` makes Values of the derivatives. For y = x^3 this is the graph of 3 x^2, in
# the form in which the engine finds it: upstream 1 times the slope. It can be differentiated again, and again.

# %%
x = Value(3.0, label="x")
slope = tg.gradients(x**3, x, create_graph=True)
second = tg.gradients(slope, x, create_graph=True)
print(f"at 3: slope {slope.data}, second {second.data}, third {tg.gradients(second, x)}")
tg.draw(slope)

# %% [markdown]
# The same graph as a page: drag a number and everything follows, step through both passes, try the quiz. Run the cell
# to see it (where no script may run there is a picture), or write it to a file: `tg.live(slope).to_html("page.html")`.

# %%
tg.live(slope)

# %% [markdown]
# `grad` does the same for functions, and `grad(grad(f))` is the second derivative. All derivatives of f at one
# point make a Taylor polynomial. Here are the polynomials of exp(sin(x)) around 0.5.


# %% alt="exp(sin(x)) and its Taylor polynomials of several degrees, which follow it further the higher the degree"
def f(x):
    return tg.exp(tg.sin(x))


derivatives = [f]
for _ in range(6):
    derivatives.append(tg.grad(derivatives[-1]))
coefficients = [d(0.5) / math.factorial(k) for k, d in enumerate(derivatives)]
print("f, f', f'' ... at 0.5:", *(f"{d(0.5):.4g}" for d in derivatives))

xs = np.linspace(-1.5, 2.5, 81)
figure, axes = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
axes.plot(xs, [f(x) for x in xs], color="black", label="exp(sin(x))")
for degree in (1, 2, 4, 6):
    polynomial = np.polyval(coefficients[degree::-1], xs - 0.5)
    axes.plot(xs, polynomial, "--", linewidth=1, label=f"degree {degree}")
axes.set_ylim(-1, 4)
axes.set_xlabel("x")
axes.legend(loc="lower center", ncols=2, fontsize="small")
plt.show()

# %% [markdown]
# This has a price. Each derivative uses the slopes of every rule, so its graph is a few times as large as the one
# before:

# %%
x = Value(0.5)
y = f(x)
sizes = [len(tg.topological_order(y))]
for _ in range(6):
    y = tg.gradients(y, x, create_graph=True)
    sizes.append(len(tg.topological_order(y)))
print("nodes:", sizes)

# %% [markdown]
# ## Newton's method
#
# Rosenbrock's valley (1960) is where gradient descent crawls. Its walls are steep. Its floor leads to the minimum
# at (1, 1) and is nearly flat. The eigenvalues of the Hessian at the minimum say how steep and how flat. A step
# longer than 2 / 1002 overshoots across the valley and lands higher than it started. A step as short as that goes
# only a small part of the way along the floor: 0.4 * 0.0019, or 0.08%.


# %%
def valley(p):
    x, y = p
    return (1 - x) ** 2 + 100 * (y - x * x) ** 2


curvatures = np.linalg.eigvalsh(tg.hessian(valley)([1.0, 1.0]))
print(f"eigenvalues at the minimum: {curvatures[0]:.3f} and {curvatures[1]:.1f}")

value_and_slope = tg.value_and_grad(valley)
descent = [[-1.2, 1.0]]
while True:
    value, slope = value_and_slope(descent[-1])
    if math.hypot(*slope) < 1e-3:
        break
    descent.append([p - 0.0019 * s for p, s in zip(descent[-1], slope, strict=True)])
print(f"gradient descent: {len(descent) - 1:,} steps to {descent[-1][0]:.4f}, {descent[-1][1]:.4f}")

# %% [markdown]
# Newton's method uses the second derivatives too. Near p, f is about f(p) + g d + d H d / 2, where g is the
# gradient and H the Hessian. The lowest point of this bowl is at d = -H^-1 g, so go there.

# %%
newton = [[-1.2, 1.0]]
for step in range(7):
    value, slope = value_and_slope(newton[-1])
    print(f"step {step}: ({newton[-1][0]:.9f}, {newton[-1][1]:.9f})   f = {value:.1e}")
    move = np.linalg.solve(tg.hessian(valley)(newton[-1]), slope)
    newton.append([float(p - m) for p, m in zip(newton[-1], move, strict=True)])

# %% [markdown]
# Both ways on a map of the valley. Dark is high:

# %% tags=["cover"] alt="Contours of a curved valley: gradient descent creeps along it, Newton's method needs six steps"
xs, ys = np.linspace(-1.6, 1.6, 161), np.linspace(-3.4, 2.0, 161)
heights = [[valley([x, y]) for x in xs] for y in ys]
figure, axes = plt.subplots(figsize=(5.5, 3.8), layout="constrained")
axes.contourf(xs, ys, np.log10(np.array(heights) + 1e-3), levels=16, cmap="Blues")
axes.plot(*zip(*descent, strict=True), color="tab:red", label=f"gradient descent, {len(descent) - 1:,} steps")
axes.plot(*zip(*newton, strict=True), "o-", color="black", markersize=4, label="Newton, 6 steps")
axes.plot(1, 1, "*", color="gold", markersize=14, markeredgecolor="black")
axes.legend(loc="lower left")
plt.show()

# %% [markdown]
# Newton's third point lies high up on the wall, where f is 1,400. From there one step leads back to the floor.
# The method does not go downhill, it solves g = 0. Near the solution, each step about doubles the number of right
# digits.

# %% [markdown]
# ## The Hessian of a small network
#
# The network has two inputs, three tanh units and one output: 13 parameters, in one list w. The loss is the
# logistic loss of 20 points of two moons. A little weight decay gives it a minimum at finite weights.

# %%
points, signs = datasets.moons(20, seed=0)


def network(w, x):
    hidden = [tg.tanh(tg.dot(w[3 * i : 3 * i + 2], x) + w[3 * i + 2]) for i in range(3)]
    return tg.dot(hidden, w[9:12]) + w[12]


def loss(w):
    errors = [tg.softplus(-sign * network(w, x)) for x, sign in zip(points, signs, strict=True)]
    return tg.sum(errors) / len(points) + 0.001 * tg.dot(w, w)


rng = random.Random(1)
start = [rng.gauss(0.0, 0.7) for _ in range(13)]
hessian = np.array(tg.hessian(loss)(start))
print("symmetric:", np.allclose(hessian, hessian.T, rtol=0, atol=1e-14))
print("eigenvalues:", *(f"{e:.2f}" for e in np.linalg.eigvalsh(hessian)))

# %% [markdown]
# At random weights some eigenvalues are negative: in these directions the loss bends down. Newton's method looks
# for any place where the gradient is 0. Let it start here:


# %%
def newton_step(w):
    move = np.linalg.solve(tg.hessian(loss)(w), tg.grad(loss)(w))
    return [float(p - m) for p, m in zip(w, move, strict=True)]


def report(name, w):
    length = math.hypot(*tg.grad(loss)(w))
    print(f"{name}: loss {loss(w):.6f}, length of the gradient 10^{math.log10(length):.1f}")


w = start
report("start  ", w)
for step in range(1, 8):
    w = newton_step(w)
    report(f"Newton {step}", w)
print(f"largest weight: {max(map(abs, w)):.6f}")
print("eigenvalues:", *(f"{e:.2f}" for e in np.linalg.eigvalsh(tg.hessian(loss)(w))))

# %% [markdown]
# It found one in seven steps: all weights are 0, and the network says nothing and pays log 2 = 0.693 for every
# point. Three eigenvalues are negative, so this is a saddle: the loss falls on both sides of it. Gradient descent
# does not stop there. So gradient descent does the first part. Newton does the last part, where all eigenvalues
# are positive: each step about doubles the exponent of the gradient's length.

# %%
w = start
for _ in range(300):
    w = [p - 1.0 * slope for p, slope in zip(w, tg.grad(loss)(w), strict=True)]
report("gradient descent, 300 steps", w)
for step in range(1, 5):
    w = newton_step(w)
    report(f"Newton {step}", w)

# %% [markdown]
# Where the gradient is 0 and all eigenvalues are positive, the network is at a minimum: nothing near it is
# better. Its landscape is typical of networks: a few steep directions, and many that are nearly flat.

# %% alt="The eigenvalues of the Hessian, the smallest first: some are negative at random weights, none at the minimum"
minimum, hessian_there = w, np.array(tg.hessian(loss)(w))
curvatures, directions = np.linalg.eigh(hessian_there)
print("eigenvalues at the minimum:", *(f"{c:.3f}" for c in curvatures))

figure, axes = plt.subplots(figsize=(5.5, 2.8), layout="constrained")
for place, eigenvalues, color in (
    ("random weights", np.linalg.eigvalsh(hessian), "tab:red"),
    ("minimum", curvatures, "tab:blue"),
):
    axes.plot(range(1, 14), eigenvalues, "o-", color=color, markersize=4, linewidth=0.8, label=place)
axes.axhline(0, color="gray", linewidth=0.8)
axes.set_xlabel("eigenvalue, the smallest first")
axes.legend()
plt.show()

# %% [markdown]
# As in the valley, the steepest direction limits the speed of gradient descent. Along a direction of curvature c,
# a step of length r multiplies the distance from the minimum by 1 - r c. The size of this factor is below 1 only
# for r < 2 / c. We go a little away from the minimum in the steepest direction, and try r just below the limit
# and just above.

# %%
steepest = curvatures[-1]
for part in (0.95, 1.05):
    rate, w = part * 2 / steepest, [float(p) for p in minimum + 1e-4 * directions[:, -1]]
    away = []
    for _ in range(21):
        away.append(math.dist(w, minimum))
        w = [p - rate * s for p, s in zip(w, tg.grad(loss)(w), strict=True)]
    print(f"r = {part} * 2 / {steepest:.3f}: distance", *(f"{d:.1e}" for d in away[::5]))

# %% [markdown]
# ## Newton's method on real data, compiled
#
# `tg.compile` differentiates twice, too: `step.hessian` and `step.jacobian` are programs of matrix operations, written
# by the same chain rule. Here a network of 31 parameters learns the width of a petal from the other three measures of
# 100 irises. Newton's method needs the Hessian H of the mean of e^2 / 2, where e is the error of one flower. The
# Gauss-Newton method leaves out the part of H that has e in it: what stays is J^T J / 100, where J has the gradient of
# one error in each row. It needs no second derivative, and bends down nowhere.

# %%
iris = datasets.iris(standardize=True)
X, y = iris.X_train[:, :3], iris.X_train[:, 3]
model = nn.Sequential(nn.Dense(3, 6, "tanh", rng=0), nn.Dense(6, 1, rng=1))


def half_square(x, y):
    error = model(x)[0] - y
    return error**2 / 2, error


step = tg.compile(half_square, model)
begin = [p.data for p in model.parameters()]


def gauss_newton():
    J = step.jacobian(X, y)[:, 1]
    return J.T @ J / len(X)


# %% [markdown]
# Far from a minimum both need a damping d: the step solves (H + d I) move = -gradient. Where it leads uphill, d is
# four times as large, and else a quarter. A large d makes small steps of gradient descent. So d = 1 / rate and no H
# at all is gradient descent; its best rate is found in the same way.


# %%
def damped(curvature, n_steps):
    """The losses before each step, and after the last."""
    damping, losses = 1.0, [step.value_and_grad(X, y)[0]]
    with step.arrays() as w:
        for _ in range(n_steps):
            slope, bent, before = step.value_and_grad(X, y)[1], curvature(), w.copy()
            loss = math.inf
            while loss > losses[-1]:
                w[:] = before - np.linalg.solve(bent + damping * np.eye(len(w)), slope)
                loss = step.predict(X, y)[:, 0].mean()
                damping *= 4
            damping /= 16
            losses.append(loss)
    for p, number in zip(model.parameters(), begin, strict=True):
        p.data = number
    return losses


ways = {
    "Newton": lambda: step.hessian(X, y),
    "Gauss-Newton": gauss_newton,
    "gradient descent": lambda: np.zeros((31, 31)),
}
losses = {name: damped(curvature, 30) for name, curvature in ways.items()}
for name, row in losses.items():
    print(f"{name:16}", *(f"{loss:.5f}" for loss in row[::6]))

# %% alt="The losses of 30 steps: Gauss-Newton falls the furthest, Newton follows, gradient descent is far behind"
figure, axes = plt.subplots(figsize=(5.5, 2.8), layout="constrained")
for name, row in losses.items():
    axes.semilogy(row, label=name)
axes.set_xlabel("step")
axes.set_ylabel("loss")
axes.legend()
plt.show()

# %% [markdown]
# ## Along or against the arrows
#
# The chain rule is a product of slopes along paths, and we can multiply a product from either end. Reverse mode
# (`vjp` and `backward`) starts at one output and walks against the arrows. One walk gives the derivatives of that
# output by all inputs. Forward mode (`jvp`) starts at the inputs with a direction and walks with the arrows. One
# walk gives the derivatives of all outputs in that direction. Here is a function of 3 numbers with 2 outputs.


# %%
def pair(x, y, z):
    return [x * y * z, x + tg.sin(z)]


print("forward, along x:     ", tg.jvp(pair, (2.0, 3.0, 0.0), (1.0, 0.0, 0.0))[1])
print("reverse, from the 1st:", tg.vjp(pair, 2.0, 3.0, 0.0)[1]([1.0, 0.0]))
print("all of it:            ", tg.jacobian(pair, (0, 1, 2))(2.0, 3.0, 0.0))

# %% [markdown]
# So a whole Jacobian takes one forward walk per input, or one reverse walk per output. We take a layer of 16 tanh
# in the middle, n inputs and m outputs, with n * m = 64 in every row:


# %%
def maps(n, m):
    rng = random.Random(0)
    into = [[rng.uniform(-1, 1) for _ in range(n)] for _ in range(16)]
    out_of = [[rng.uniform(-1, 1) for _ in range(16)] for _ in range(m)]

    def f(x):
        hidden = [tg.tanh(tg.dot(row, x)) for row in into]
        return [tg.tanh(tg.dot(row, hidden)) for row in out_of]

    return f


def unit(i, n):
    return [float(i == j) for j in range(n)]


def by_forward_mode(f, x, m):
    return np.array([tg.jvp(f, (x,), (unit(i, len(x)),))[1] for i in range(len(x))]).T


def by_reverse_mode(f, x, m):
    pullback = tg.vjp(f, x)[1]
    return np.array([pullback(unit(j, m))[0] for j in range(m)])


shapes = [(64, 1), (32, 2), (16, 4), (8, 8), (4, 16), (2, 32), (1, 64)]
rng = random.Random(0)
cases = [(maps(n, m), [rng.uniform(-1, 1) for _ in range(n)], m) for n, m in shapes]
print("both give the same:", all(np.allclose(by_forward_mode(*c), by_reverse_mode(*c)) for c in cases))


# %% tags=["timing"]
def best_of_ten(jacobian, case):
    times = []
    for _ in range(10):
        begin = time.process_time()
        jacobian(*case)
        times.append(time.process_time() - begin)
    return 1000 * min(times)


costs = [[best_of_ten(jacobian, case) for jacobian in (by_forward_mode, by_reverse_mode)] for case in cases]
print("inputs  outputs  forward mode  reverse mode")
for (n, m), (forward, reverse) in zip(shapes, costs, strict=True):
    print(f"{n:>6}  {m:>7}  {forward:>9.1f} ms  {reverse:>9.1f} ms")

# %% tags=["timing"] alt="The time of a whole Jacobian: reverse mode is faster with few outputs, forward mode with few inputs"
figure, axes = plt.subplots(figsize=(5.5, 3), layout="constrained")
for column, label in enumerate(("forward mode", "reverse mode")):
    axes.semilogy([row[column] for row in costs], "o-", markersize=4, label=label)
axes.set_xticks(range(len(shapes)), [f"{n} to {m}" for n, m in shapes])
axes.set_xlabel("inputs to outputs")
axes.set_ylabel("ms for the whole Jacobian")
axes.legend()
plt.show()

# %% [markdown]
# Few outputs: reverse mode. Few inputs: forward mode. They cost the same where there are two or three times as
# many outputs as inputs. A forward walk costs more here, because `jvp` computes f again for each walk and `vjp`
# computes it once for all. A loss has one output and thousands of inputs. That is why we train with
# backpropagation.
#
# The same saving is possible for the Hessian. It has one row per parameter, and each row takes a walk. But its
# product with one direction v takes a single walk: gv, the slope of the loss along v, is one number, and its
# gradient is Hv.


# %%
def slope_along(w):
    return tg.dot(tg.grad(loss)(w), v)


v = [rng.gauss(0.0, 1.0) for _ in range(13)]
product = tg.grad(slope_along)(start)
print("Hv as from the whole Hessian:", np.allclose(product, hessian @ v, rtol=1e-10))

# %% tags=["timing"]
for name, f in (("gradient", tg.grad(loss)), ("Hv      ", tg.grad(slope_along)), ("Hessian ", tg.hessian(loss))):
    print(f"{name} {best_of_ten(f, (start,)):.1f} ms")
