"""The time machine: a backward pass that is walked forward and back at the prompt."""

import operator
from typing import Any

from ..engine.value import Value
from ..viz.names import variables_in_sight
from ..viz.words import four_digits
from .bookkeeping import mistakes
from .showing import Steps
from .stepping import Step, expression

LINES = 40  # nodes in one frame


class Machine:
    """A backward pass that you drive: next(), back(), goto(a node or a number), run(), reset().

    Each command returns the machine, whose text is the current frame: the step just taken, then the nodes from
    the result to the inputs, with their numbers and the gradients so far (`-` where nothing has arrived yet).
    `->` marks the node whose turn is next; `done` are those whose gradient is complete and has been passed on.

    No `.grad` is written. The first and the last frame say if a number was changed after the forward pass, and the
    last if gradients were not set to zero between passes.

    Raises TypeError if root is not one Value or upstream not one number. If a rule fails, the command raises its
    error, with a note that names the node, and the machine stays where it was.

    >>> a, b = Value(2.0, label="a"), Value(-3.0, label="b")
    >>> Machine((a * b).tanh()).next()
    step 1 of 2
    #3 = tanh(#2): #2 receives upstream * slope = 1 * 2.458e-05 = 2.458e-05; #2.grad 0 -> 2.458e-05
    <BLANKLINE>
    done  #3 = tanh(#2)  -1  grad 1
    ->    #2 = a * b     -6  grad 2.458e-05
          a              2   grad -
          b              -3  grad -
    """

    def __init__(self, root: Value, upstream: Any = 1.0):
        self.steps = Steps(root, upstream, variables_in_sight())
        self._position = 0
        self._rows: tuple[Value, ...] = self.steps.order[::-1]
        self._complete = self.steps.completed()

    @property
    def position(self) -> int:
        """How many steps have been taken."""
        return self._position

    @property
    def step(self) -> Step | None:
        """The step just taken; None at the start."""
        return self.steps[self._position - 1] if self._position else None

    @property
    def gradients(self) -> dict[Value, Any]:
        """Each node's gradient so far."""
        return self.steps.gradients(self._position)

    # --- Commands -------------------------------------------------------------------------------------------

    def next(self) -> "Machine":
        """Take the next step; at the end, stay there."""
        return self._at(min(self._position + 1, len(self.steps)))

    def back(self) -> "Machine":
        """Undo the step just taken; at the start, stay there."""
        return self._at(max(self._position - 1, 0))

    def run(self) -> "Machine":
        """Take all steps that are left."""
        return self._at(len(self.steps))

    def reset(self) -> "Machine":
        """Go back to the start."""
        return self._at(0)

    def goto(self, target: Value | int) -> "Machine":
        """Go to just after the step of a node, or to where so many steps have been taken.

        Raises ValueError if the node is not in the graph or a leaf, or if there are not so many steps.
        """
        if not isinstance(target, Value):
            if not 0 <= operator.index(target) <= len(self.steps):
                raise ValueError(f"goto takes 0 to {len(self.steps)}, the number of steps, got {target}.")
            return self._at(operator.index(target))
        if target not in self._complete:
            raise ValueError(f"{target!r} is not among the nodes that the result was computed from.")
        position = self._complete[target]
        if target.rule is None:
            raise ValueError(
                f"{self.steps.name(target)} is a leaf and has no step of its own: its gradient is complete at "
                f"goto({position})."
            )
        return self._at(position)

    def _at(self, position: int) -> "Machine":
        if position:
            self.steps[position - 1]  # computed here, so that a rule's error comes from the command, not the text
        self._position = position
        return self

    # --- The frame ------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        step, end = self.step, len(self.steps)
        header = f"step {self._position:,} of {end:,}"
        if self._position == end:
            header += " - the end: all gradients are complete, next() stays here"
        elif step is None:
            header += " - the start: back() stays here"
        root = self.steps.root
        begin = f"{self.steps.name(root)}.grad is {four_digits(self.steps.reached(0)[root])}, all others are 0"
        return "\n".join([header, step.sentence if step else begin, "", *self._listing(), *self._mistakes()])

    def _mistakes(self) -> list[str]:
        """At either end, what was done wrong around the backward pass."""
        names = {node: self.steps.name(node) for node in self.steps.order}
        order, root = list(self.steps.order), self.steps.root
        if self._position == len(self.steps):
            seed = self.steps.reached(0)[root]
            ones = {node: gradient / seed for node, gradient in self.gradients.items()} if seed else {}
            found = mistakes(order, ones, names)
        else:
            found = mistakes(order, {}, names) if not self._position else []
        return ["", *found] if found else []

    def _listing(self) -> list[str]:
        """The nodes around the frontier, one per line, and how many there are above and below them."""
        nodes = self.steps.nodes
        turn = nodes[self._position] if self._position < len(nodes) else None
        frontier = self._rows.index(turn) if turn is not None else len(self._rows)
        first = max(0, min(frontier - LINES // 2, len(self._rows) - LINES))
        shown = self._rows[first : first + LINES]
        below = len(self._rows) - first - len(shown)
        above = [f"... {first:,} nodes above are not shown, all done"] if first else []
        return above + self._table(shown, turn) + [f"... {below:,} nodes below are not shown"] * bool(below)

    def _table(self, shown: tuple[Value, ...], turn: Value | None) -> list[str]:
        name, reached = self.steps.name, self.steps.reached(self._position)
        written = [f"{name(n)} = {expression(n, name)}" if n.rule else name(n) for n in shown]
        numbers = [four_digits(self.steps.data[node]) for node in shown]
        widths = [min(max(map(len, column)), LINES) for column in (written, numbers)]
        lines = []
        for node, text, number in zip(shown, written, numbers, strict=True):
            mark = "->" if node is turn else "done" if self._complete[node] <= self._position else ""
            gradient = four_digits(reached[node]) if node in reached else "-"
            lines.append(f"{mark:4}  {text:{widths[0]}}  {number:{widths[1]}}  grad {gradient}")
        return lines
