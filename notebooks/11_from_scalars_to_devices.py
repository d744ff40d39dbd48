# %% [markdown]
# # From scalars to eight devices
#
# A loss is written with scalars, for one example. The compiler makes arrays of it. Then it can run wherever JAX
# runs: on a GPU, on several devices, on several machines. This notebook goes from one scalar function to a training
# on eight devices. Nobody needs eight devices for it: JAX can pretend that one processor is eight.
#
# It needs JAX: `pip install "tinygrad-edu[jax]"`.

# %%
# %matplotlib inline
import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"  # before JAX is imported
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import matplotlib.pyplot as plt
import numpy as np

import tinygrad_edu as tg
from tinygrad_edu import nn, optim

jax.config.update("jax_enable_x64", True)  # JAX computes in float32 otherwise
print(jax.device_count(), "devices:", jax.devices()[0].device_kind, "...")

# %% [markdown]
# ## One example, in scalars
#
# The model reads digits of 8 x 8 pixels. `loss` is the loss of one digit.

# %%
data = tg.datasets.digits()
X, Y = np.asarray(data.X_train), np.eye(10)[data.y_train]
model = nn.Sequential(nn.Dense(64, 32, "relu", rng=0), nn.Dense(32, 10, rng=1))


def loss(x, y):
    return nn.cross_entropy(model(x), y)


one = loss([tg.Value(pixel) for pixel in X[0]], [tg.Value(number) for number in Y[0]])
print(f"the loss of the first digit is {one:.4f}: {len(tg.topological_order(one)):,} nodes")

# %% [markdown]
# ## The same, in JAX
#
# `backend="jax"` writes the arrays that the compiler finds as a function of JAX. The function takes the parameters
# as one vector, and a batch. The backward pass is not written: `jax.value_and_grad` makes it.

# %%
step = tg.compile(loss, model.parameters(), backend="jax")
value, gradient = step.value_and_grad(X[:100], Y[:100])
print(step.source)

# %% [markdown]
# The program was compared with the eager engine before its first result. Here is the comparison with the program in
# NumPy. The two differ by rounding.

# %%
value_numpy, gradient_numpy = tg.compile(loss, model.parameters()).value_and_grad(X[:100], Y[:100])
print(f"loss {value:.6f}, with NumPy {value_numpy:.6f}")
print("the gradients agree to 1e-12:", np.allclose(gradient, gradient_numpy, rtol=0, atol=1e-12))

# %% [markdown]
# `step.function` is pure: it reads its arguments, and changes nothing. So JAX can transform it. `jax.jit` compiles
# it, `jax.vmap` runs it for many vectors of parameters at once, and `jax.grad` goes through it. Here the loss is
# evaluated along a line: from the parameters, against the gradient.

# %%
theta = np.array([parameter.data for parameter in model.parameters()])
lengths = np.linspace(0, 3, 7)
along = theta - lengths[:, None] * gradient  # seven vectors of parameters
losses, _ = jax.jit(jax.vmap(step.function, in_axes=(0, None, None)))(along, X[:100], Y[:100])
for length, number in zip(lengths, losses, strict=True):
    print(f"step of length {length:.1f}: loss {number:.3f}")

# %% [markdown]
# ## A batch on eight devices
#
# A *mesh* is an array of devices, with a name for each axis. A *sharding* says which device holds which part of an
# array. `P("batch")` splits the first axis of an array along the axis `batch` of the mesh.

# %% alt="Images of digits in frames of eight colours, a row for each device"
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

mesh = jax.make_mesh((8,), ("batch",))
batch = jax.device_put(X[:64], NamedSharding(mesh, P("batch")))

owner = np.empty(64)
for shard in batch.addressable_shards:
    owner[shard.index[0]] = shard.device.id

figure, axes = plt.subplots(8, 8, figsize=(5, 5), layout="constrained")
for place, image, device in zip(axes.flat, X, owner, strict=False):
    place.imshow(image.reshape(8, 8), "gray_r")
    place.set(xticks=[], yticks=[])
    for spine in place.spines.values():
        spine.set(color=plt.cm.tab10(int(device)), linewidth=3)
for row, place in enumerate(axes[:, 0]):
    place.set_ylabel(f"device {row}", color=plt.cm.tab10(row), fontsize=9)
plt.show()

# %% [markdown]
# Each device has eight of the 64 digits. Every device needs all parameters, so these are *replicated*.
#
# ## One step, as one program
#
# `step.train(optimizer, mesh=mesh)` makes one program of the forward pass, the backward pass and the update. Each
# device computes the gradient of its own digits. The mean over the batch needs the sum over all devices. Nothing in
# our source says so. JAX's compiler sees that the gradient is replicated and the batch is split, and adds the
# communication: an *all-reduce*.


# %%
def trained(mesh):
    """The parameters after 100 steps of Adam, and the losses."""
    model = nn.Sequential(nn.Dense(64, 32, "relu", rng=0), nn.Dense(32, 10, rng=1))
    step = tg.compile(lambda x, y: nn.cross_entropy(model(x), y), model.parameters(), backend="jax")
    losses = []
    with step.train(optim.Adam(model.parameters(), lr=0.01), mesh=mesh) as train:
        for i in range(100):
            rows = slice(100 * (i % 14), 100 * (i % 14) + 100)
            losses.append(train(X[rows], Y[rows]))
        program = train.lower(X[:100], Y[:100]).compile().as_text()
    return np.array([parameter.data for parameter in model.parameters()]), losses, program


on_one, losses_one, program_one = trained(None)
on_eight, losses_eight, program_eight = trained(mesh)
for name, program in (("one device", program_one), ("eight devices", program_eight)):
    print(f"{name}: the program has an all-reduce: {'all-reduce' in program}")
print("the parameters agree to 1e-10:", np.allclose(on_one, on_eight, rtol=0, atol=1e-10))

# %% [markdown]
# A batch of 100 is not a multiple of 8. The batch is filled up to 104 with digits of weight 0, so the loss is still
# the mean of 100.

# %% alt="The loss over the steps: the curves of one device and of eight lie on each other"
plt.figure(figsize=(5, 3), layout="constrained")
plt.plot(losses_one, linewidth=5, color="lightgray", label="one device")
plt.plot(losses_eight, linewidth=1.5, label="eight devices")
plt.xlabel("step")
plt.ylabel("loss")
plt.legend()
plt.show()

# %% [markdown]
# ## Less to write
#
# `tg.fit` does the same: it takes a mesh.

# %%
history = tg.fit(
    model,
    nn.cross_entropy,
    data,
    optim.Adam(model.parameters(), lr=0.005),
    epochs=5,
    batch_size=100,
    backend="jax",
    mesh=mesh,
    progress=False,
)
_, accuracy = tg.evaluate(model, nn.cross_entropy, data)
print(f"{mesh.size} devices, {history['accuracy'][-1]:.0%} of the digits right, {accuracy:.0%} of new ones")

# %% [markdown]
# ## Several machines
#
# The program stays the same. Each machine runs it, and begins with `jax.distributed.initialize()`. Then
# `jax.devices()` lists the devices of all machines, and a mesh of them is used as above. The
# [compiler's page](../tinygrad_edu/compiler/README.md) has such a program, and runs it in two processes of one
# machine.
#
# Are eight devices faster here? No: they share one processor, and the digits are small. Devices pay where a batch
# keeps each of them busy for longer than the sum over all devices takes.
