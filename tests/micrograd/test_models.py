"""Programs in the manner of microgpt: whole models in one file, trained with Adam."""

import pytest
from micrograd_engines import MICROGPT, same_numbers, topological
from published import MicroGPT

NAMES = ["emma", "olivia", "ava", "isabella", "sophia", "mia", "charlotte", "amelia", "harper", "evelyn"]
LETTERS = sorted(set("".join(NAMES)))
END = len(LETTERS)
TEXTS = [[END, *map(LETTERS.index, name), END] for name in NAMES]


def train(parameters, losses, lr=0.02, b1=0.85, b2=0.99):
    """Adam with the moments in lists. Gives every loss, then the weights and the gradients of the last step."""
    m, v, numbers = [0.0] * len(parameters), [0.0] * len(parameters), []
    for step, loss in enumerate(losses):
        loss.backward()
        gradients = [p.grad for p in parameters]
        for i, p in enumerate(parameters):
            m[i] = b1 * m[i] + (1 - b1) * p.grad
            v[i] = b2 * v[i] + (1 - b2) * p.grad**2
            m_hat, v_hat = m[i] / (1 - b1 ** (step + 1)), v[i] / (1 - b2 ** (step + 1))
            p.data -= lr * m_hat / (v_hat**0.5 + 1e-8)
            p.grad = 0
        numbers.append(loss.data)
    return [*numbers, *[p.data for p in parameters], *gradients]


def microgpt(engine):
    """A transformer of one layer: rmsnorm, attention over the past, an MLP, residual connections."""
    model = MicroGPT(END + 1, n_embd=8, n_head=2, kind=engine.Value)
    return train(model.params, map(model.loss, TEXTS))


def backward_of_the_program(engine):
    """The loop of microgpt's backward in the program itself, over _children and _local_grads."""
    a, b = engine.Value(0.7), engine.Value(-1.2)
    y = (a * b + a.exp()).tanh() / (b**2 + 1).log() - a
    y.grad = 1
    for node in reversed(topological(y, "_children")):
        for child, local in zip(node._children, node._local_grads, strict=True):
            child.grad += local * node.grad
    return [y.data, a.grad, b.grad]


@pytest.mark.parametrize("program", [microgpt, backward_of_the_program])
def test_as_on_an_engine_of_local_derivatives(program):
    same_numbers(program, MICROGPT)
