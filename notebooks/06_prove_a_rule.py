# %% [markdown]
# # Prove a rule
#
# A rule is a claim: "this operation has that slope". A wrong rule raises no error. The network still trains, only
# worse. Here we doubt rules. We use difference quotients (and see their limits), 50 digits, random programs, and
# exact fractions. These are tests, not proofs in the mathematical sense. But few wrong rules pass them all.

# %%
# %matplotlib inline
from fractions import Fraction

import matplotlib.pyplot as plt
from hypothesis import find, given, settings

import tinygrad_edu as tg
from tinygrad_edu import Value
from tinygrad_edu.testing import absolute_adjoint, assert_near, check_rule, dual, gradcheck, programs

settings.register_profile("lesson", derandomize=True, database=None, deadline=None)
settings.load_profile("lesson")  # the same random inputs in every run

# %% [markdown]
# ## Differences, and their limits
#
# The slope of f at x is the limit of (f(x + h) - f(x)) / h as h goes to 0. So take a small h. How small? We know
# the slope of sin at 1: it is cos(1). So we can compute the error.


# %%
def forward(f, x, h):
    return (f(x + h) - f(x)) / h


def central(f, x, h):
    return (f(x + h) - f(x - h)) / (2 * h)


slope = tg.grad(tg.sin)(1.0)
steps = [10.0**-k for k in range(1, 16)]
errors = {quotient: [abs(quotient(tg.sin, 1.0, h) - slope) for h in steps] for quotient in (forward, central)}
for k in (1, 3, 5, 8, 11, 14):
    print(f"h = 1e-{k:<2}  forward {errors[forward][k - 1]:.0e}  central {errors[central][k - 1]:.0e}")

# %%
figure, axes = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
for quotient, label in ((forward, "forward"), (central, "central")):
    axes.loglog(steps, errors[quotient], "o-", markersize=3, label=label)
axes.loglog(steps, [1e-16 / h for h in steps], "--", color="gray", linewidth=0.8, label="rounding, 1e-16 / h")
axes.set_xlabel("step h")
axes.set_ylabel("error of the slope")
axes.set_ylim(1e-13, 1)
axes.legend()
plt.show()

# %% [markdown]
# Two errors meet. On the right the step is too large: the forward quotient is off by about h, the central one by
# about h^2, which pays for its second evaluation. On the left the step is too small: f(x + h) and f(x - h) agree
# in nearly all digits, and the rounding of the last digit, 1e-16, is divided by h. At best, the forward quotient
# gives half of the digits and the central one two thirds, and only for the right h, which depends on f and x.
#
# Textbooks fix h and a tolerance. `gradcheck` offers one such recipe as "absolute": h = 1e-4, and an error below
# 0.01 passes. This recipe fails in both directions. Near the pole of 1/x its step is too large, so it calls a
# right gradient wrong:

# %%
try:
    gradcheck(lambda x: 1 / x, 0.001, recipe="absolute")
except AssertionError as error:
    print(error)

# %% [markdown]
# And it accepts a slope of 3 where 2 is right, if gradients are small. (`rel. error` is |a - n| / (|a| + |n|),
# where a is the analytic slope and n the numeric one. For 3 and 2 it is 1/5.)

# %%
double = tg.rule(lambda x: 2 * x, backward=lambda upstream, out, x: (3 * upstream,), name="double")
gradcheck(lambda x: double(x) / 1000, 1.0, recipe="absolute")

# %% [markdown]
# By default `gradcheck` chooses its steps, extrapolates to h = 0, and estimates the error of the result. It
# compares with this estimate, not with a fixed tolerance. Now both verdicts are right, and for the second it
# names the node to blame.

# %%
print(gradcheck(lambda x: 1 / x, 0.001))
try:
    gradcheck(lambda x: double(x) / 1000, 1.0)
except AssertionError as error:
    print(error)

# %% [markdown]
# ## Kinks
#
# relu has no slope at 0: it is 0 on the left and 1 on the right. The central quotient gives 1/2 for every h. The
# engine gives 0, by convention. Neither is wrong. `gradcheck` compares with the slopes on both sides and says so.

# %%
print("central:", [central(tg.relu, 0.0, h) for h in (1e-2, 1e-5)], " engine:", tg.grad(tg.relu)(0.0))
gradcheck(lambda x, w: w * tg.relu(x), 0.0, 3.0)

# %% [markdown]
# ## One point shows little
#
# Here is a rule of our own, softsign(x) = x / (1 + |x|). By the quotient rule its slope is 1 / (1 + |x|)^2, or
# multiplied out 1 / (1 + 2|x| + x^2). In a hurry, somebody wrote x |x| for x^2. At the point that we happen to
# try, all is well:


# %%
def hasty_backward(upstream, out, x):
    return (upstream / (1 + 2 * abs(x) + x * abs(x)),)


@tg.rule(backward=hasty_backward)
def hasty(x):
    return x / (1 + abs(x))


gradcheck(hasty, 2.0)

# %% [markdown]
# `check_rule` tries the whole domain: hard points first, then random ones. It compares with differences of the
# forward function, computed with 50 digits. Of all inputs that fail, it shows the simplest it can find.

# %%
try:
    check_rule(hasty)
except AssertionError as error:
    print(error)

# %% [markdown]
# Now the right rule. `check_rule` counts errors in ulps, units in the last place: one ulp is the distance from
# one float to the next. Rounding costs a few ulps; 32 are allowed. (`print(report)` shows the worst errors and
# where they are.)


# %%
def softsign_backward(upstream, out, x):
    return (upstream / ((1 + abs(x)) * (1 + abs(x))),)


@tg.rule(backward=softsign_backward)
def softsign(x):
    return x / (1 + abs(x))


report = check_rule(softsign)
print(f"right on {', '.join(report.numbers)}")
print("value and slopes within 4 ulps:", report.worst["value"][0] < 4 and report.worst["slopes"][0] < 4)

# %% [markdown]
# ## Right on paper, wrong in floats
#
# The slope can be computed from the output: 1 - |out| is 1 / (1 + |x|), so the slope is (1 - |out|)^2. That saves
# a division, and on paper it is the same. In floats, out is near 1 for large x, and 1 - |out| keeps only its last
# digits: the larger x is, the fewer remain.


# %%
def thrifty_backward(upstream, out, x):
    return (upstream * (1 - abs(out)) * (1 - abs(out)),)


@tg.rule(backward=thrifty_backward)
def thrifty(x):
    return x / (1 + abs(x))


for x in (10.0, 1e4, 1e8, 1e16):
    right, lost = tg.grad(softsign)(x), tg.grad(thrifty)(x)
    print(f"x = {x:<6.0e} slope {right:.4g}, off by a part of {abs(lost / right - 1):.0e}")
try:
    check_rule(thrifty)
except AssertionError as error:
    print(str(error).splitlines()[0])

# %% [markdown]
# ## The second derivative
#
# The operators in a rule run on Values too, so the slope can be differentiated again. If a rule takes the numbers
# out of its Values, the first derivative stays right and the second is lost, without any error. For positive x
# the second derivative of softsign is -2 / (1 + x)^3, which is -0.25 at x = 1:


# %%
def detached_backward(upstream, out, x):
    number = x.data if isinstance(x, Value) else x  # cut off from its graph
    return (upstream / ((1 + abs(number)) * (1 + abs(number))),)


@tg.rule(backward=detached_backward)
def detached(x):
    return x / (1 + abs(x))


for rule in (softsign, detached):
    print(f"{rule.name:<9} first {tg.grad(rule)(1.0)}  second {tg.grad(tg.grad(rule))(1.0)}")
try:
    check_rule(detached)
except AssertionError as error:
    print(error)

# %% [markdown]
# ## Exact fractions
#
# A Value holds a float or a `Fraction`. Sums, products and quotients of fractions are exact, and so are their
# derivatives. They need no tolerance at all.

# %%
x = Value(Fraction(1, 3), label="x")
y = softsign(x) * x**2 - 1 / x
y.backward()
print(f"y = {y.data}, its slope {x.grad}")


# %% [markdown]
# Fractions show how wrong floats can be. Rump's polynomial (1988) at a = 77617, b = 33096 is -0.827. Floats keep
# 16 digits, and here not even the sign of their result can be trusted: the terms are as large as 10^36 and
# cancel. Program and graph are the same in both cases. Only the numbers differ.


# %%
def rump(a, b):
    squares = 11 * a**2 * b**2 - b**6 - 121 * b**4 - 2
    return b**6 * 1335 / 4 + a**2 * squares + b**8 * 11 / 2 + a / (2 * b)


exact = rump(Value(Fraction(77617)), Value(Fraction(33096)))
a, b = Value(77617.0), Value(33096.0)
floats = rump(a, b)
print(f"exact  {float(exact.data):.6f}, which is {exact.data}")
print(f"floats {floats:.6g}")

# %% [markdown]
# Gradients have the same trouble where their shares cancel. The absolute adjoint measures it: one more sweep,
# with the absolute values of all slopes. Rounding can change a gradient by a few times 1e-16 of its absolute
# adjoint. Below, the slope is 2x = 0.2, and its absolute adjoint is 4e12. So we know beforehand that only three
# digits are reliable.


# %%
def cancelling(x):
    return (x + 10**12) ** 2 - 10**24 - x * (2 * 10**12)


for number in (Fraction(1, 10), 0.1):
    x = Value(number)
    y = cancelling(x)
    y.backward()
    print(f"slope {float(x.grad):.6f}, absolute adjoint {absolute_adjoint(y)[x]:.0e}")

# %% [markdown]
# ## A property of all programs
#
# So much for single rules. The sweep must combine them rightly in every graph: with shared nodes, repeated
# operands, constants. `programs` draws such graphs at random for Hypothesis, a library that runs a test on many
# random inputs and shrinks the inputs that fail. The property: reverse mode and forward mode (`dual`) give the
# same gradient, up to rounding.


# %%
@settings(max_examples=200)
@given(programs(rules=["add", "mul", "tanh", "exp", softsign]))
def reverse_is_forward(program):
    graph = program.graph()
    leaves, root = graph[: len(program.inputs)], graph[-1]
    root.backward()
    sizes = absolute_adjoint(root)
    for leaf, slope in zip(leaves, dual(program, *program.inputs), strict=True):
        assert_near(leaf.grad, slope, sizes.get(leaf, 0.0))


reverse_is_forward()
print("holds for 200 programs")

# %% [markdown]
# A test that cannot fail shows nothing. So we write the mistake that everybody makes once: a sweep that
# overwrites the gradient of a node where it should add. Hypothesis finds a program for which this sweep fails,
# and shrinks it to the simplest: one node used twice, and the halving with which `programs` keeps numbers small.
# A program prints as Python that you can paste into a session.


# %%
def overwriting_backward(root):
    for node in tg.topological_order(root):
        node.grad = 0.0
    root.grad = 1.0
    for node in reversed(tg.topological_order(root)):
        if node.rule:
            numbers = [parent.data for parent in node.parents]
            shares = node.rule.shares(node.grad, node.data, *numbers)
            for parent, share in zip(node.parents, shares, strict=True):
                parent.grad = share  # should be +=


def fails(program):
    graph = program.graph()
    overwriting_backward(graph[-1])
    slopes = dual(program, *program.inputs)
    return any(abs(leaf.grad - slope) > 1e-9 for leaf, slope in zip(graph, slopes, strict=False))


smallest = find(programs(rules=["add", "mul", "tanh", "exp"]), fails)
print(smallest)
graph = smallest.graph()
overwriting_backward(graph[-1])
print(f"x0.grad is {graph[0].grad}, should be {dual(smallest, *smallest.inputs)[0]}")
