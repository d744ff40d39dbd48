"""Hypothesis strategies: what a property test of derivatives is run on.

    values()      a leaf Value of an ordinary number
    programs()    a random expression graph, with shared nodes, repeated operands and constants
    networks()    a small MLP

    @given(programs(rules=["tanh", mish]))
    def test_gradients_are_finite(program):
        results = program.graph()
        results[-1].backward()
        assert all(math.isfinite(x.grad) for x in results)

What fails is shrunk and printed as Python that can be pasted into a session. Wrong arguments raise at once, when
the strategy is made, not when it is drawn from.
"""

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from ...engine.refusals import is_count
from ...engine.rule import Rule
from ...engine.value import Value
from ...nn import MLP
from ...nn.neurons import ACTIVATIONS
from .random_program import Program, Step, expressions

Kind = Callable[[Any], Any]
_SMALLEST = sys.float_info.min  # of the floats that have all their digits


def values(min_value: Any = None, max_value: Any = None, *, kind: Kind = float) -> st.SearchStrategy[Value]:
    """Leaf Values, a fresh one in every draw, from min_value to max_value, both included.

    They hold finite floats that are not subnormal; with kind=Fraction, Fractions whose denominator is 8 at most
    (or that of an end); with kind=mpmath.mpf, floats as mpmath numbers. An end that is not given is -10 or 10,
    where exp is far from overflow, moved if that leaves a range of less than 20.

    Raises ValueError if the range is empty or an end is not finite, TypeError for another kind.
    """
    for end in (min_value, max_value):
        if end is not None and not (hasattr(end, "__neg__") and math.isfinite(end)):
            raise ValueError(f"min_value and max_value are finite numbers, got {end!r}.")
    low = min_value if min_value is not None else -10 if max_value is None else min(-10, max_value - 20)
    return _numbers(low, max(10, low + 20) if max_value is None else max_value, kind).map(Value)


def _numbers(low: Any, high: Any, kind: Kind) -> st.SearchStrategy[Any]:
    if kind is not float and kind is not Fraction and kind is not getattr(sys.modules.get("mpmath"), "mpf", None):
        raise TypeError(f"kind is float, fractions.Fraction or mpmath.mpf, got {kind!r}.")
    if low > high:
        raise ValueError(f"The range is empty: min_value={low!r} is above max_value={high!r}.")
    if kind is Fraction:
        low, high = Fraction(low), Fraction(high)
        return st.fractions(low, high, max_denominator=max(8, low.denominator, high.denominator))
    if 0 < low <= high < _SMALLEST or -_SMALLEST < low <= high < 0:
        raise ValueError(f"From {low!r} to {high!r} there are subnormal floats only.")
    return st.floats(float(low), float(high), allow_subnormal=False).map(kind)


def programs(
    rules: Iterable[Rule | str] | None = None, max_nodes: int = 40, *, kind: Kind = float, max_inputs: int = 4
) -> st.SearchStrategy[Program]:
    """Random programs of these rules, whose graphs have max_nodes nodes at most, inputs and constants included.

    `rules` are Rules, names of rules, and expressions in a, b, c, d such as "log(1 + a * a)". A rule of ours comes
    in the expressions of `TEMPLATES`, so its graph may have other operations too, which keep numbers in the
    domain and below 4 in size: "exp" comes as exp(tanh(a)). A rule of yours is called inside its declared domain,
    with the defaults of its parameters, and squashed by atan if it leaves [-4, 4]. None is every rule of ours,
    `SMOOTH` those without kinks. Inputs are numbers from -4 to 4 of the kind: float, fractions.Fraction (of the
    rules those that keep Fractions exact) or mpmath.mpf.

    Raises TypeError for another kind or what is no rule, ValueError for a rule or an expression that cannot be
    used (see `expressions`), and if max_nodes leaves no room for any step or there is no input.
    """
    if not is_count(max_inputs):
        raise ValueError(f"A program has one input or more, got max_inputs={max_inputs!r}.")
    numbers, costs = _numbers(-4, 4, kind), expressions(rules, exact=kind is Fraction)
    cheapest = min(costs.values())
    fitting = {expression: cost for expression, cost in costs.items() if cost < max_nodes}
    if not fitting:
        raise ValueError(f"max_nodes={max_nodes} is too small: one input and one step take {1 + cheapest} nodes.")
    return _programs(numbers, fitting, max_nodes, max_inputs)


@st.composite
def _programs(
    draw: st.DrawFn, numbers: st.SearchStrategy[Any], costs: dict[str, int], max_nodes: int, max_inputs: int
) -> Program:
    # A step is few choices, as Hypothesis deletes few in a row; with `a` a recent result, few steps lead nowhere.
    step = st.tuples(st.sampled_from(list(costs)), st.integers(0, 2), st.integers(0, 1727))  # 12^3 - 1
    some = st.lists(step)
    inputs = draw(st.lists(numbers, min_size=1, max_size=max_inputs))
    parts = draw(st.tuples(some, some, some))  # three lists are longer than one, and each of them shrinks
    drawn = [step for part in parts for step in part] or [draw(step)]

    inputs = inputs[: max_nodes - costs[drawn[0][0]]]  # the first step always fits
    steps: list[Step] = []
    room = max_nodes - len(inputs)
    for expression, a, others in drawn:
        if costs[expression] <= room:
            steps.append((expression, (a, others, others // 12, others // 144)))
            room -= costs[expression]
    return Program(tuple(inputs), tuple(steps))


def networks(
    max_inputs: int = 3, max_width: int = 4, max_layers: int = 3, activations: Sequence[str] = ACTIVATIONS
) -> st.SearchStrategy[MLP]:
    """Small networks with one output, printed as the call: MLP(2, [3, 1], activation='tanh', rng=0).

    1 to max_inputs inputs, 1 to max_layers layers, of which the hidden ones have 1 to max_width neurons and one
    of the activations; rng is the seed of the weights. A network takes len(net.layers[0].neurons[0].w) inputs.

    Raises ValueError if a maximum is less than 1, or for no activation or one that `nn` does not have.
    """
    if not all(map(is_count, (max_inputs, max_width, max_layers))):
        raise ValueError(
            f"A network has inputs, width and layers of 1 or more: {max_inputs, max_width, max_layers}."
        )
    unknown = [name for name in activations if name not in ACTIVATIONS]
    if unknown or not activations:
        raise ValueError(f"activations are one or more of {', '.join(ACTIVATIONS)}; got {activations!r}.")
    hidden = st.lists(st.integers(1, max_width), max_size=max_layers - 1)
    return st.builds(
        MLP,
        st.integers(1, max_inputs),
        hidden.map(lambda widths: [*widths, 1]),
        activation=st.sampled_from(activations),
        rng=st.integers(0, 999),
    )
