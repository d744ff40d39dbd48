# %% [markdown]
# # Derivatives and Values

# %%
# %matplotlib inline
import tinygrad_edu as tg
from tinygrad_edu import Value, plots

x = Value(3.0)
y = x * x
tg.draw(y)

# %%
plots.decision_boundary(lambda p: p[0], [(0, 0), (1, 1)], [1, -1])
