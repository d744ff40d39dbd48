"""An expression from the command line, `tanh(a*b + c)` with a=2, as a graph.

It may have names, numbers, + - * / **, and our own functions. Everything else is an ExpressionError, one line that
says what is wrong, before anything is computed.
"""

import ast
import difflib
import unicodedata
import warnings
from collections.abc import Iterable
from typing import Any

from ..engine.parsing import ParsedExpression
from ..engine.rules import RULES
from ..engine.value import Value
from ..viz.words import clipped, visible

LONGEST = 1000  # characters
SIGNS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.USub, ast.UAdd)
PARTS = (ast.Expression, ast.Name, ast.Load, ast.BinOp, ast.UnaryOp, *SIGNS)
WRITTEN_WITH_SIGNS = {"add", "sub", "mul", "div", "neg", "pow", "pow_n", "dot"}
FUNCTIONS = {name: rule for name, rule in RULES.items() if name not in WRITTEN_WITH_SIGNS}


def _power(base: Any, exponent: Any) -> Any:
    """Python's **; where that is complex, the rule raises."""
    result = base**exponent
    return RULES["pow"](base, exponent) if isinstance(result, complex) else result


# What stands for a function in the code, so that a variable may have its name.
CALLED: dict[str, Any] = {f"{name}()": rule for name, rule in FUNCTIONS.items()} | {"**": _power}


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
        self._parsed = _parsed(text)
        self.names: list[str] = [name for name in self._parsed.names if name not in CALLED]
        if not self.names:
            raise ExpressionError(f"{text!r} has no variable to take a derivative by, such as x.")

    def __call__(self, *numbers: Any) -> Any:
        """The result for numbers or Values, one per name. Raises ExpressionError outside a function's domain."""
        try:
            return self._parsed.value(CALLED | dict(zip(self.names, numbers, strict=True)))
        except OverflowError:
            raise ExpressionError("A number in the expression is too large for a float.") from None
        except (TypeError, ValueError, ArithmeticError) as error:
            raise ExpressionError(f"It cannot be computed: {error}") from None

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


class _OnlyAllowed(ast.NodeTransformer):
    """Lets names, numbers, signs and our functions pass. Raises ExpressionError for all else."""

    def __init__(self, text: str):
        self.text = text

    def visit(self, node: Any) -> Any:
        match node:
            case ast.Constant(value=number) if _is_number(node):
                return ast.Constant(float(number))  # type: ignore[arg-type]  # 9**9**9 of int would take for ever
            case ast.Call(args=parts):
                word = ast.Name(self._called(node), ast.Load())
                return ast.Call(word, [self.visit(part) for part in parts], node.keywords)
            case ast.BinOp(left=left, op=ast.Pow(), right=right):
                return ast.Call(ast.Name("**", ast.Load()), [self.visit(left), self.visit(right)], [])
            case ast.BinOp(op=sign) | ast.UnaryOp(op=sign) if not isinstance(sign, SIGNS):
                hint = " Write a power with **, as in a**2." * isinstance(sign, ast.BitXor)
                raise ExpressionError(f"{self._shown(node)} has an operator other than + - * / **.{hint}")
        if not isinstance(node, PARTS):
            text = f"{self._shown(node)} is not allowed"
            raise ExpressionError(f"{text}: use names, numbers, + - * / ** and functions.")
        return self.generic_visit(node)

    def _called(self, node: ast.Call) -> str:
        """The word for the function that is called."""
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
        return f"{name}()"

    def _shown(self, node: ast.AST) -> str:
        return clipped(ast.get_source_segment(self.text, node) or "", 40)


def _parsed(text: str) -> ParsedExpression:
    if len(text) > LONGEST:
        raise ExpressionError(f"The expression has {len(text):,} characters; the limit is {LONGEST:,}.")
    try:
        text.encode()
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of Python's own, such as for 0o7inf: then it is an error
            return ParsedExpression(text, _OnlyAllowed(text))
    except ExpressionError:
        raise
    except UnicodeEncodeError:
        raise ExpressionError("The expression has bytes that are not text.") from None
    except OverflowError:
        raise ExpressionError("A number in the expression is too large for a float.") from None
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        reason = getattr(error, "msg", None) or "it is nested too deeply"
        hint = " Write a product with *, as in 2*a." * (reason == "invalid decimal literal")
        raise ExpressionError(f"This is not an expression: {reason}.{hint}") from None


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)
