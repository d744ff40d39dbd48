# %% [markdown]
# # Derivatives, and a number that remembers
#
# A network learns by asking each of its numbers one question: *if I nudge you a little, what happens to the
# result?* The answer is a derivative. First we see why it is worth asking. Then we take one number and one nudge, and
# end with the smallest steps of backpropagation, done by hand.

# %%
import math
import random
import sys

import ziaplot
from IPython.display import SVG

import tinygrad_edu as tg
from tinygrad_edu import Value

ziaplot.css("Canvas { color: white; }")  # plots with a white ground, also on a dark page

# %% [markdown]
# ## Why not by luck?
#
# A network has many numbers, its weights, and a **loss** that says how wrong it is. Learning means to find weights
# with a small loss. Could we simply try? Change all weights a little, at random, and keep the change if the loss
# falls. Let us try that where the answer is known: the weights should become the numbers in `target`.


# %% alt="The loss over the tries of a random search, for few and for many weights: with many it hardly falls"
def distance(w, target):
    """The loss: the mean square of what is missing."""
    return sum((a - b) ** 2 for a, b in zip(w, target, strict=True)) / len(w)


def search(n, tries=1000):
    """The losses of n weights that are changed at random, by a step of length 0.5 and less and less."""
    rng = random.Random(0)
    target, w = [rng.uniform(-1, 1) for _ in range(n)], [0.0] * n
    losses = [distance(w, target)]
    for _ in range(tries):
        change = [rng.gauss(0, 1) for _ in range(n)]
        size = rng.uniform(0, 0.5) / math.hypot(*change)
        changed = [a + size * b for a, b in zip(w, change, strict=True)]
        losses.append(min(losses[-1], distance(changed, target)))
        if losses[-1] < losses[-2]:
            w = changed
    return losses


def descend(n, steps=60):
    """The losses of n weights that follow their slopes. That of (w - target)² is 2 (w - target)."""
    rng = random.Random(0)
    target, w, losses = [rng.uniform(-1, 1) for _ in range(n)], [0.0] * n, []
    for _ in range(steps):
        losses.append(distance(w, target))
        w = [a - 0.1 * 2 * (a - b) for a, b in zip(w, target, strict=True)]
    return losses


plot = ziaplot.GraphLogXY().size(700, 320).axesnames("tries, or steps", "loss").legend("right")
plot.xrange(1, 1000).yrange(1e-6, 1)
plot.xlogdivisions = plot.ylogdivisions = 0  # no small ticks
for n, colour in ((1, "#7fcdbb"), (10, "#41b6c4"), (100, "#1d91c0"), (1000, "#225ea8")):
    losses = search(n)
    name = f"{n:,} weight{'s' * (n > 1)}"
    plot += ziaplot.PolyLine(range(1, 1001), losses[:-1]).color(colour).name(name)
    print(f"{name}: {losses[-1] / losses[0]:.1g} of the loss is left after 1,000 tries")
plot += ziaplot.PolyLine(range(1, 61), descend(1000)).color("#a02c12").stroke("dashed").name("1,000, by slopes")
SVG(plot.tosvg())

# %% [markdown]
# With one weight, half of all changes go the right way. With many, a random change is right for half of the weights
# and wrong for the other half, so it gains almost nothing. Real networks have millions of weights, or more. We need
# to know, for *each* weight, in which direction the loss falls, and how fast. That is the slope of the loss. The
# dashed line uses slopes: every step brings each weight a fifth nearer. It makes no difference how many there are.
#
# ## A slope
#
# Here is a function. We look at it near one point, $x = 2$.


# %%
def f(x):
    return x * x * x - 2 * x


f(2.0)

# %% [markdown]
# Take a small step to the right, `h`. How much does `f` rise, per unit of the step?

# %%
h = 0.1
print((f(2.0 + h) - f(2.0)) / h)

# %% [markdown]
# In the picture this is the slope of a line through two points of the curve. Move the second point nearer, and
# the line turns towards the tangent, which only touches the curve. The slope of the tangent is the **derivative**
# of `f` at 2.

# %% tags=["cover"] alt="The curve of f with three secants through x = 2, whose slopes come near to that of the tangent"
plot = ziaplot.Graph().size(600, 400).xrange(0.5, 3.2).yrange(-3, 25).legend("topleft")
xs = [0.5 + 2.7 * i / 200 for i in range(201)]
plot += ziaplot.PolyLine(xs, [f(x) for x in xs]).color("black").name("f(x) = x³ - 2x")
for h, colour in [(1.0, "#7fcdbb"), (0.5, "#1d91c0"), (0.2, "#225ea8")]:
    slope = (f(2 + h) - f(2)) / h
    plot += ziaplot.Line((2, f(2)), slope).color(colour).name(f"h = {h}: slope {slope:.2f}")
plot += ziaplot.Line((2, f(2)), 10).color("#a02c12").stroke("dashed").name("tangent: slope 10")
points = [2, 2.2, 2.5, 3]
plot += ziaplot.Scatter(points, [f(x) for x in points]).color("black").marker("o", 4)
SVG(plot.tosvg())

# %% [markdown]
# ## The limit, by numbers
#
# Make `h` ten times smaller, again and again.

# %%
print("h          slope")
for digits in range(1, 8):
    h = 10.0**-digits
    print(f"{h:<8.0e}   {(f(2 + h) - f(2)) / h:.9f}")

# %% [markdown]
# Each time one more zero appears after the 10: the error is about $6h$. It is easy to believe that a tiny `h`
# would make the slope perfect. Let us believe it, and go on.

# %%
for digits in range(8, 17):
    h = 10.0**-digits
    print(f"{h:<8.0e}   {(f(2 + h) - f(2)) / h:.9f}")

# %% [markdown]
# ## The turn, where rounding wins
#
# At $10^{-8}$ the slope is a little below 10. Then the zeros disappear again, and at $h = 10^{-16}$ the slope is
# 0: to a computer, $2 + 10^{-16}$ is 2. A float keeps 16 digits. `f(2 + h)` and `f(2)` agree in most of them, so
# their difference has only the last few digits left. Dividing by a tiny `h` makes the error of those digits
# large. There are two errors. One falls with `h`, one rises:
#
# $$\underbrace{\tfrac12 |f''(x)|\, h}_{\text{the curve bends}} \qquad\qquad
# \underbrace{\varepsilon\, |f(x)| / h}_{\text{numbers are rounded}} \qquad \varepsilon = 2.2\cdot 10^{-16}$$
#
# A difference over both sides, $\bigl(f(x+h) - f(x-h)\bigr) / 2h$, cancels the first bend: its error falls with
# $h^2$.

# %% alt="The error of the slope over the step h: it falls with h, and rises again where rounding takes over"
epsilon = sys.float_info.epsilon
powers = [-i / 4 for i in range(4, 64)]
hs = [10**power for power in powers]
forward = [abs((f(2 + h) - f(2)) / h - 10) for h in hs]
central = [abs((f(2 + h) - f(2 - h)) / (2 * h) - 10) for h in hs]
plot = ziaplot.GraphLogY().size(700, 400).axesnames("log10 of h", "error of the slope").legend("right")
plot.yrange(1e-13, 10)
plot.ylogdivisions = 0
for name, colour, errors in (("one side", "#225ea8", forward), ("both sides", "#a02c12", central)):
    plot += ziaplot.PolyLine(powers, errors).color(colour).marker("o", 3).name(name)
plot += ziaplot.PolyLine(powers, [6 * h for h in hs]).color("gray").stroke("dotted").name("6 h, the bend")
rounding = [epsilon * 4 / h for h in hs]
plot += ziaplot.PolyLine(powers, rounding).color("gray").stroke("dashed").name("4 ε / h, the rounding")
SVG(plot.tosvg())

# %% [markdown]
# Read the picture from right to left, as `h` shrinks: the error falls, turns, and rises again. One side can give
# 8 correct digits at best, near $h = \sqrt\varepsilon$. And a network with a million weights would need a million
# such computations for one step. Differences are good for checking. For learning we need something exact and
# cheap.

# %% [markdown]
# ## Rules instead of steps
#
# Nobody has to take the same limit twice. Take multiplication: nudge $x$ by $h$, and $xy$ becomes
# $(x + h)y = xy + hy$. It rises by $hy$, so the slope is $y$, exactly, for every $h$. Each operation has such a rule.
#
# | operation | slope for x | slope for y | because |
# |---|---|---|---|
# | $x + y$ | $1$ | $1$ | a nudge arrives unchanged |
# | $x - y$ | $1$ | $-1$ | a nudge of $y$ arrives with its sign turned |
# | $x \cdot y$ | $y$ | $x$ | $(x+h)y - xy = hy$ |
# | $x / y$ | $1/y$ | $-x/y^2$ | a larger divisor leaves less |
# | $x^n$ | $n x^{n-1}$ | | there are $n$ factors, and one is nudged at a time |
# | $e^x$ | $e^x$ | | it grows as fast as it is large |
# | $\log x$ | $1/x$ | | it is the inverse of $e^x$ |
# | $\tanh x$ | $1 - \tanh^2 x$ | | it is steepest at 0 and flat far out |
# | $\mathrm{relu}\, x$ | $1$ if $x > 0$, else $0$ | | it passes a nudge on, or stops it |
#
# The engine has one `Rule` for each operation. Its `shares` are the slopes times a factor, here 1.0, which we
# explain below. Let us compare some of them with differences over both sides.

# %%
print("of 3 * 2:", tg.RULES["mul"].shares(1.0, 6.0, 3.0, 2.0))
print("rule      slope at 0.5    by differences")
for name in ("neg", "exp", "log", "sqrt", "sin", "tanh", "sigmoid", "relu"):
    rule = tg.RULES[name]
    (slope,) = rule.shares(1.0, rule.forward(0.5), 0.5)
    numeric = (rule.forward(0.5 + 1e-5) - rule.forward(0.5 - 1e-5)) / 2e-5
    print(f"{name:7}  {slope:13.9f}  {numeric:13.9f}")

# %% [markdown]
# ## Three ways to a derivative
#
# We can take **differences**, and have rounding. We can apply the rules to the *formula*, as at school: that is
# **symbolic** differentiation. It is exact, but look at the product rule, $(ab)' = a'b + ab'$. It writes $a$ and $b$
# once more, and so the formulas grow. Here is a symbolic differentiator, for $+$, $-$ and products. We apply it to a
# function that is applied again and again: $x \to 4x(1 - x)$.


# %%
def symbolic(formula):
    """The derivative of a formula. A formula is "x", a number, or (formula, sign, formula)."""
    if not isinstance(formula, tuple):
        return int(formula == "x")
    a, sign, b = formula
    if sign == "*":
        return (symbolic(a), "*", b), "+", (a, "*", symbolic(b))
    return symbolic(a), sign, symbolic(b)


def text(formula):
    return f"({' '.join(map(text, formula))})" if isinstance(formula, tuple) else str(formula)


print(text(symbolic(((4, "*", "x"), "*", (1, "-", "x")))))

# %% [markdown]
# The third way is **automatic** differentiation, the one of this engine: the rules again, but applied to the *numbers*
# of each operation. A number that is used twice is computed once. So the work grows with the number of operations,
# and nothing is rounded but the last digit.


# %%
def again(x, times):
    for _ in range(times):
        x = 4 * x * (1 - x)
    return x


formula = "x"
print("times  symbolic               differences    automatic")
for times in range(1, 10):
    formula = ((4, "*", formula), "*", (1, "-", formula))
    derivative = text(symbolic(formula))
    numeric = (again(0.2 + 1e-6, times) - again(0.2 - 1e-6, times)) / 2e-6
    nodes = len(tg.topological_order(again(Value(0.2), times)))
    slope = tg.grad(again)(0.2, times)
    assert abs(eval(derivative, {"x": 0.2}) - slope) < 1e-9
    if times % 2:
        print(f"{times:5}  {len(derivative):7,} characters  {numeric:15.8f}  {slope:15.8f}, {nodes} nodes")

# %% [markdown]
# The formula doubles with every application. The nodes grow by five. Differences need two evaluations for *each*
# input, and get fewer and fewer digits right. The other two agree to the last digits.
#
# ## A number that remembers
#
# A formula consists of operations, and each operation knows its slope. To use the slopes we must know *which*
# operations made a number. A float has forgotten that; a `Value` remembers.

# %%
x = Value(2.0, label="x")
cube = x**3
double = 2 * x
y = cube - double
print(y)
print("made by", y._op, "from", y.parents)

# %% [markdown]
# It remembers a graph, from the inputs on the left to the result on the right. The numbers on the arrows are the
# slopes: what the rule of each operation says for its inputs. In pictures, a Value without a label gets the name
# of the variable that holds it, like `cube` here.

# %%
tg.draw(y, slopes=True)

# %% [markdown]
# The same graph as a page: drag a number and everything follows, step through both passes, try the quiz. Run the cell
# to see it (where no script may run there is a picture), or write it to a file: `tg.live(y).to_html("page.html")`.

# %% tags=["live"]
tg.live(y)

# %% [markdown]
# The gradients are dashes, because nobody has asked for them yet. (`2` is a plain number and not a Value, so it
# has no box.) One call asks. Then `x.grad` is the slope that we approached at the beginning. This time there is
# no `h`, and no error.

# %%
y.backward()
x.grad

# %% [markdown]
# ## The chain rule at one node
#
# How does the engine find it? Each node needs very little: its own operation, and the numbers that went in and
# came out. Suppose somebody tells a node how much the final result changes per unit of that node. We call this
# number **upstream**. Then the node tells each of its inputs
#
# $$\text{share} = \text{upstream} \times \text{slope}$$
#
# and each input **adds up** the shares that it hears. That is the whole chain rule. Here it is by hand, from the
# end:

# %%
dy = 1.0  # the result changes by 1 per unit of itself
dcube = dy * 1.0  # y = cube - double: the slopes are 1 and -1
ddouble = dy * -1.0
dx = dcube * 3 * x.data**2  # cube = x**3: the slope is 3x²
dx += ddouble * 2  # double = 2x: the slope is 2; x was told something before, so we add
dx

# %% [markdown]
# Every Value can do its part of this: `_backward()` tells the inputs their shares. We build the graph again, so
# that all gradients are 0:

# %%
x = Value(2.0, label="x")
cube, double = x**3, 2 * x
y = cube - double
y.grad = 1.0
for tell in (y._backward, cube._backward, double._backward):
    tell()
    print(f"y {y.grad:g}   cube {cube.grad:g}   double {double.grad:g}   x {x.grad:g}")

# %% [markdown]
# Three lines: `y` tells `cube` and `double`; `cube` tells `x` 12; `double` tells it -2. Together 10.

# %%
tg.draw(y, slopes=True)

# %% [markdown]
# `y.backward()` makes the same calls for every node. It chooses an order in which a node speaks only after it has
# heard everything. The [next notebook](02_backprop_step_by_step.ipynb) shows why the order matters, and what goes
# wrong without it.
#
# ## The two paths of training
#
# Training walks over the graph twice. On the **forward path** numbers flow from the inputs to the loss. On the
# **backward path** gradients flow from the loss to the weights. Only then the weights are updated, by their
# gradients. Here are two weights in a row:


# %%
def forward(w1, w2):
    hidden = tg.tanh(w1 * 2.0)
    hidden.label = "hidden"
    return (w2 * hidden - 1) ** 2


w1, w2 = Value(0.5, label="w1"), Value(-1.5, label="w2")
loss = forward(w1, w2)
loss.backward()
tg.draw(loss, slopes=True)

# %% [markdown]
# The gradient of `w1` comes through `w2`: the slope on the arrow from `hidden` is -1.5, the number of `w2`. It is the
# weight with which the forward path computed. In a backward pass by hand it is tempting to update each weight as soon
# as its gradient is known. Then the rest of the gradient flows through a *new* `w2`, which was on no forward path:

# %%
for update_early in (False, True):
    a, b, lr = 0.5, -1.5, 0.1  # w1, w2
    h = math.tanh(a * 2)
    dout = 2 * (b * h - 1)
    db = dout * h
    if update_early:
        b -= lr * db
    dh = dout * b  # through w2: the original, or the new one?
    da = dh * (1 - h**2) * 2
    print(f"update early: {update_early!s:5}  gradient of w1 {da:.4f}, the engine says {w1.grad:.4f}")

# %% [markdown]
# So: gradients flow by the original weights, and updates use the gradients. First the forward path, then the whole
# backward path, then all updates. If a number has changed since the forward path, `backward(check=True)` refuses:

# %%
w2.data -= 0.1 * w2.grad
try:
    loss.backward(check=True)
except RuntimeError as error:
    print(error)

# %%
for step in range(5):
    loss = forward(w1, w2)
    w1.grad = w2.grad = 0.0
    loss.backward()
    for w in (w1, w2):
        w.data -= 0.05 * w.grad
    print(f"step {step}: loss {loss:.4f}")

# %% [markdown]
# ## Exercises
#
# 1. What does the table give for the derivative of $x^2 e^x$? Write it as a Python function and compare it with
#    `tg.grad` at $x = 1$. Then check it with `testing.gradcheck`, which takes differences of numbers with many digits.
#    `tg.grad(g)` is a function, so ask `tg.grad(g)(1.0)`. Write `g` with `tg.exp`: `math.exp` refuses a Value,
#    because its result, a float, would not remember. Use `from tinygrad_edu.testing import gradcheck`, then
#    `gradcheck(g, 1.0)`.
# 2. Let $z = \tanh(ab + c)$ at $a = 2$, $b = -3$, $c = 6.5$. Find the gradients with `_backward()` alone, node by
#    node. In Python $\tanh x$ is `tg.tanh(x)` or `x.tanh()`.
# 3. Which `h` is best for differences over both sides? Their error is about $h^2 + \varepsilon |f| / h$ for our
#    $f$. Find the lowest point by thinking, then by trying.
#
# ## Answers
#
# Try first. Jupyter folds the code of the answers: click on the dots to see it.

# %% tags=["answer"]
# Answer 1: the product rule gives 2x eˣ + x² eˣ.
from tinygrad_edu.testing import gradcheck


def g(x):
    return x**2 * tg.exp(x)


def by_hand(x):
    return 2 * x * math.exp(x) + x**2 * math.exp(x)


print(f"{by_hand(1.0):.6f} {tg.grad(g)(1.0):.6f}")
print(gradcheck(g, 1.0))

# %% tags=["answer"]
# Answer 2: from the result back, each node after everything that uses it.
a, b, c = Value(2.0), Value(-3.0), Value(6.5)
product = a * b
total = product + c
z = total.tanh()
z.grad = 1.0
for node in (z, total, product):
    node._backward()
print(f"{a.grad:.6f} {b.grad:.6f} {c.grad:.6f}")

report = gradcheck(lambda a, b, c: tg.tanh(a * b + c), 2.0, -3.0, 6.5)
print(report)
assert [row.analytic for row in report.rows] == [a.grad, b.grad, c.grad]

# %% tags=["answer"]
# Answer 3: 2h - ε|f| / h² = 0, so h is the cube root of ε|f| / 2, about 0.000008.
best = min(zip(central, hs, strict=True))[1]
by_thought = (epsilon * abs(f(2)) / 2) ** (1 / 3)
print(f"by thought {by_thought:.0e}, by trying {best:.0e}")
print(gradcheck(f, 2.0))
