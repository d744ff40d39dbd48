# %% [markdown]
# # Prove a rule
#
# A rule is a claim: "this operation has that slope". A wrong rule raises no error. The network still trains, only
# worse. This lesson has three steps. We **test** rules, at one point and over a domain. We **catch** wrong ones, and
# a wrong backward pass. Then we **certify** rules: at every real number, with a bound for every float. At the end we
# put the same questions to the rules of two famous libraries.

# %%
# %matplotlib inline
from fractions import Fraction

import matplotlib.pyplot as plt
from hypothesis import find, given, settings

import tinygrad_edu as tg
from tinygrad_edu import Value
from tinygrad_edu.elementary import exp, where
from tinygrad_edu.testing import (
    absolute_adjoint,
    assert_near,
    check_rule,
    dual,
    gradcheck,
    programs,
    prove_rule,
    ulps,
)

settings.register_profile("lesson", derandomize=True, database=None, deadline=None)
settings.load_profile("lesson")  # the same random inputs in every run

# %% [markdown]
# ## Test one point
#
# The [first lesson](01_derivatives_and_values.ipynb) took differences, and saw their limits: a large step h is
# inexact because the curve bends, a small one because numbers are rounded. Textbooks fix h and a tolerance.
# `gradcheck` offers one such recipe as "absolute": h = 1e-4, and an error below 0.01 passes. This recipe fails in
# both directions. Near the pole of 1/x its step is too large, so it calls a right gradient wrong:

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
# By default `gradcheck` runs the function on numbers of several hundred bits. There a tiny step costs no digits: 50
# digits of the difference are right. Now both verdicts are right, and the second one names the node to blame.

# %%
print(gradcheck(lambda x: 1 / x, 0.001))
try:
    gradcheck(lambda x: double(x) / 1000, 1.0)
except AssertionError as error:
    print(error)

# %% [markdown]
# At a **kink** there are two slopes. relu has 0 on the left of 0 and 1 on the right. The engine gives 0, by
# convention. `gradcheck` compares with both sides and says so.

# %%
gradcheck(lambda x, w: w * tg.relu(x), 0.0, 3.0)

# %% [markdown]
# ## Test a domain
#
# One point shows little. Here is a rule of our own, softsign(x) = x / (1 + |x|). Its slope is 1 / (1 + |x|)^2. That
# is 1 / (1 + 2|x| + x^2), and somebody wrote x |x| for x^2. At the point that we happen to try, all is well:


# %%
def softsign_forward(x):
    return x / (1 + abs(x))


def hasty_backward(upstream, out, x):
    return (upstream / (1 + 2 * abs(x) + x * abs(x)),)


hasty = tg.rule(softsign_forward, backward=hasty_backward, name="hasty")
gradcheck(hasty, 2.0)

# %% [markdown]
# `check_rule` tries the whole domain: hard points first, then random ones. It compares with the derivative of the
# forward function, computed with 60 digits. Of all inputs that fail, it shows the simplest it can find.


# %%
def shown(check, rule, **options):
    """Print what the check says, be it a report or an error."""
    try:
        print(check(rule, **options))
    except AssertionError as error:
        print(error)


shown(check_rule, hasty)

# %% [markdown]
# Now the right formula. `check_rule` counts errors in **ulps**, units in the last place: one ulp is the distance
# from one float to the next. Rounding costs a few ulps; 32 are allowed.


# %%
def softsign_backward(upstream, out, x):
    return (upstream / ((1 + abs(x)) * (1 + abs(x))),)


softsign = tg.rule(softsign_forward, backward=softsign_backward, name="softsign")
report = check_rule(softsign)
print(f"mathematics {report.mathematics}, rounding {report.rounding}, on {', '.join(report.numbers)}")
print("value and slope within 4 ulps:", report.worst["value"][0] < 4 and report.worst["slopes"][0] < 4)

# %% [markdown]
# There are two verdicts, because there are two ways to be wrong. `hasty` has the wrong **mathematics**. The next rule
# has the right formula: 1 - |out| is 1 / (1 + |x|), so the slope is (1 - |out|)^2, and a division is saved. It loses
# its digits in the **rounding**. For large x, out is near 1, and 1 - |out| keeps only its last digits.


# %%
def thrifty_backward(upstream, out, x):
    return (upstream * (1 - abs(out)) * (1 - abs(out)),)


thrifty = tg.rule(softsign_forward, backward=thrifty_backward, name="thrifty")
shown(check_rule, thrifty)
for x in (10.0, 1e4, 1e8, 1e16):
    right, lost = tg.grad(softsign)(x), tg.grad(thrifty)(x)
    print(f"x = {x:<6.0e} slope {right:.4g}, off by a part of {abs(lost / right - 1):.0e}")

# %% [markdown]
# The **second derivative** can be wrong alone. Operators in a rule run on Values too, so a slope can be
# differentiated again. This rule takes the number out of its Value. Its first derivative stays right, and the
# second is lost without any error:


# %%
def detached_backward(upstream, out, x):
    number = x.data if isinstance(x, Value) else x  # cut off from its graph
    return (upstream / ((1 + abs(number)) * (1 + abs(number))),)


detached = tg.rule(softsign_forward, backward=detached_backward, name="detached")
for rule in (softsign, detached):
    print(f"{rule.name:<9} first {tg.grad(rule)(1.0)}  second {tg.grad(tg.grad(rule))(1.0)}")
shown(check_rule, detached)

# %% [markdown]
# ## Catch a wrong backward pass
#
# So much for single rules. The backward pass must combine them rightly in every graph: with shared nodes, repeated
# operands and constants. `programs` draws such graphs at random for Hypothesis, a library that runs a test on many
# random inputs and shrinks the inputs that fail. The property: reverse mode and forward mode (`dual`) give the
# same gradient, up to rounding. Where shares cancel, rounding can do more. The **absolute adjoint** says how much: it
# is the gradient with the absolute values of all slopes, and rounding changes a gradient by a few times 1e-16 of it.


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
# A test that cannot fail shows nothing. So we write the mistake that everybody makes once: a backward pass that
# overwrites the gradient of a node where it should add. Hypothesis finds a program for which this pass fails, and
# shrinks it to the simplest: one node used twice, and the halving with which `programs` keeps numbers small. A program
# prints as Python that you can paste into a session.


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

# %% [markdown]
# ## What no test sees
#
# Tests look at some points. Between two of them anything may be hidden. This rule is 1 % off in a window of width
# 0.0001. `check_rule` tries the numbers that stand in a rule, too, but its window begins at none of them:


# %%
def narrow_backward(upstream, out, x):
    (share,) = softsign_backward(upstream, out, x)
    return (share * where((10000 * x > 30001) * (10000 * x < 30002), 1.01, 1),)


narrow = tg.rule(softsign_forward, backward=narrow_backward, name="narrow")
report = check_rule(narrow)
print(f"mathematics {report.mathematics}, rounding {report.rounding}, at {report.inputs} inputs")

# %% [markdown]
# ## Certify
#
# `prove_rule` does not try points. It runs the rule on *formulas*. The comparisons in a rule cut its domain into
# pieces. On each piece, slope and derivative become formulas in x. If all terms of their difference cancel, they are
# equal at every real number of the piece. The window is a piece too:

# %%
shown(prove_rule, narrow)

# %% [markdown]
# A refuted rule comes with a float that shows it: the rule was run there. Now the rule that is right:

# %%
certificate = prove_rule(softsign)
print(certificate)

# %% [markdown]
# The mathematics is certified: the slope is the derivative at every real number. The two numbers in each line bound
# the **rounding**, over every float. Each operation on floats is off by half an ulp at most, so errors can be added up
# over a whole interval of floats, without trying them. The slope of softsign takes four operations (two sums, a
# product, a quotient), so we expect a few ulps. But the certificate says 10^15. Where?

# %%
worst = max(certificate.rounding, key=lambda box: box.slope)
print(f"the worst box of floats: {worst.low:.3g} to {worst.high:.3g}")
for x in (1e150, 1.3e154, 1.4e154):
    print(f"x = {x:g}: slope {tg.grad(softsign)(x):.6g}, right is {1 / (1 + x) / (1 + x):.6g}")

# %% [markdown]
# From 1.34e154 on, (1 + |x|)^2 is larger than the largest float. The product becomes inf and the slope 0. The right
# slope is tiny, but a float can hold it. `check_rule` lets this pass: it counts no errors in numbers below 1e-308.
# The mended rule divides twice:


# %%
def mended_backward(upstream, out, x):
    return (upstream / (1 + abs(x)) / (1 + abs(x)),)


mended = tg.rule(softsign_forward, backward=mended_backward, name="mended")
certificate = prove_rule(mended)
print(certificate)

# %% [markdown]
# Below the table stands what the proof **rests on**. Half an ulp for each operation is the standard for floats. The
# errors of exp, tanh and so on are those that the C library states, and they would stand here too. A certificate
# is true if nothing is left undecided, so a test of your own rule is one line: `assert prove_rule(rule)`.
#
# In the picture, a dot is the error that one float really has. The line is certified: no dot can lie above it, not
# even one that nobody has tried.

# %% alt="The error in ulps of the mended rule and of the first one over x"
xs = [10 ** (k / 100) for k in range(-400, 401)]
errors = [ulps(tg.grad(mended)(x), Fraction(1) / (1 + Fraction(x)) ** 2) for x in xs]
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
axes.semilogx(xs, errors, ".", markersize=3, label="tested, one float each")
axes.semilogx(xs, [certificate.at(x)[1] for x in xs], color="tab:red", label="certified, every float")
axes.set_ylim(0, 5.5)
axes.set_xlabel("x")
axes.set_ylabel("error of the slope, ulps")
axes.legend(loc="upper right", ncols=2)
plt.show()

# %% [markdown]
# ## A bug in famous libraries
#
# PyTorch and JAX compute the slopes of tanh and sigmoid from the output: 1 - t² and s (1 - s). You find the formulas
# in [PyTorch's kernels](https://github.com/pytorch/pytorch/blob/main/aten/src/ATen/native/cpu/BinaryOpsKernel.cpp)
# (`tanh_backward`, `sigmoid_backward`), and in JAX (here 0.10.2) by `jax.make_jaxpr(jax.grad(jnp.tanh))(1.0)`. For
# large x the output rounds to 1. Then 1 - t is 0, and so is the slope. The right slope is small, but a float can hold
# it. [PyTorch's issue 195527](https://github.com/pytorch/pytorch/issues/195527) (September 2026) reports it.
#
# The third formula is PyTorch's softplus, log(1 + e^x). Its
# [documentation](https://docs.pytorch.org/docs/stable/generated/torch.nn.Softplus.html) says that it becomes the
# straight line x where x > 20, "for numerical stability". From there on its slope is 1. The right slope is
# 1 - e^-x, and at 20 a float can tell it from 1: the difference is 19 million ulps.
#
# Here are these formulas as rules. You need neither library to run them.


# %%
def tanh_of_pytorch(upstream, out, x):
    return (upstream * (1 - out * out),)


def tanh_of_jax(upstream, out, x):
    part = upstream * (1 - out)
    return (part + part * out,)


def sigmoid_of_both(upstream, out, x):
    return (upstream * (out * (1 - out)),)


def softplus_of_pytorch(upstream, out, x):
    z = exp(x)
    return (where(x > 20, upstream, upstream * z / (z + 1)),)


theirs = {
    name: tg.rule(tg.RULES[name.split("_")[0]].forward, backward=backward, name=name, n_inputs=1)
    for name, backward in {
        "tanh_pytorch": tanh_of_pytorch,
        "tanh_jax": tanh_of_jax,
        "sigmoid_both": sigmoid_of_both,
        "softplus_pytorch": softplus_of_pytorch,
    }.items()
}
for name, x in (("tanh_pytorch", 20.0), ("tanh_jax", 20.0), ("sigmoid_both", 40.0), ("softplus_pytorch", 20.5)):
    right = tg.grad(getattr(tg, name.split("_")[0]))(x)
    print(f"{name:<16}  slope at {x:g} is {tg.grad(theirs[name])(x):.10g}, should be {right:.10g}")

# %% [markdown]
# `check_rule` tells the two kinds of fault apart. In tanh and sigmoid the formula is right and the digits are lost;
# it also says how to keep them. The slope of softplus is another function.

# %%
for rule in theirs.values():
    shown(check_rule, rule)
    print()

# %% [markdown]
# With `ulps`, `prove_rule` demands a bound for every float of the domain, or shows a float that breaks it.

# %%
for rule in theirs.values():
    shown(prove_rule, rule, domain=(-700, 700), ulps=32)

# %% [markdown]
# How bad is it? The picture counts ulps. A number is at most 2^53 ulps large, about 10^16: at the dotted line no digit
# is right, because the slope is 0. The rules of this engine use the exponential of the input in the tails. The black
# line is certified for its tanh.


# %% tags=["cover"] alt="The error of a slope in ulps over x, below the bound that is certified"
def slope_errors(rule, exact, xs):
    """The error of a slope in ulps. The certified slope of `exact` stands for the truth, within a few ulps."""
    return [max(1, ulps(tg.grad(rule)(x), tg.grad(exact)(x))) for x in xs]


xs = [k / 4 for k in range(1, 241)]
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
for name, colour in (
    ("tanh_pytorch", "tab:blue"),
    ("sigmoid_both", "tab:orange"),
    ("softplus_pytorch", "tab:green"),
):
    ours = tg.RULES[name.split("_")[0]]
    axes.semilogy(xs, slope_errors(theirs[name], ours, xs), color=colour, label=name.replace("_", ", "))
axes.axhline(
    prove_rule("tanh").worst()[1], color="black", linewidth=0.8, label="tanh here, certified for every float"
)
axes.axhline(2.0**53, color="gray", linewidth=0.8, linestyle=":", label="no digit is right")
axes.set_xlabel("x")
axes.set_ylabel("error of the slope, ulps")
axes.legend(fontsize="small", loc="center right")
plt.show()

# %% [markdown]
# Does it matter? A neuron at x = 40 does not learn, with slope 4e-18 as with slope 0. It matters where small numbers are
# multiplied by large ones, or divided by each other. And it matters when a test of *your* rule compares with such a
# library: the library is wrong there, not you.
#
# If you have JAX or PyTorch, ask them yourself. `testing.from_jax(jnp.tanh)` and `testing.from_torch(torch.tanh,
# tg.RULES["tanh"].forward)` are rules for `check_rule`, and `prove_rule` takes the first one too.
# `python tests/benchmarks/derivatives.py` prints the errors of nine functions, for each library that it finds.
#
# ## Exact fractions
#
# The last way to be sure is to have no rounding. A Value holds a float or a `Fraction`. Sums, products and quotients
# of fractions are exact, and so are their derivatives. They need no tolerance at all.

# %%
x = Value(Fraction(1, 3), label="x")
y = softsign(x) * x**2 - 1 / x
y.backward()
print(f"y = {y.data}, its slope {x.grad}")


# %% [markdown]
# Fractions show how wrong floats can be. Rump's polynomial (1988) at a = 77617, b = 33096 is -0.827. Floats keep
# 16 digits. The terms are as large as 10^36 and cancel, so not even the sign of the result can be trusted. Program
# and graph are the same in both cases. Only the numbers differ.


# %%
def rump(a, b):
    squares = 11 * a**2 * b**2 - b**6 - 121 * b**4 - 2
    return b**6 * 1335 / 4 + a**2 * squares + b**8 * 11 / 2 + a / (2 * b)


exact = rump(Value(Fraction(77617)), Value(Fraction(33096)))
floats = rump(Value(77617.0), Value(33096.0))
print(f"exact  {float(exact.data):.6f}, which is {exact.data}")
print(f"floats {floats:.6g}")
