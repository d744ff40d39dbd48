"""Makes the pictures of the README again: python notebooks/pictures/make.py

neuron.svg   a neuron as `draw` shows it
step.svg     the same neuron in the middle of its backward pass
groups.svg   the arrays that 305,961 scalar nodes of a digit classifier are compiled to
"""

from pathlib import Path
from typing import Any

import numpy as np

import tinygrad_edu as tg
from tinygrad_edu import Value, nn
from tinygrad_edu.debug.frames import frame

HERE = Path(__file__).parent


def neuron() -> Value:
    out: Value = nn.Neuron(2, "tanh", rng=0)([Value(0.5, label="x0"), Value(-1.0, label="x1")])
    out.label = "out"
    out.backward()
    return out


def groups() -> Any:
    model = nn.MLP(784, [128, 10], rng=0)
    step = tg.compile(lambda x, y: nn.cross_entropy(model(x), y), model.parameters(), verify=False)
    step.value_and_grad(np.zeros((1, 784)), np.eye(10)[:1])
    return step.groups


def main(folder: Path = HERE) -> None:
    out = neuron()
    (folder / "neuron.svg").write_bytes(tg.draw(out).pipe(format="svg"))
    (folder / "step.svg").write_text(frame(tg.steps(out), 4), encoding="utf-8")
    (folder / "groups.svg").write_bytes(groups().draw().pipe(format="svg"))


if __name__ == "__main__":
    main()
