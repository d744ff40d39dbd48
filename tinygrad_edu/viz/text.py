"""The graph in words: a tree for the terminal."""

import sys
from collections import Counter, deque
from collections.abc import Mapping

from ..value import Value
from .names import names_of, variables_in_sight
from .reading import backward_has_been, nodes_below
from .words import DASH, four_digits, visible

__all__ = ["Tree", "four_digits", "nodes_below", "tree", "tree_of", "visible"]

DEPTH = 20  # levels of indentation; what lies deeper continues in a block of its own


class Tree(str):
    """Text that the REPL shows as it is: `tree(y)` on a line of its own looks like `print(tree(y))`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def tree(root: Value, max_lines: int = 200, ascii: bool | None = None) -> Tree:
    """What root was computed from, one node per line: `name = data   grad g   operation`, its inputs below it.

    The name is the label, else the variable that holds the Value where tree is called. A node that is used twice
    is written out once; `↑ x` points up to it, `↓ x` down to a block that continues below. Where the name alone
    does not tell which node is meant, its place in `topological_order` is added: `#3`, `x#3`. Before any
    backward pass (all gradients are 0, the root's too) a dash stands for them.

    Control characters in a label are shown as Python escapes, so that a line stays a line. With ascii=True the
    text is plain ASCII; None asks whether the terminal's encoding has the characters for branches and arrows.
    After max_lines lines, one line says how many nodes are not shown. There is no colour: the text is a str that
    may be compared, stored and sent down a pipe, NO_COLOR or not.

    >>> x = Value(3.0)
    >>> y = (x * x + 1.0).tanh()
    >>> tree(y, ascii=True)
    y = 1   grad -   tanh
    `- 10   grad -   +
       |- 9   grad -   *
       |  |- x = 3   grad -
       |  `- ^ x
       `- 1   grad -
    """
    return tree_of(root, variables_in_sight(), max_lines, ascii)


def tree_of(root: Value, variables: Mapping[Value, str], max_lines: int = 200, ascii: bool | None = None) -> Tree:
    """`tree`, where unlabelled nodes are called as `variables` says."""
    order = nodes_below(root)
    if not isinstance(max_lines, int) or max_lines < 1:
        raise ValueError(f"max_lines is a whole number of 1 or more, got {max_lines!r}.")
    names = names_of(order, variables)
    uses = Counter(parent for node in order for parent in node.parents)
    passed = backward_has_been(order)

    def described(node: Value, named: bool) -> str:
        title = names[node] if named else visible(node.label or variables.get(node, ""))
        grad = four_digits(node.grad) if passed else dash
        operation = f"   {visible(node.rule.symbol)}" if node.rule else ""
        return f"{title} = " * bool(title) + f"{four_digits(node.data)}   grad {grad}{operation}"

    terminal = getattr(sys.stdout, "encoding", None) or "utf-8"
    encoding = {None: terminal, True: "ascii", False: "utf-8"}[ascii]
    branch, last, bar, up, down, more, dash = _signs(encoding)
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
            lines.append(f"{lead}{arrows[node]} {names[node]}")
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
    """Branch, last branch, bar, up, down, ellipsis and dash, as far as the encoding has them."""
    signs = ("├─ ", "└─ ", "│  ", "↑", "↓", "…", DASH)
    try:
        "".join(signs).encode(encoding)
    except UnicodeEncodeError:
        return "|- ", "`- ", "|  ", "^", "v", "...", "-"
    return signs
