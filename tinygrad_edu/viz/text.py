"""The graph in words: a tree for the terminal."""

import sys
from collections import Counter, deque
from collections.abc import Mapping

from ..engine.value import Value
from .names import names_of, variables_in_sight
from .reading import backward_has_been, nodes_below
from .words import DASH, four_digits, visible

DEPTH = 20  # levels of indentation; what lies deeper continues in a block of its own


class Tree(str):
    """Text that the REPL shows as it is: `tree(y)` on a line of its own looks like `print(tree(y))`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def tree(
    root: Value,
    max_lines: int = 200,
    ascii: bool | None = None,
    *,
    depth: int | None = None,
    width: int | None = None,
) -> Tree:
    """What root was computed from, one node per line: `name = data   grad g   operation`, its inputs below it.

    The name is the label, else the variable that holds the Value where tree is called. A node that is used twice
    is written out once; `↑ x` points up to it, `↓ x` down to a block that continues below. Where the name alone
    does not tell which node is meant, its place in `topological_order` is added: `#3`, `x#3`. Before any
    backward pass (all gradients are 0, the root's too) a dash stands for them.

    Control characters in a label are shown as Python escapes, so that a line stays a line. With ascii=True the
    text is plain ASCII; None asks whether the terminal's encoding has the characters for branches and arrows.
    After max_lines lines, more than depth levels down, or beyond the first width operands of a node, a line says
    how much is not shown. There is no colour: the text is a str that
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
    return tree_of(root, variables_in_sight(), max_lines, ascii, depth, width)


def tree_of(
    root: Value,
    variables: Mapping[Value, str],
    max_lines: int = 200,
    ascii: bool | None = None,
    depth: int | None = None,
    width: int | None = None,
) -> Tree:
    """`tree`, where unlabelled nodes are called as `variables` says."""
    order = nodes_below(root)
    for name, limit in (("max_lines", max_lines), ("depth", depth), ("width", width)):
        if (limit is not None or name == "max_lines") and (not isinstance(limit, int) or limit < 1):
            raise ValueError(f"{name} is a whole number of 1 or more, got {limit!r}.")
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
    # a node or a line of text, its branch, the indentation of its inputs, its level
    stack: list[tuple[Value | str, str, str, int]] = []
    while (stack or blocks) and len(lines) < max_lines:
        starts_block = not stack
        if starts_block:
            first = blocks.popleft()
            stack.append((first, "", "", 0))
            arrows.pop(first, None)
        node, lead, indent, level = stack.pop()
        if isinstance(node, str):
            lines.append(lead + node)
            continue
        if level == DEPTH and node.parents and node not in arrows:
            arrows[node] = down
            blocks.append(node)
        if node in arrows:
            lines.append(f"{lead}{arrows[node]} {names[node]}")
            continue
        arrows[node] = up
        lines.append(lead + described(node, named=uses[node] > 1 or (starts_block and node is not root)))
        shown = node.parents[: 0 if depth is not None and level >= depth else width]
        hidden = len(node.parents) - len(shown)
        cut: list[Value | str] = [f"{more} {hidden:,} operand{'s' * (hidden > 1)} not shown"] if hidden else []
        parts = [*shown, *cut]
        below = [(part, indent + branch, indent + bar, level + 1) for part in parts]
        if below:
            below[-1] = (parts[-1], indent + last, indent + " " * len(last), level + 1)
        stack += reversed(below)
    missing = len(order) - sum(arrow == up for arrow in arrows.values())
    if missing or stack or blocks:
        why = f"stopped after {max_lines:,} lines: " if stack or blocks else ""
        lines.append(f"{more} {why}{missing:,} of {len(order):,} nodes are not shown")
    return Tree("\n".join(lines).encode(encoding, "backslashreplace").decode(encoding))


def _signs(encoding: str) -> tuple[str, ...]:
    """Branch, last branch, bar, up, down, ellipsis and dash, as far as the encoding has them."""
    signs = ("├─ ", "└─ ", "│  ", "↑", "↓", "…", DASH)
    try:
        "".join(signs).encode(encoding)
    except UnicodeEncodeError:
        return "|- ", "`- ", "|  ", "^", "v", "...", "-"
    return signs
