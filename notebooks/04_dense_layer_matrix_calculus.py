# %% [markdown]
# # The dense layer, by hand
#
# A textbook writes a layer as one line, $Z = XW + b$, and its gradients as three: $dW = X^\top dZ$, $db$ is the
# sum of the rows of $dZ$, and $dX = dZ\,W^\top$. An engine of scalars knows none of these lines. It has one small
# rule per operation, and it adds up.
#
# Here both do the same work, and we compare them number by number. Then the compiler reads the scalars and writes
# the textbook's lines.

# %%
import numpy as np

import tinygrad_edu as tg
from tinygrad_edu import Value, elementary, nn, testing

np.set_printoptions(formatter={"float": "{:7.4f}".format})

# %% [markdown]
# ## Ten examples of three numbers
#
# The network is 3 → 4 → 2: a dense layer with relu, then a dense layer with one score per class. $X$ is 10×3, and
# each row is an example. The class says whether the sum of the row is positive. $Y$ has a 1 in the column of the
# class.

# %%
X = np.random.default_rng(0).normal(size=(10, 3))
classes = (X.sum(axis=1) > 0).astype(int)
Y = np.eye(2)[classes]
hidden, output = nn.Dense(3, 4, "relu", rng=0), nn.Dense(4, 2, rng=1)
model = nn.Sequential(hidden, output)
print("X and Y, the first three rows:")
print(np.hstack([X, Y])[:3])
print(len(model.parameters()), "parameters")

# %% [markdown]
# ## Forward, in scalars and in matrices
#
# The engine makes a node for every operation. We make Values of $X$ too, because we want its gradient later.

# %%
x = [[Value(number) for number in row] for row in X]
scores = model(x)
loss = nn.cross_entropy(scores, Y)
print(f"{loss.data:.12f} is the last of {len(tg.topological_order(loss))} nodes")

# %% [markdown]
# Row $r$, column $o$ of $XW$ is one dot product, $\sum_i x_{ri} w_{io}$. The first layer has 10 · 4 of them. One
# line of NumPy writes them all. The last step is softmax: it turns the scores of a row into positive numbers
# whose sum is 1. The loss is $-\log$ of the number at the right class, averaged over the $B = 10$ rows.


# %%
def numbers(rows, of="data"):
    """The data (or the gradients) of a list of Values, or of a list of lists, as an array."""
    if isinstance(rows[0], list):
        return np.array([numbers(row, of) for row in rows])
    return np.array([getattr(value, of) for value in rows])


W1, b1, W2, b2 = (numbers(part) for part in (hidden.W, hidden.b, output.W, output.b))
B = len(X)

Z1 = X @ W1 + b1
A1 = np.maximum(Z1, 0)
Z2 = A1 @ W2 + b2
A2 = np.exp(Z2) / np.exp(Z2).sum(axis=1, keepdims=True)
print(f"{-(Y * np.log(A2)).sum() / B:.12f}")
print("scores agree to 1e-15:", np.allclose(Z2, numbers(scores), rtol=0, atol=1e-15))

# %% [markdown]
# ## Backward: softmax and cross-entropy
#
# We start at the end. Let $a = \mathrm{softmax}(z)$ and let $c$ be the right class. The loss of a row is $-\log a_c =
# \log\sum_k e^{z_k} - z_c$. The slope of the first term for $z_k$ is $e^{z_k} / \sum_j e^{z_j} = a_k$. The second term
# subtracts 1 at $k = c$. Together that is $a - y$, and the mean over the rows divides by $B$:
#
# $$dZ_2 = (A_2 - Y) / B$$
#
# The engine has left the derivative of the loss in every score.

# %%
loss.backward()
dZ2 = (A2 - Y) / B
print("by hand              in scalars")
for by_hand, in_scalars in zip(dZ2[:4], numbers(scores, "grad")[:4], strict=True):
    print(by_hand, " ", in_scalars)

# %% [markdown]
# Each row adds up to 0: what one class gains, the other loses. And however wrong a score is, its gradient is at
# most $1/B = 0.1$.

# %%
print(f"the sums of the rows are at most {abs(dZ2.sum(axis=1)).max():.4f}")
print(f"the gradients are at most {abs(dZ2).max():.4f}")

# %% [markdown]
# ## Backward: the weights
#
# First, one weight. $w_{io}$ appears in $z_{ro} = \sum_i x_{ri} w_{io} + b_o$ for **every** row $r$, with the
# slope $x_{ri}$. The chain rule adds up over all its uses:
#
# $$\frac{\partial L}{\partial w_{io}} = \sum_r x_{ri}\, dz_{ro}$$
#
# For the second layer the input is $A_1$. Here is the weight from hidden unit 0 to class 1:

# %%
print(f"{sum(A1[r, 0] * dZ2[r, 1] for r in range(B)):.12f} in ten products")
print(f"{output.W[0][1].grad:.12f} by the engine")

# %% [markdown]
# The sum runs over the rows of both matrices: it is row $i$ of $X^\top$ times column $o$ of $dZ$. So all weights
# together are $dW = X^\top dZ$. The bias has slope 1 in every row, so $db$ is the sum of the rows.

# %%
dW2, db2 = A1.T @ dZ2, dZ2.sum(axis=0)
print("dW2 by hand          in scalars")
for by_hand, in_scalars in zip(dW2, numbers(output.W, "grad"), strict=True):
    print(by_hand, " ", in_scalars)
print("db2")
print(db2, " ", numbers(output.b, "grad"))

# %% [markdown]
# ## Backward: through the layer
#
# Input $x_{ri}$ feeds all outputs of **its** row: $\sum_o dz_{ro} w_{io}$. The sum runs over the columns of both
# $dZ$ and $W$, so $W$ is transposed: $dX = dZ\,W^\top$. Relu passes the gradient where its input was positive.
# Then comes the first layer, by the same three lines.

# %%
dA1 = dZ2 @ W2.T
dZ1 = dA1 * (Z1 > 0)
dW1, db1 = X.T @ dZ1, dZ1.sum(axis=0)
dX = dZ1 @ W1.T

# %% [markdown]
# Every number, from both:

# %%
pairs = {
    "dW1": (dW1, hidden.W),
    "db1": (db1, hidden.b),
    "dW2": (dW2, output.W),
    "db2": (db2, output.b),
    "dX": (dX, x),
}
for name, (by_hand, values) in pairs.items():
    same = np.isclose(by_hand, numbers(values, "grad"), rtol=0, atol=1e-15)
    print(f"{name:4} {by_hand.shape!s:8} {same.sum():2} of {same.size:2} numbers agree to 1e-15")

# %% [markdown]
# If you forget the formulas, ask the shapes. $dW$ has the shape of $W$, 3×4. Only one product of $X$ (10×3) and
# $dZ$ (10×4) is 3×4.
#
# ## Checked: the network as one operation
#
# The two sides agree. Are both right? `gradcheck` can tell: it nudges every input and looks at the loss. We
# declare the whole network, loss included, as **one** operation with 26 inputs. Its `backward` is the matrix
# calculus above.


# %%
def forward_pass(theta):
    W1, b1, W2, b2 = np.split(np.array(theta), [12, 16, 24])
    W1, W2 = W1.reshape(3, 4), W2.reshape(4, 2)
    Z1 = X @ W1 + b1
    A1 = np.maximum(Z1, 0)
    Z2 = A1 @ W2 + b2
    return W2, Z1, A1, np.exp(Z2) / np.exp(Z2).sum(axis=1, keepdims=True)


def matrix_calculus(upstream, out, *theta):
    W2, Z1, A1, A2 = forward_pass(theta)
    dZ2 = (A2 - Y) / B
    dZ1 = (dZ2 @ W2.T) * (Z1 > 0)
    shares = [X.T @ dZ1, dZ1.sum(axis=0), A1.T @ dZ2, dZ2.sum(axis=0)]
    return [upstream * share for part in shares for share in part.ravel().tolist()]


@tg.rule(backward=matrix_calculus)
def network(*theta):
    return float(-(Y * np.log(forward_pass(theta)[-1])).sum() / B)


theta = [parameter.data for parameter in model.parameters()]
report = testing.gradcheck(network, *theta)
print(sum(row.verdict == "ok" for row in report.rows), "of", len(report.rows), "gradients agree with differences")
print("relative errors below 1e-9:", all(row.relative_error < 1e-9 for row in report.rows))

# %% [markdown]
# A check must fail where something is wrong. Forget that the bias is used in every row, and take the first row of
# $dZ_2$ for $db_2$. The last two of the 26 inputs are $b_2$:


# %%
def forgetful(upstream, out, *theta):
    shares = matrix_calculus(upstream, out, *theta)
    return [*shares[:24], *(upstream * dZ2[0]).tolist()]


wrong = tg.rule(network.forward, backward=forgetful, name="forgetful_network", n_inputs=None)
try:
    testing.gradcheck(wrong, *theta)
except testing.GradientMismatch as error:
    for row in error.report.rows:
        if row.verdict != "ok":
            print(f"{row.name} is {row.verdict}: {row.analytic:.4f}, by differences {row.numeric:.4f}")

# %% [markdown]
# ## Found: the compiler writes the same lines
#
# `tg.compile` gets the loss of **one** example, in scalars. It knows nothing about layers. It finds scalars that
# are treated alike, and makes an array of them. It finds these:


# %%
def loss_of_one(x, y):
    return nn.cross_entropy(model(x), y)


step = tg.compile(loss_of_one, model.parameters())
value, gradient = step.value_and_grad(X, Y)
step.groups.draw(rankdir="TB")

# %% [markdown]
# This is the program that it writes, forward and backward, for batches of any size `B`:

# %%
program = step.source.partition("def run")[2].partition("return float")[0].splitlines()[1:]
print("\n".join(line.strip() for line in program if line.strip() and not line.strip().startswith("#")))

# %% [markdown]
# The first four lines give each gradient its place in the vector of all gradients. The others are our lines: `X @
# W1 + b1`, `A2 - Y` over `B`, `dZ2 @ W2.T`, `A1.T @ dZ2`, `X.T @ dZ1`. A product with ones adds up the rows for the
# biases. A1 rounded up, but to no more than 1, is our `Z1 > 0`, because relu leaves nothing negative: NumPy is fast
# at both. The numbers agree too:

# %%
ours = np.concatenate([dW1.ravel(), db1, dW2.ravel(), db2])
print(f"loss {value:.12f}, gradients agree to 1e-15:", np.allclose(gradient, ours, rtol=0, atol=1e-15))

# %% [markdown]
# ## Exercises
#
# 1. **Softmax and cross-entropy as one operation.** Declare a rule `surprise(*z)`: the loss of one row of scores
#    whose right class is 0. Check it with `gradcheck` at `z = (2, -1, 0.5)`. `elementary.exp` and
#    `elementary.log` work on floats and on Values.
# 2. **Weight decay.** Add $\frac{\lambda}{2}\sum w^2$ to the loss, over the weights of the second layer, with
#    $\lambda = 0.1$. What becomes of $dW_2$? Compare with the engine, and check the new term.
# 3. **Another loss.** In place of cross-entropy take $\frac{1}{2B}\sum (Z_2 - Y)^2$. Which line of the backward
#    pass changes, and to what?
#
# ## Answers
#
# Try first. Jupyter folds the code of the answers: click on the dots to see it.


# %% tags=["answer"]
# Answer 1
# The loss is log(e^z0 + e^z1 + ...) - z0. Its slope for z_k is softmax(z)_k, and 1 less for the right class.
def surprise_backward(upstream, out, *z):
    total = sum(elementary.exp(z_k) for z_k in z)
    return [upstream * (elementary.exp(z_k) / total - (k == 0)) for k, z_k in enumerate(z)]


@tg.rule(backward=surprise_backward)
def surprise(*z):
    return elementary.log(sum(elementary.exp(z_k) for z_k in z)) - z[0]


report = testing.gradcheck(surprise, 2.0, -1.0, 0.5)
for row in report.rows:
    print(f"{row.name}: {row.analytic:.4f}, by differences {row.numeric:.4f}: {row.verdict}")


# %% tags=["answer"]
# Answer 2
# The slope of lambda/2 w^2 is lambda w: dW2 = A1^T dZ2 + lambda W2, and nothing else changes.
def decay(W):
    return 0.1 / 2 * tg.sum(w**2 for row in W for w in row)


model.zero_grad()
(nn.cross_entropy(model(X), Y) + decay(output.W)).backward()
print("agree:", np.allclose(A1.T @ dZ2 + 0.1 * W2, numbers(output.W, "grad"), rtol=0, atol=1e-15))
print("gradcheck agrees:", testing.gradcheck(decay, W2.tolist()).ok)


# %% tags=["answer"]
# Answer 3
# Only the first line changes, to dZ2 = (Z2 - Y) / B: scores in place of probabilities.
def half_squares(Z):
    return nn.mse(Z, Y, reduction="sum") / (2 * B)


model.zero_grad()
half_squares(model(X)).backward()
print("agree:", np.allclose(A1.T @ ((Z2 - Y) / B), numbers(output.W, "grad"), rtol=0, atol=1e-15))
print("gradcheck agrees:", testing.gradcheck(half_squares, Z2.tolist()).ok)
