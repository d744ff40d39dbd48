# %% [markdown]
# # Backpropagation, step by step
#
# One small function, $f = (x + y)(x - y)$ at $x = 3$, $y = 2$. We know the answer: $f = x^2 - y^2$, so the
# gradients are $2x = 6$ and $-2y = -4$. We watch how backpropagation finds them: drawn, one step at a time, and
# as a sum over paths. Then we break it in every way in which people break it.

# %%
from IPython.display import SVG

import tinygrad_edu as tg
from tinygrad_edu import Value
from tinygrad_edu.debug.frames import frame

# %% [markdown]
# ## Forward
#
# Python computes from the inside out, and every operation leaves a node behind.

# %%
x, y = Value(3.0, label="x"), Value(2.0, label="y")
s = x + y
d = x - y
f = s * d
tg.draw(f, slopes=True)

# %% [markdown]
# The same graph as a page: drag a number and everything follows, step through both passes, try the quiz. Run the cell
# to see it (where no script may run there is a picture), or write it to a file: `tg.live(f).to_html("page.html")`.

# %% tags=["live"]
tg.live(f)

# %% [markdown]
# Both inputs are used twice. Each arrow carries its local slope. For the product, `s` has the slope `d` = 1 and
# `d` has the slope `s` = 5. The sum passes on 1 and 1, the difference 1 and -1.
#
# ## Backward, one step at a time
#
# The backward pass starts with $df/df = 1$ and goes through the operations from the result to the inputs. Each
# operation does the same: it computes *share = upstream × slope*, and its inputs add up their shares. `tg.steps`
# lists these steps, and each step says what it does.

# %%
for step in tg.steps(f):
    print(step)

# %% [markdown]
# Follow `x`: it hears 1 from `s`, then 5 from `d`, and has 6. And `y` hears 1 from `s`, then -5 from `d`, and has
# -4. Here are the same steps as pictures. The operation that has just spoken is yellow, finished nodes are blue,
# and a dash in place of a gradient means that the node has heard nothing yet.

# %%
SVG(frame(tg.steps(f), 1))

# %% tags=["cover"]
SVG(frame(tg.steps(f), 2))

# %%
SVG(frame(tg.steps(f), 3))

# %% [markdown]
# In a notebook of your own, end a cell with `tg.steps(f)`: it shows the steps with a slider.
# `tg.steps(f).to_html("steps.html")` writes the same to a file.
#
# ## The time machine
#
# `tg.debug.Machine` walks through the same steps at the prompt, forward and back. `->` marks the node whose turn
# is next.

# %%
machine = tg.debug.Machine(f)
machine.next()

# %%
machine.next()

# %% [markdown]
# One of the two sides is done, so `x` and `y` have heard only half of the story. Their gradients are not right
# yet. Go back, and even this half is taken back.

# %%
machine.back()

# %%
machine.run()

# %% [markdown]
# `f.backward()` does what `machine.run()` does, and keeps the numbers. The machine walks the forward pass as well, and a
# string names a node: `until("s")` goes on to where `s` is computed.

# %%
machine.forward().until("s")

# %% [markdown]
# ## The prompt
#
# `tg.debug.run(f)` is the same machine as a prompt, with the letters of pdb, Python's own debugger. Put it into a
# program, at the place where you have a question, and type. Here the commands stand in the call, so that you see the
# whole session. Given a function, it knows its names, and which line made which node: `w` shows it.


# %%
def lesson(x, y):
    s = x + y
    d = x - y
    return s * d


commands = [
    "n",
    "w d",
    "b",
    "break x.grad > 5",
    "c",
    "why x",
    "p x.grad == 2 * x.data",
    "set x 4",
    "forward",
    "until s",
]
tg.debug.run(lesson, *commands, x=3.0, y=2.0)

# %% [markdown]
# Line by line: `n` takes the next step, and the prompt says which share goes where. `w d` shows the line that made
# `d`. `b` goes back. `break` stops where a condition becomes true, and `c` continues to it. `why x` lists the paths.
# `p` prints any Python over the nodes. `set x 4` asks what if: all numbers follow, a star marks those that changed.
# `forward` and `until s` walk through the forward pass. `h` lists all commands.

# %%
f.backward()
x.grad, y.grad

# %% [markdown]
# ## Why 6?
#
# There is another way to see the same number. Two paths lead from `x` up to `f`: one through the sum, one through
# the difference. Multiply the slopes along each path, and add up the products.

# %%
tg.why(f, x)

# %%
tg.draw(f, slopes=True, paths=tg.why(f, x).paths[0])

# %% [markdown]
# The picture marks the largest path. For `y` the two paths pull in opposite directions:

# %%
tg.why(f, y)

# %% [markdown]
# *A gradient is the sum over all paths of the product of their slopes.* Backpropagation computes this sum without
# walking along each path. It must: here is a chain of twenty doublings, with a million paths and only twenty
# steps.

# %%
z = Value(1.0, label="z")
top = z
for _ in range(20):
    top = top + top
print(f"{tg.why(top, z).count:,} paths, {len(tg.steps(top))} steps")

# %% [markdown]
# ## Why a topological order?
#
# Everybody asks this. Let us try without it. "Tell your inputs their shares, then let each of them do the same"
# is a backward pass in three lines, and it is right for our `f`:


# %%
def naive(node):
    node._backward()
    for parent in node.parents:
        naive(parent)


x, y = Value(3.0), Value(2.0)
f = (x + y) * (x - y)
f.grad = 1.0
naive(f)
x.grad, y.grad

# %% [markdown]
# Now a smaller program: `b = a + a`, `c = b + b`. Surely $c = 4a$, and the gradient is 4.

# %%
a = Value(1.0, label="a")
b = a + a
c = b + b
c.grad = 1.0
naive(c)
a.grad

# %% [markdown]
# Eight. `b` is an input of `c` twice, so `naive` visits `b` twice. Each time `b` tells `a` everything it has
# heard so far. It spoke **too often**. So let each node speak once?


# %%
def once(node, seen):
    if node not in seen:
        seen.add(node)
        node._backward()
        for parent in node.parents:
            once(parent, seen)


a = Value(1.0, label="a")
b = a * 2
c = b * 3
e = b + c  # 2a + 6a: the gradient is 8
e.grad = 1.0
once(e, set())
a.grad

# %% [markdown]
# Two, but it should be 8. Here `e` told `b` and `c`. Then it was the turn of `b`, and `b` told `a` what it had
# heard. But `c` still had to tell `b` 3 more. So `b` spoke **too early**. In the picture `b` has its 4 by now,
# but `a` heard only 1 of them, times the slope 2:

# %%
tg.draw(e, slopes=True)

# %% [markdown]
# A node may speak when every node that uses it has spoken. An order with this property is called topological. The
# engine lists inputs before the nodes made from them, and the backward pass goes through this list from its end.

# %%
a = Value(1.0, label="a")
b = a * 2
c = b * 3
e = b + c
order = tg.topological_order(e)
e.grad = 1.0
for node in reversed(order):
    node._backward()
print(a.grad)

# %% [markdown]
# That loop is backpropagation. `Value.backward` does it without recursion, so a million operations in a row are
# no problem. It also takes care of earlier gradients, as we see next.
#
# ## Adding up
#
# `x * x` uses `x` twice. If a share *replaced* the one before, the gradient would be 3, the last share, and
# not 6. So we need `+=`:

# %%
x = Value(3.0, label="x")
square = x * x
square.backward()
x.grad

# %% [markdown]
# The same `+=` works across passes: a second result adds to what the first has left. This is useful, because the
# loss of many examples can be computed one example at a time. It is also a trap: a training loop that forgets to
# set the gradients to 0 follows the sum of all earlier gradients.

# %%
square.backward()
print("twice:", x.grad)
x.grad = 0.0
square.backward()
print("set to 0 before:", x.grad)

# %% [markdown]
# ## Two results, one trap
#
# Last, a bug that hides in most small engines. Two results share an interior node:

# %%
a = Value(1.0, label="a")
c = a * 2
e, f = c * 5, c * 7
e.backward()
f.backward()
print(a.grad)  # de/da + df/da = 10 + 14

# %% [markdown]
# micrograd and its many descendants do something else. Here it is by hand: every node adds up, `c` too.

# %%
a = Value(1.0, label="a")
c = a * 2
e, f = c * 5, c * 7
for result in (e, f):
    result.grad = 1.0
    for node in reversed(tg.topological_order(result)):
        node._backward()
    print(f"c.grad {c.grad:g}, a.grad {a.grad:g}")

# %% [markdown]
# Ten too many. In the second pass `c` still holds its 5 from the first. It adds 7 and tells `a` about twelve: the
# first story is told twice. This rule is always right: **leaves add up over passes, interior nodes start from 0
# in each pass**. `backward` follows it.
#
# ## Four bugs, and a debugger that finds them
#
# One more command of the prompt is `blame`, or `tg.blame(loss)`: it looks for what has spoilt the gradients.
#
# **Gradients that were not set to zero.** Everybody forgets it once. Here is the lecture's loop without `zero_grad`:

# %%
from tinygrad_edu import nn

model = nn.MLP(3, [4, 4, 1], "tanh", rng=0)
examples = [([2.0, 3.0, -1.0], 1.0), ([3.0, -1.0, 0.5], -1.0), ([0.5, 1.0, 1.0], -1.0), ([1.0, 1.0, -1.0], 1.0)]
for _ in range(20):
    loss = sum((model(x) - y) ** 2 for x, y in examples)
    loss.backward()
    for p in model.parameters():
        p.data -= 0.001 * p.grad
tg.blame(loss)

# %% [markdown]
# It asks, since some people add up several passes on purpose. The weights have moved since that pass. That is normal, and
# `blame` judges by the numbers that they had.
#
# **A number that was changed after the forward pass**, and before the backward pass. The slopes then belong to other
# numbers than the result. Commands can stand in the call of the prompt. Then they are obeyed, and the prompt ends.

# %%
a = Value(2.0, label="a")
y = a * a * a
a.data = 5.0
y.backward()
tg.debug.run(y, "blame")

# %% [markdown]
# **A wrong order**, as in the pass `once` from above, or **an overwritten gradient**, `=` where `+=` belongs: these two
# happen in engines that people write themselves. `tg.testing.diagnose` finds them there.
#
# **A gradient that explodes.** One graph does not tell: we need the training. `record` keeps each backward pass that
# reaches the model's parameters, and `blame` names the step.

# %%
model = nn.MLP(1, [2, 1], "linear", rng=0)
with tg.debug.record(model) as film:
    for _ in range(10):
        model.zero_grad()
        loss = (model([3.0]) - 1.0) ** 2
        loss.backward()
        for p in model.parameters():
            p.data -= 0.5 * p.grad  # a learning rate that is too large
film.blame()

# %% [markdown]
# A film is a list of graphs, one for each step. In the graph of that step we stop where the gradient becomes large, and
# ask why.

# %%
step = film.blame().step
tg.debug.run(film[step], "break layer0.neuron0.w0.grad > 1e3", "c", "why layer0.neuron0.w0")

# %% [markdown]
# And step by step the loss shows the learning rate at work:

# %%
for step, graph in zip(film.steps, film, strict=True):
    print(f"step {step}: loss {graph:.3g}")

# %% [markdown]
# ## Exercises
#
# 1. Let $g = xy + x$, with $x = 3$, $y = 2$. How many paths lead from `x` to `g`, and what are their products?
#    Think first, then ask `why`.
# 2. How many paths lead from `x` to `x * x * x`, and how large is each at $x = 2$?
# 3. Write `backward(root)` with `topological_order` and `_backward`, so that leaves add up and interior nodes
#    start from 0. Try it on the trap, and on $\tanh(xy) + x / y$, in Python `tg.tanh(x * y) + x / y`.
#
# ## Answers
#
# Try first. Jupyter folds the code of the answers: click on the dots to see it.

# %% tags=["answer"]
# Answer 1: two. Through the product with slope y = 2, and directly with slope 1.
from tinygrad_edu.testing import gradcheck

x, y = Value(3.0, label="x"), Value(2.0, label="y")
g = x * y + x
print(tg.why(g, x))
print(gradcheck(lambda x, y: x * y + x, 3.0, 2.0))

# %% tags=["answer"]
# Answer 2: three, one for each factor, and each is the product of the two others: 4 + 4 + 4 = 3x².
x = Value(2.0, label="x")
print(tg.why(x * x * x, x))
print(gradcheck(lambda x: x * x * x, 2.0))


# %% tags=["answer"]
# Answer 3: interior nodes are those that were made by a rule.
def backward(root):
    order = tg.topological_order(root)
    for node in order:
        if node.rule:
            node.grad = 0.0
    root.grad = 1.0
    for node in reversed(order):
        node._backward()


a = Value(1.0)
c = a * 2
backward(c * 5)
backward(c * 7)
print("the trap:", a.grad)

x, y = Value(3.0), Value(2.0)
backward(tg.tanh(x * y) + x / y)
report = gradcheck(lambda x, y: tg.tanh(x * y) + x / y, 3.0, 2.0)
print(report)
assert [row.analytic for row in report.rows] == [x.grad, y.grad]
