"""The graph in words: a tree for the terminal."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice

from ..engine.value import Value
from .names import called, names_of, variables_in_sight
from .reading import backward_has_been, nodes_below
from .strangers import adopted
from .words import DASH, UnquotedText, four_digits, visible

DEPTH = 20  # levels of indentation; what lies deeper continues in a block of its own
IN_ASCII = str.maketrans({"├": "|", "└": "`", "│": "|", "─": "-", "↑": "^", "↓": "v", "…": "...", DASH: "-"})


def tree(
    root: Value,
    max_lines: int = 200,
    ascii: bool | None = None,
    *,
    depth: int | None = None,
    width: int | None = None,
    variables: Mapping[Value, str] | None = None,
) -> UnquotedText:
    """What root was computed from, one node per line: `name = data   grad g   operation`, its inputs below it.

    The name is the label, else the variable that holds the Value where tree is called. A node that is used twice
    is written out once; `↑ x` points up to it, `↓ x` down to a block that continues below. Where the name alone
    does not tell which node is meant, its place in `topological_order` is added: `#3`, `x#3`. Before any
    backward pass (all gradients are 0, the root's too) a dash stands for them.

    Control characters in a label are shown as Python escapes, so that a line stays a line. With ascii=True the
    text is plain ASCII; with None it is, unless the terminal's encoding has the signs for branches and arrows.
    After max_lines lines, more than depth levels down, or beyond the first width operands of a node, a line says
    how much is not shown. The text has no colour, whatever NO_COLOR says. `variables` name the nodes without a
    label; by default they are those of the caller.

    Raises TypeError if root is not one Value, ValueError unless the limits are whole numbers of 1 or more.

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
    variables = variables_in_sight(variables)
    order = nodes_below(*adopted(root))
    for name, limit in (("max_lines", max_lines), ("depth", depth), ("width", width)):
        if (limit is not None or name == "max_lines") and (not isinstance(limit, int) or limit < 1):
            raise ValueError(f"{name} is a whole number of 1 or more, got {limit!r}.")
    terminal = getattr(sys.stdout, "encoding", None) or "utf-8"
    encoding = terminal if ascii is None else "ascii" if ascii else "utf-8"
    every = _lines(order, variables, depth, width)
    shown = list(islice(every, max_lines))
    stopped = f"stopped after {max_lines:,} lines: " if next(every, None) else ""
    missing = len(order) - sum(is_node for _, is_node in shown)
    lines = [line for line, _ in shown]
    if missing or stopped:
        lines.append(f"… {stopped}{missing:,} of {len(order):,} nodes are not shown")
    text = "\n".join(lines)
    try:
        "".join(map(chr, IN_ASCII)).encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(IN_ASCII)
    return UnquotedText(text.encode(encoding, "backslashreplace").decode(encoding))


def _lines(
    order: list[Value], variables: Mapping[Value, str], depth: int | None, width: int | None
) -> Iterator[tuple[str, bool]]:
    """Each line of a tree, and whether it writes a node out.

    They come in blocks: a node that lies too deep is written in a block of its own.
    """
    names, passed = names_of(order, variables), backward_has_been(order)
    uses = Counter(parent for node in order for parent in node.parents)
    arrows: dict[Value, str] = {}  # where to look for a node that was met before
    blocks = [order[-1]]
    for first in blocks:
        arrows.pop(first, None)
        # a node or a line of text, its branch, the indentation of its operands, its level
        stack: list[tuple[Value | str, str, str, int]] = [(first, "", "", 0)]
        while stack:
            node, lead, indent, level = stack.pop()
            if isinstance(node, str):
                yield lead + node, False
                continue
            if level == DEPTH and node.parents and node not in arrows:
                arrows[node] = "↓"
                blocks.append(node)
            if node in arrows:
                yield f"{lead}{arrows[node]} {names[node]}", False
                continue
            arrows[node] = "↑"
            needs_name = uses[node] > 1 or (node is first and node is not order[-1])
            title = names[node] if needs_name else visible(called(node, variables))
            grad = four_digits(node.grad) if passed else DASH
            operation = f"   {visible(node.rule.symbol)}" if node.rule else ""
            yield f"{lead}{f'{title} = ' * bool(title)}{four_digits(node.data)}   grad {grad}{operation}", True
            shown = node.parents[: 0 if depth is not None and level >= depth else width]
            hidden = len(node.parents) - len(shown)
            parts: list[Value | str] = [
                *shown,
                *[f"… {hidden:,} operand{'s' * (hidden > 1)} not shown"] * bool(hidden),
            ]
            below = [(part, f"{indent}├─ ", f"{indent}│  ", level + 1) for part in parts]
            below[-1:] = [(part, f"{indent}└─ ", f"{indent}   ", level + 1) for part in parts[-1:]]
            stack += reversed(below)
