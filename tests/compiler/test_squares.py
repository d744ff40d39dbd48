"""Weight decay as one product of the vector of the parameters."""

from typing import Any

import numpy as np
import pytest
from comparing import compare

import tinygrad_edu as tg
from tinygrad_edu import Value, nn

MODEL = nn.MLP(2, [3, 3, 1], rng=0)
PARAMETERS = MODEL.parameters()
LAYER = PARAMETERS[:9]
BATCH = np.random.default_rng(0).normal(size=(5, 2))


def squares(parameters: list[Value]) -> Value:
    return tg.sum([p * p for p in parameters])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(
    ("decay", "slice"),
    [
        (lambda: 0.01 * sum(p * p for p in PARAMETERS), "0:25"),
        (lambda: tg.sqrt(tg.dot(PARAMETERS, PARAMETERS)), "0:25"),
        (lambda: squares(LAYER) / 2 - 0.1 * tg.sum(LAYER), "0:9"),
        (lambda: squares(PARAMETERS[::-1]) * PARAMETERS[3], "0:25"),
    ],
)
def test_squares_that_fill_a_part_of_the_vector_are_one_product(decay: Any, slice: str, dtype: str) -> None:
    step = compare(lambda x: MODEL(x) ** 2 + decay(), PARAMETERS, BATCH, dtype=dtype)
    assert f"theta = parameters[{slice}]\n" in step.source
    assert f"gradient[{slice}] += dtheta\n" in step.source
    assert step.source.count("np.vecdot(") == 1


@pytest.mark.parametrize(
    "decay",
    [
        lambda: squares([p for p in PARAMETERS if ".w" in p.label]),  # with the biases between them
        lambda: squares(PARAMETERS[:-1]) + PARAMETERS[-1] ** 3 + PARAMETERS[0] * PARAMETERS[0],
        lambda: tg.dot(PARAMETERS, PARAMETERS[::-1]),
    ],
)
def test_other_products_of_parameters_stay_apart(decay: Any) -> None:
    step = compare(lambda x: MODEL(x) ** 2 + 0.1 * decay(), PARAMETERS, BATCH)
    assert "gradient[0:25] += " not in step.source


def test_a_parameter_that_is_read_by_the_decay_alone() -> None:
    weights = [Value(0.1 * i, label=f"w{i}") for i in range(4)] + [Value(2.0, label="theta")]
    step = compare(lambda x: tg.dot(weights[:3], x) ** 2 + squares(weights), weights, np.ones((2, 3)))
    assert step.value_and_grad(np.ones((2, 3)))[1][4] == 4.0
    assert "sum of theta_ ** 2" in str(step.groups)
