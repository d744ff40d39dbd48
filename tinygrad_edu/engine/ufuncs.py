"""NumPy's functions of Values: `np.tanh(v)` is `v.tanh()`, and `np.float64(2) * v` is `2.0 * v`.

NumPy asks `Value.__array_ufunc__` before it computes. Beside an array of Values, the operation is done element by
element; an array of numbers is refused, as it is by `Value(array)`.
"""

import functools
import math
import operator
from collections.abc import Callable
from typing import Any

from .dispatch import is_array, plain
from .rules import RULES
from .scalar import as_real

_NAMES = {"fabs": "absolute", "float_power": "power", "logaddexp": "logsumexp", "expit": "sigmoid"}
_NAMES |= {"maximum": "max", "minimum": "min"}
_OPERATORS: dict[str, Callable[..., Any]] = {"square": lambda x: x**2}
for _pair in """
    add:add subtract:sub multiply:mul divide:truediv remainder:mod power:pow negative:neg positive:pos absolute:abs
    less:lt less_equal:le greater:gt greater_equal:ge equal:eq not_equal:ne
""".split():
    _OPERATORS[_pair.partition(":")[0]] = getattr(operator, _pair.partition(":")[2])
for _name in ("isnan", "isinf", "isfinite"):
    _OPERATORS[_name] = functools.partial(lambda check, x: check(plain(x)), getattr(math, _name))
_INSTEAD = {
    "clip": "tg.min(tg.max(x, low), high)",
    "hypot": "(x**2 + y**2) ** 0.5",
    "cbrt": "x ** (1 / 3)",
    "arctan2": "tg.atan(y / x)",
    "heaviside": "tg.where(x > 0, 1.0, 0.0)",
}


def apply_ufunc(ufunc: Any, method: str, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """ufunc(*inputs), one of which is a Value.

    Raises TypeError for a function that is no operation of Values, and names what to use.
    """
    name = _NAMES.get(ufunc.__name__, ufunc.__name__)
    rule = RULES.get(name.replace("arc", "a"))
    function = _OPERATORS.get(name) or (rule if rule and rule.called != "otherwise" else None)
    if function is None or method != "__call__" or options:
        asked = (
            ufunc.__name__ + (f".{method}" if method != "__call__" else "") + (" with options" if options else "")
        )
        instead = _INSTEAD.get(name, "the operations of dir(tg), or x.data for the plain number")
        if method == "reduce":
            instead = "it on a list of Values, or tg.sum, tg.max and tg.min"
        raise TypeError(f"numpy.{asked} is no operation of Values: use {instead}.")
    inputs = tuple(x.item() if getattr(x, "ndim", None) == 0 else x for x in inputs)
    if not any(map(is_array, inputs)):
        return function(*inputs)
    import numpy as np

    for x in inputs:
        if is_array(x) and x.dtype != object:
            as_real(x)  # raises
    cells = [np.asarray(x, object) for x in inputs]  # an array of one Value asks no more
    return np.frompyfunc(function, len(cells), 1)(*cells)
