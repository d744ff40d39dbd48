"""What the compiler must find in programs as people write them: products, views, whole matrices, weight decay."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from comparing import compare, values
from programs import flat, normal

import tinygrad_edu as tg
from tinygrad_edu import Value, nn


def compiled(function: Callable[..., Any], parameters: Any, *batch: Any) -> Any:
    step = tg.compile(function, flat(parameters))
    step.value_and_grad(*batch)
    return step


def statements(step: Any) -> list[str]:
    """The lines of `run`, without comments."""
    lines = step.source.partition("    def run")[2].splitlines()
    return [line.strip() for line in lines if line.startswith("        ") and line.strip()[:1] != "#"]


def recurrence(steps: int, unit: int | None = None) -> Any:
    W, U, b = values(normal(4, 4)), values(normal(4, 4)), values(normal(4))

    def loss(x: Any) -> Value:
        h = x[0]
        for now in x[1:]:
            h = [tg.tanh(tg.dot(w, h) + tg.dot(u, now) + c) for w, u, c in zip(W, U, b, strict=True)]
        return h[unit] ** 2 if unit is not None else tg.sum([a * a for a in h])

    return compiled(loss, [W, U, b], normal(5, steps + 1, 4))


def test_every_product_of_a_sum_is_a_matrix_product() -> None:
    step = recurrence(4)
    assert step.groups.title.endswith(" 8 matrix products")
    assert "vecdot" not in "".join(statements(step)[:20])


@pytest.mark.parametrize("unit", [0, 2])
def test_a_unit_that_is_read_does_not_split_its_matrix(unit: int) -> None:
    shapes = re.findall(r"parameter .*?\((.*?)\)", str(recurrence(4, unit).groups))
    assert shapes == ["4, 4", "4, 4", "4"]


def test_transposes_and_interleaved_rows_are_views() -> None:
    W, V = values(normal(3, 4)), values(normal(24))

    def loss(x: Any) -> Value:
        rows = [[tg.tanh(tg.dot(w, place)) for w in W] for place in x]
        columns = [row[j] for j in range(3) for row in rows]  # transposed
        mixed = [columns[(i % 3) * 8 + i // 3] for i in range(24)][::-1]  # interleaved, in reverse
        return tg.dot(V, [tg.exp(m) for m in mixed]) + tg.dot(V, columns)

    step = compiled(loss, [W, V], normal(2, 8, 4))
    assert "index_" not in step.source


def test_max_pooling_reads_slices_and_sets_its_gradient_once() -> None:
    K = values(normal(2, 3, 3))

    def loss(image: Any) -> Value:
        out = []
        for kernel in K:
            plane = [
                [tg.dot(flat(kernel), flat([r[j : j + 3] for r in image[i : i + 3]])) for j in range(4)]
                for i in range(4)
            ]
            for i in (0, 2):
                out += [tg.max(*plane[i][j : j + 2], *plane[i + 1][j : j + 2]) for j in (0, 2)]
        return tg.sum([o * o for o in out])

    step = compiled(loss, K, normal(2, 6, 6))
    lines = statements(step)
    assert sum(line.startswith("np.maximum(") for line in lines) == 3
    assert not any("[...] = 0" in line or "scatter_add" in line for line in lines)


def test_the_gradient_of_a_scalar_parameter_is_a_sum_of_products() -> None:
    a = Value(0.3, label="a")

    def loss(x: Any) -> Value:
        for _ in range(3):  # four would be a loop
            x = tg.tanh(a * x)
        return x

    lines = statements(compiled(loss, [a], normal(4)))
    assert not any(".sum(axis=0" in line for line in lines)  # but three products of vectors, without an array
    assert sum("vecdot" in line for line in lines) == 3


# --- Weight decay is one product of the vector of the parameters ------------------------------------------------
MODEL = nn.MLP(2, [3, 3, 1], rng=0)
PARAMETERS = MODEL.parameters()
LAYER = PARAMETERS[:9]
BATCH = normal(5, 2)


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
