"""An expression from the command line, `tanh(a*b + c)` with a=2, as a graph: parsed by `ast`, never evaluated.

It may have names, numbers, + - * / **, and our own functions. Everything else is an ExpressionError: one line that
says what is wrong.
"""

import ast
import difflib
import operator
import unicodedata
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from ..engine.rules import RULES
from ..engine.value import Value
from ..viz.words import clipped, four_digits, visible

LONGEST = 1000  # characters
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
WRITTEN_WITH_SIGNS = {"add", "sub", "mul", "div", "neg", "pow", "pow_n", "dot"}
FUNCTIONS = {name: rule for name, rule in RULES.items() if name not in WRITTEN_WITH_SIGNS}


class ExpressionError(ValueError):
    """The text is not an expression that this command line understands. The message is one line."""

    def __init__(self, message: str):
        super().__init__(clipped(visible(message), 399))


class Expression:
    """A function of named numbers, in the order in which the names first occur.

    Raises ExpressionError if the text is not an expression, or has no name in it.

    >>> f = Expression("tanh(a*b + c)")
    >>> f.names, f(0.5, 2.0, -1.0)
    (['a', 'b', 'c'], 0.0)
    """

    def __init__(self, text: str):
        text = text.strip()
        self.text: str = text
        self.__name__ = text  # what a report calls the function
        self.names: list[str] = []
        try:
            self._compute = self._function(_parsed(text))
        except RecursionError:
            raise ExpressionError("The expression is nested too deeply.") from None
        if not self.names:
            raise ExpressionError(f"{text!r} has no variable to take a derivative by, such as x.")

    def __call__(self, *numbers: Any) -> Any:
        """The result for numbers or Values, one per name. Raises ExpressionError outside a function's domain."""
        try:
            return self._compute(dict(zip(self.names, numbers, strict=True)))
        except OverflowError:
            raise ExpressionError("A number in the expression is too large for a float.") from None
        except TypeError as error:
            raise ExpressionError(f"It cannot be computed: {error}") from None

    def _function(self, node: ast.expr) -> Callable[[dict[str, Any]], Any]:
        """The function of the numbers by name that a part of the expression is."""
        match node:
            case ast.Name(id=name):
                self.names += [name] * (name not in self.names)
                return operator.itemgetter(name)
            case ast.Constant(value=number) if _is_number(node):
                return lambda numbers: float(number)  # type: ignore[arg-type]  # a number
            case ast.BinOp(op=sign, left=left, right=right) if type(sign) in OPERATORS:
                function, parts = OPERATORS[type(sign)], [left, right]
            case ast.UnaryOp(op=sign, operand=operand) if type(sign) in OPERATORS:
                function, parts = OPERATORS[type(sign)], [operand]
            case ast.Call(args=parts):
                function = self._called(node)
            case ast.BinOp(op=sign) | ast.UnaryOp(op=sign):
                hint = " Write a power with **, as in a**2." * isinstance(sign, ast.BitXor)
                raise ExpressionError(f"{self._shown(node)} has an operator other than + - * / **.{hint}")
            case _:
                text = f"{self._shown(node)} is not allowed"
                raise ExpressionError(f"{text}: use names, numbers, + - * / ** and functions.")
        operands = [self._function(part) for part in parts]
        return lambda numbers: _applied(function, [operand(numbers) for operand in operands])

    def _called(self, node: ast.Call) -> Any:
        """The rule that is called, with its parameters."""
        shown, name = self._shown(node.func), getattr(node.func, "id", "")
        if _is_number(node.func) or isinstance(node.func, ast.BinOp | ast.UnaryOp | ast.Call):
            text = f"{self._shown(node)} calls {shown}, which is no function."
            raise ExpressionError(f"{text} Write a product with *, as in 2*a.")
        if name not in FUNCTIONS:
            near = difflib.get_close_matches(shown, FUNCTIONS, 2)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(FUNCTIONS)}."
            raise ExpressionError(f"{shown} is no function here; {hint}")
        for keyword in node.keywords:
            if keyword.arg not in FUNCTIONS[name].parameters:
                raise ExpressionError(f"{name} has no such parameter: {self._shown(keyword)}.")
            if not _is_number(getattr(keyword.value, "operand", keyword.value)):
                text = self._shown(keyword)
                raise ExpressionError(f"A parameter is a plain number, as in alpha=0.2, not {text}.")
        return FUNCTIONS[name].bind(**{str(word.arg): self._function(word.value)({}) for word in node.keywords})

    def _shown(self, node: ast.AST) -> str:
        return clipped(ast.get_source_segment(self.text, node) or "", 40)

    def graph(self, assignments: Iterable[str]) -> Value:
        """The result on Values labelled by name, for `a=2`, `b=3`.

        Raises ExpressionError if a name has no number or two, if it is not in the expression, or if the result
        cannot be computed.
        """
        pairs = list(map(_assignment, assignments))
        numbers = dict(pairs)
        if len(numbers) < len(pairs):
            raise ExpressionError("A name is given two numbers.")
        missing = [name for name in self.names if name not in numbers]
        if missing:
            raise ExpressionError(f"Give a number for {missing[0]!r} after the expression: {missing[0]}=2.")
        unused = [name for name in numbers if name not in self.names]
        if unused:
            raise ExpressionError(f"{unused[0]!r} is not in the expression, which has {', '.join(self.names)}.")
        result = self(*(Value(numbers[name], label=name) for name in self.names))
        if not isinstance(result, Value) or result.rule is None:
            raise ExpressionError(f"{self.text!r} computes nothing: use an operation, as in x*x.")
        result.label = "result" if "result" not in self.names else ""
        return result


def _assignment(text: str) -> tuple[str, float]:
    name, sign, number = text.partition("=")
    try:
        if sign and name.strip().isidentifier():
            return unicodedata.normalize("NFKC", name.strip()), float(number)  # as Python reads a name
    except ValueError:
        pass
    raise ExpressionError(f"{text!r} gives no number to a name: write it as a=2 or a=-0.5.")


def _parsed(text: str) -> ast.expr:
    if len(text) > LONGEST:
        raise ExpressionError(f"The expression has {len(text):,} characters; the limit is {LONGEST:,}.")
    try:
        text.encode()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of Python's own, such as for 0o7inf: then it is an error
            return ast.parse(text, mode="eval").body
    except UnicodeEncodeError:
        raise ExpressionError("The expression has bytes that are not text.") from None
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = getattr(error, "msg", None) or "it is nested too deeply"
        hint = " Write a product with *, as in 2*a." * (reason == "invalid decimal literal")
        raise ExpressionError(f"This is not an expression: {reason}.{hint}") from None


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def _applied(function: Any, operands: list[Any]) -> Any:
    """The result of one operation. Raises ExpressionError, with the numbers, where it is not defined."""
    try:
        result = function(*operands)
    except OverflowError:
        raise
    except (ValueError, ArithmeticError) as error:
        reason = str(error).partition("): ")[2] or str(error)  # without the operands as the engine writes them
    else:
        if not isinstance(result, complex):
            return result
        reason = "a negative base with a non-integer exponent has no real result"
    name = getattr(function, "name", "") or {operator.truediv: "div"}.get(function, function.__name__)
    raise ExpressionError(f"It cannot be computed: {name}({', '.join(map(_operand, operands))}): {reason}")


def _operand(x: Any) -> str:
    if isinstance(x, Value):
        return f"{x.label} = {four_digits(x.data)}" if x.label else four_digits(x.data)
    return four_digits(x)
