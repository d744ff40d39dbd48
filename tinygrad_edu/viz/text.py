"""The graph in words: how numbers, labels and whole trees look as text."""

import reprlib
import sys
import unicodedata
from collections import Counter, deque
from typing import Any

from ..graph import topological_order
from ..value import Value

DEPTH = 20  # levels of indentation; what lies deeper continues in a block of its own


class Tree(str):
    """Text that the REPL shows as it is: `tree(y)` on a line of its own looks like `print(tree(y))`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def tree(root: Value, max_lines: int = 200, ascii: bool | None = None) -> Tree:
    """What root was computed from, one node per line: `label = data   grad g   operation`, its inputs below it.

    A node that is used twice is written out once; `↑ x` points up to it, `↓ x` down to a block that continues
    below. Where the label alone cannot name it, its place in `topological_order` is added: `#3`, `x#3`.

    Control characters in a label are shown as Python escapes, so that a line stays a line. With ascii=True the
    text is plain ASCII; None asks whether the terminal's encoding has the characters for branches and arrows.
    After max_lines lines, one line says how many nodes are not shown.

    >>> x = Value(3.0, label="x")
    >>> y = (x * x + 1.0).tanh()
    >>> tree(y, ascii=True)
    1   grad 0   tanh
    `- 10   grad 0   +
       |- 9   grad 0   *
       |  |- x = 3   grad 0
       |  `- ^ x
       `- 1   grad 0
    """
    order = nodes_below(root)
    numbers = {node: number for number, node in enumerate(order)}
    uses = Counter(parent for node in order for parent in node.parents)
    owners = Counter(node.label for node in order)

    def name(node: Value) -> str:
        unique = node.label and owners[node.label] == 1
        return visible(node.label) if unique else f"{visible(node.label)}#{numbers[node]}"

    def described(node: Value, named: bool) -> str:
        title = name(node) if named else visible(node.label)
        operation = f"   {visible(node.rule.symbol)}" if node.rule else ""
        return f"{title} = " * bool(title) + f"{four_digits(node.data)}   grad {four_digits(node.grad)}{operation}"

    terminal = getattr(sys.stdout, "encoding", None) or "utf-8"
    encoding = {None: terminal, True: "ascii", False: "utf-8"}[ascii]
    branch, last, bar, up, down, more = _signs(encoding)
    lines: list[str] = []
    arrows: dict[Value, str] = {}  # where to look for a node that has been met before
    blocks = deque([root])
    stack: list[tuple[Value, str, str, int]] = []  # node, its branch, the indentation of its inputs, its level
    while (stack or blocks) and len(lines) < max_lines:
        starts_block = not stack
        if starts_block:
            stack.append((blocks.popleft(), "", "", 0))
            arrows.pop(stack[0][0], None)
        node, lead, indent, level = stack.pop()
        if level == DEPTH and node.parents and node not in arrows:
            arrows[node] = down
            blocks.append(node)
        if node in arrows:
            lines.append(f"{lead}{arrows[node]} {name(node)}")
            continue
        arrows[node] = up
        lines.append(lead + described(node, named=uses[node] > 1 or (starts_block and node is not root)))
        below = [(parent, indent + branch, indent + bar, level + 1) for parent in node.parents]
        if below:
            below[-1] = (node.parents[-1], indent + last, indent + " " * len(last), level + 1)
        stack += reversed(below)
    if stack or blocks:
        hidden = len(order) - sum(arrow == up for arrow in arrows.values())
        lines.append(f"{more} stopped after {max_lines:,} lines: {hidden:,} of {len(order):,} nodes are not shown")
    return Tree("\n".join(lines).encode(encoding, "backslashreplace").decode(encoding))


def _signs(encoding: str) -> tuple[str, ...]:
    """Branch, last branch, bar, up, down and ellipsis, as far as the encoding has them."""
    signs = ("├─ ", "└─ ", "│  ", "↑", "↓", "…")
    try:
        "".join(signs).encode(encoding)
    except UnicodeEncodeError:
        return "|- ", "`- ", "|  ", "^", "v", "..."
    return signs


def nodes_below(root: Value) -> list[Value]:
    """`topological_order(root)`, after a check that root is one Value."""
    if not isinstance(root, Value):
        raise TypeError(
            f"Pass one Value, the result of a computation, not {reprlib.repr(root)} ({type(root).__name__}). "
            "For several results, show each of them, or their sum."
        )
    return topological_order(root)


def four_digits(x: Any) -> str:
    """x as `.4g`, so that -0, nan and inf stay visible; an exact number beyond the floats keeps its own repr."""
    try:
        return f"{float(x):.4g}"
    except OverflowError:
        return reprlib.repr(x)


_REORDERING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def visible(label: str) -> str:
    r"""label on one line: characters that no line can hold are written as Python escapes, all others are kept.

    These are control characters, line and paragraph separators, surrogates, the two code points that XML
    forbids, and the marks that would reorder the text around the label.

    >>> print(visible("a\nb\x00 λ"))
    a\nb\x00 λ
    """
    return "".join(map(_visible, str(label)))


def _visible(char: str) -> str:
    hidden = unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} or char in "\ufffe\uffff"
    if hidden or unicodedata.bidirectional(char) in _REORDERING:
        return char.encode("unicode_escape").decode()
    return char
