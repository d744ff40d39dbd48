"""Formulas: an array expression as a person writes it, for the comment above the lines that compute it."""

from collections.abc import Callable
from typing import Any

from .symbols import Symbol, infix

Name = Callable[[Symbol], str | None]  # what a part of a formula is called, None if it has no name


def formula_text(x: Any, name: Name, constant: Callable[[Any], str], level: int = 0) -> str:
    """The formula of x; `constant` names an array of numbers. Level 3 and above asks for brackets around a sum."""
    if isinstance(x, float) and x.is_integer() and abs(x) < 1e15:
        return str(int(x))
    return infix(x, lambda symbol: name(symbol) or _special(symbol, name, constant), level)


def total_text(x: Any, name: Name, constant: Callable[[Any], str]) -> str:
    """The formula of x without brackets around it, also if it is a sum of many."""
    if not isinstance(x, Symbol) or x.op != "accumulate":
        return formula_text(x, name, constant)
    text = ""
    for term in x.args:
        if isinstance(term, Symbol) and term.op == "neg" and text:
            text += f" - {formula_text(term.args[0], name, constant, 3)}"
        else:
            text += (" + " if text else "") + formula_text(term, name, constant, 2)
    return text


def transposed(text: str) -> str:
    """The text of a transposed matrix."""
    return text.removesuffix(".T") if text.endswith(".T") else f"{text}.T"


def _special(x: Symbol, name: Name, constant: Callable[[Any], str]) -> str | None:
    """How what is not plain arithmetic is written."""

    def text(y: Any, level: int = 0) -> str:
        return formula_text(y, name, constant, level)

    match x.op:
        case "leaf":
            return str(x.args[0])
        case "view":
            base, view = x.args
            return str(view.text(text(base, 4), base.batched, constant))
        case "expand":
            return f"{text(x.args[0], 4)}[..., None]"
        case "dense":
            return text(x.args[0], 4)
        case "stack":
            return ", ".join(text(part) for part in x.args)
        case "accumulate":
            return f"({total_text(x, name, constant)})"
        case "scatter":
            value, view = x.args
            if view.whole and view.transpose == (1, 0) and view.reshape is None and view.expand is None:
                if isinstance(value, Symbol) and value.op == "product_a" and value.args[0].shape:
                    return f"{transposed(text(value.args[1], 4))} @ {text(value.args[0], 4)}"
                return f"{text(value, 4)}.T"
            return text(value, 4) if view.whole else f"scatter({text(value)})"
        case "reduce":
            return f"{text(x.args[0], 4)}.sum({_axes_text(x)})"
        case "sum":
            return f"{text(x.args[0], 4)}.sum(axis=-1)"
        case "vecdot":
            return f"({text(x.args[0], 3)} * {text(x.args[1], 3)}).sum(axis=-1)"
        case "product":
            a, b = text(x.args[0], 4), text(x.args[1], 4)
            if len(x.args[0].shape) == len(x.args[1].shape) == 1 and x.args[0].batched:
                return f"({a} * {b}).sum(axis=-1)"
            return f"{b} @ {transposed(a) if len(x.args[0].shape) > 1 else a}"
        case "product_a":
            upstream, right = text(x.args[0], 4), text(x.args[1], 4)
            return f"{transposed(upstream) if x.args[0].shape else upstream} @ {right}"
        case "product_b":
            return f"({text(x.args[0], 4)} @ {text(x.args[1], 4)})"
        case "one_hot":
            return f"one_hot({text(x.args[0])})"
        case "rows":
            return f"{text(x.args[0], 4)}[{text(x.args[1])}]"
        case "pick":
            return f"{text(x.args[0], 4)}[{text(x.args[1])}]"
        case "call":
            return f"{x.args[0].name}({', '.join(text(a) for a in x.args[2:])})"
        case "max":
            return f"maximum({', '.join(text(a) for a in x.args)})" if len(x.args) == 2 else None
    return None


def _axes_text(x: Symbol) -> str:
    _, over_batch, axes = x.args
    lead = 1 if x.args[0].batched else 0
    every = ([0] if over_batch else []) + [axis + lead for axis in axes]
    return f"axis={every[0] if len(every) == 1 else tuple(every)}"
