# %% [markdown]
# # Vanishing and exploding gradients
#
# Backpropagation multiplies slopes. Ten slopes of 0.2 make 0.0000001, ten of 7 make 280 million: a deep network
# learns only if the product of its slopes stays near 1. We watch the product vanish, mend it in four ways, watch it
# explode, and tame that too.

# %%
# %matplotlib inline
import math
import random
import statistics

import matplotlib.pyplot as plt

import tinygrad_edu as tg
from tinygrad_edu import Value, datasets, nn, optim, plots
from tinygrad_edu.testing import gradcheck

# %% [markdown]
# ## Ten sigmoids in a row
#
# The slope of the sigmoid is s(1 - s), where s is its output. That is 1/4 at most, reached at x = 0.

# %%
xs = [i / 20 for i in range(-120, 121)]
figure, axes = plt.subplots(figsize=(5, 2.6), layout="constrained")
axes.plot(xs, [tg.sigmoid(x) for x in xs], label="sigmoid")
axes.plot(xs, [tg.grad(tg.sigmoid)(x) for x in xs], label="its slope")
axes.axhline(0.25, color="gray", linewidth=0.8, linestyle=":")
axes.set_xlabel("x")
axes.legend();

# %% [markdown]
# Put ten of them one after the other. Only one path leads from the last output to x, and `tg.why` shows the slopes on
# it. Their product is the gradient; the bound is (1/4)^10.

# %%
x = Value(0.0, label="x")
y = x
for _ in range(10):
    y = y.sigmoid()
y.backward()
print(f"gradient {x.grad:.2e}, at most {0.25**10:.2e}")
print(tg.why(y, x, width=None) if False else tg.why(y, x))

# %% [markdown]
# No sigmoid is saturated here: each slope is near its best. A factor of 0.22 per step is enough. Drawn with
# `heat=True`, every node has the colour of its gradient, on a logarithmic scale; the gradient is 1 at the doubly framed
# result, and fades towards x.

# %%
tg.draw(y, heat=True)
