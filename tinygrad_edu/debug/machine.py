"""The time machine: the forward and the backward pass of a graph, walked in both directions at the prompt."""

import operator
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ..engine.former import Former
from ..engine.scalar import as_real
from ..engine.value import Value
from ..viz.names import variables_in_sight
from ..viz.reading import read
from ..viz.words import clipped, four_digits, near
from .origins import source_line
from .passes import Audit, audit
from .paths import Named, Why, why
from .reasons import computed
from .stepping import Step, Steps, expression

NEAR = 12  # nodes in a frame; `listing` shows more
WIDE = 48  # characters of an operation in a frame


class Machine(Former):
    """Both passes of a graph. Move by next(), back(), goto(a node, its name or a number), run() and reset().

    It begins at the start of the backward pass; `forward()` goes to the start of the forward pass. Each command
    returns the machine, whose text is the current frame: the step just taken, the formula of its slopes with the
    numbers put in, and the nodes near it, from the result to the inputs, with their numbers and the gradients so
    far (`-` where nothing has arrived yet). `->` marks the node whose turn is next, `done` those whose gradient is
    complete and has been passed on, `*` a number that the last command changed.

    The letters are those of the stepping prompt (`tg.debug.run`): `n` over a module, `s` into it, `b` back, ...
    A string names a node: its label or the end of it, the variable that holds it, or its place such as "#3".

    No `.grad` is written. The first frame says if numbers were changed since the forward pass, the last one also
    if a gradient that the graph holds was there before the pass.

    Raises TypeError if root is not one Value or upstream not one number. If a rule fails, the command raises its
    error, with a note that names the node, and the machine stays where it was.

    >>> a, b = Value(2.0, label="a"), Value(-3.0, label="b")
    >>> Machine((a * b).tanh()).next()
    step 1 of 2
    #3 = tanh(#2): #2 receives upstream * slope = 1 * 2.458e-05 = 2.458e-05; #2.grad 0 -> 2.458e-05
    d#3/d#2 = 1 - #3^2 = 1 - (-0.99998771)^2 = 2.458e-05
    <BLANKLINE>
    done  #3 = tanh(#2)  -1  grad         1
    ->    #2 = a * b     -6  grad 2.458e-05 *
          a               2  grad         -
          b              -3  grad         -
    """

    _former: ClassVar = {
        "find": "machine.node(name) raises ValueError if there is none",
        "mistakes_at": "machine.frame() says what was changed, tg.blame(root) what is wrong",
    }

    def __init__(self, root: Value, upstream: Any = 1.0, *, variables: Mapping[Value, str] | None = None):
        self._variables = dict(variables_in_sight(variables))
        self._upstream, self._first, self._scopes = upstream, 0, dict[Value, tuple[str, ...]]()
        # How many steps of the backward pass have been taken; in the forward pass -k if k operations are left.
        self.position: int
        self._take(root)
        self._previous = self.steps, 0
        self._audit: Audit | None = audit(list(self.steps.order))
        self._leaves = {node: node.data for node in self.steps.order if node.rule is None}

    def _take(self, root: Value) -> None:
        """Start with the numbers that the graph has now."""
        self.steps: Steps = Steps(root, self._upstream, self._variables)
        self.position = 0
        self._place = {node: place for place, node in enumerate(reversed(self.steps.order))}
        self._complete = self.steps.completed()
        self.named: Named = Named(self.steps.names)

    @property
    def root(self) -> Value:
        return self.steps.root

    @property
    def step(self) -> Step | None:
        """The step of the backward pass just taken; None before the first."""
        return self.steps[self.position - 1] if self.position > 0 else None

    @property
    def current(self) -> Value | None:
        """The node of the step just taken, in either pass; None at the start of a pass."""
        return self._node_of(self.position)

    @property
    def coming(self) -> Value | None:
        """The node whose turn is next; None at the end."""
        return self._node_of(self.position + 1) if self.position < len(self.steps) else None

    @property
    def gradients(self) -> dict[Value, Any]:
        """Each node's gradient so far."""
        return self.steps.gradients(max(self.position, 0))

    def node(self, target: Value | str) -> Value:
        """The node of this name, or of the only name that ends in it: "neuron0.w1". A node of the graph is itself.

        Raises ValueError if there is none, or if a Value is not in the graph.
        """
        node = self.named.node(target) if isinstance(target, str) else target
        if node not in self._place:
            raise ValueError(f"{node!r} is not among the nodes that the result was computed from.")
        return node

    def gradient(self, node: Value) -> Any:
        """A node's gradient so far; None if no share has reached it."""
        return self.steps.gradient(self.node(node), self.position)

    def is_computed(self, node: Value, position: int | None = None) -> bool:
        """Has the forward pass come to this node, now or at another position?"""
        return node.rule is None or self._complete[node] > -(self.position if position is None else position)

    # --- Commands -------------------------------------------------------------------------------------------

    def next(self) -> "Machine":
        """Take the next step; at the end, stay there."""
        return self._at(min(self.position + 1, len(self.steps)))

    def back(self) -> "Machine":
        """Undo the step just taken; at the start, stay there."""
        return self._at(max(self.position - 1, self._first))

    def over(self) -> "Machine":
        """Take the next step; if it enters a module, all of that module's."""
        here, coming, position = self.scope(self.current), self.scope(self.coming), self.position + 1
        module = coming[: len(here) + 1]
        while len(here) < len(module) and module[:-1] == here and position < len(self.steps):
            if self.scope(self._node_of(position + 1))[: len(module)] != module:
                break
            position += 1
        return self._at(min(position, len(self.steps)))

    def run(self) -> "Machine":
        """Take all steps that are left."""
        return self._at(len(self.steps))

    def forward(self) -> "Machine":
        """Go to the start of the forward pass: nothing is computed but the leaves."""
        self._first = -len(self.steps)
        return self._at(self._first)

    def backward(self) -> "Machine":
        """Go to the start of the backward pass, which then is the start for `back` and `reset`."""
        self._first = 0
        return self._at(0)

    def reset(self) -> "Machine":
        """Go back to the start."""
        return self._at(self._first)

    def goto(self, target: Value | str | int) -> "Machine":
        """Go to just after the step of a node, in the pass that the machine is in, or to a number of steps.

        A leaf has no step: it goes to where its gradient is complete. Raises ValueError if the node is not in the
        graph, or if there are not so many steps.
        """
        if isinstance(target, Value | str):
            return self._at(self._turn(self.node(target), self.position < 0))
        if not self._first <= operator.index(target) <= len(self.steps):
            raise ValueError(f"goto takes 0 to {len(self.steps)}, the number of steps, got {target}.")
        return self._at(operator.index(target))

    def until(self, target: Value | str) -> "Machine":
        """Go on to just after the step of a node; of a leaf, to where its gradient is complete."""
        node = self.node(target)
        turn = self._turn(node, self.position < self._turn(node, True))
        if node.rule and self.position >= turn:
            raise ValueError(f"the step of {self.steps.names[node]} is over: goto goes back to it.")
        return self._at(max(turn, self.position))

    def _turn(self, node: Value, forward: bool) -> int:
        """The position just after the step of a node, in the forward or in the backward pass."""
        return 1 - self._complete[node] if forward and node.rule else self._complete[node]

    def set(self, target: Value | str, number: Any) -> "Machine":
        """Give a leaf another number, and compute again what depends on it. Its graph is changed by this.

        Raises ValueError if the node is no leaf of the graph, or if an operation is not defined for its numbers;
        then nothing has changed.
        """
        leaf = self.node(target)
        if leaf.rule is not None:
            raise ValueError(f"{self.steps.names[leaf]} was computed: set one of the leaves it was computed from.")
        return self._compute({leaf: type(leaf.data)(as_real(number))})

    def restart(self) -> "Machine":
        """Go back to the start, and undo every `set`."""
        changed = {leaf: number for leaf, number in self._leaves.items() if leaf.data is not number}
        return (self._compute(changed) if changed else self).reset()

    def why(self, target: Value | str, top: int = 10) -> Why:
        """The paths whose products add up to a node's gradient. Raises ValueError if there is no such node."""
        return why(self.root, self.node(target), top, variables=self._variables)

    def where(self, target: Value | str | None = None) -> str:
        """The source line that made a node, by default that of the step just taken; "" if it was not recorded."""
        here = self.root if self.current is None else self.current
        return source_line(here if target is None else self.node(target))

    n = over
    s = next  # noqa: A003  # the method above
    b = back
    r = run
    g = goto

    def _at(self, position: int) -> "Machine":
        if position > 0:
            self.steps[position - 1]  # computed here, so that a rule's error comes from the command, not the text
        self._previous, self.position = (self.steps, self.position), position
        return self

    def _compute(self, numbers: Mapping[Value, Any]) -> "Machine":
        """Put numbers into leaves and compute again all that depends on them."""
        order, shown, position = self.steps.order, self.steps, self.position
        fresh, touched = {node: node.data for node in order} | dict(numbers), set(numbers)
        for node in order:
            if not touched.isdisjoint(node.parents):
                touched.add(node)
                fresh[node] = node.rule.evaluate([fresh[p] for p in node.parents], node.parents)
        for node in touched:
            node.data = fresh[node]
        self._take(self.root)
        self._audit = None  # what was set here is no mistake
        self._at(position)
        self._previous = shown, position
        return self

    # --- Where things stand ---------------------------------------------------------------------------------

    def scope(self, node: Value | None) -> tuple[str, ...]:
        """The modules that a node belongs to, outermost first, as the labels of parameters tell."""
        if not self._scopes:
            reading = read(self.root, self._variables)
            self._scopes = dict(zip(reading.order, reading.scopes, strict=True))
        return self._scopes[node] if node is not None else ()

    def _node_of(self, position: int) -> Value | None:
        """The node of the step that leads to a position."""
        if position > 0:
            return self.steps.nodes[position - 1]
        return self.steps.nodes[-position] if -len(self.steps) < position and self._first < position else None

    # --- The frame ------------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return self.frame()

    def frame(self, near: int = NEAR, paint: Callable[[str], str] = str) -> str:
        """The current frame, with at most `near` nodes around the step; `paint` colours what has changed."""
        end, position = len(self.steps), self.position
        header = f"step {max(position, 0):,} of {end:,}"
        if position < 0 or self._first < 0 == position:
            header = f"forward, operation {end + position:,} of {end:,}"
        if position == end:
            header += " - the end: all gradients are complete, next() stays here"
        elif position == self._first:
            header += " - the start: back() stays here"
        wrong = self._mistakes()
        return "\n".join([header, *self._said(), "", *self.listing(near, paint), *[""] * bool(wrong), *wrong])

    def _said(self) -> list[str]:
        step, node = self.step, self.current
        if step:
            return [step.sentence, *[step.reason] * bool(step.reason)]
        if node is not None:
            return [computed(node, self.steps.names, self.steps.data)]
        if self.position < 0:
            return ["the leaves have their numbers, nothing is computed"]
        return [f"{self.steps.names[self.root]}.grad is {four_digits(self.steps.seed)}, all others are 0"]

    def _mistakes(self) -> list[str]:
        """What the first and the last frame say of changed numbers, and the last one of old gradients."""
        if self._audit is None or self.position not in (0, len(self.steps)):
            return []
        return (self._audit if self.position else self._audit._replace(left={})).sentences(self.steps.names)

    def listing(self, near: int = 40, paint: Callable[[str], str] = str) -> list[str]:
        """The nodes around the step, one per line: its operands, those of the next, and their neighbours."""
        rows, wanted = self.steps.order[::-1], dict[int, None]()
        for node in (self.coming, self.current):
            wanted |= {self._place[x]: None for x in ([] if node is None else [node, *node.parents[: near // 3]])}
        middle = next(iter(wanted), 0)
        first = max(0, min(middle - near // 2, len(rows) - near))
        around = sorted(range(first, min(first + near, len(rows))), key=lambda place: abs(place - middle))
        shown = sorted([*wanted | dict.fromkeys(around)][:near])
        lines, before = list[str](), -1
        table = self._table([rows[place] for place in shown], paint)
        for place, line in zip([*shown, len(rows)], [*table, ""], strict=True):
            if gap := place - before - 1:
                lines.append(f"      ... {gap:,} node{'s' * (gap > 1)} not shown")
            lines.append(line)
            before = place
        return lines[:-1]

    def _table(self, shown: list[Value], paint: Callable[[str], str]) -> list[str]:
        names, data, turn = self.steps.names, self.steps.data, self.coming
        old, before = self._previous
        written = [f"{names[n]} = {expression(n, names.__getitem__)}" if n.rule else names[n] for n in shown]
        written = [clipped(text, WIDE) for text in written]
        numbers = [four_digits(data[n]) if self.is_computed(n) else "-" for n in shown]
        gradients = ["-" if (x := self.gradient(n)) is None else four_digits(x) for n in shown]
        widths = [max(map(len, column)) for column in (written, numbers, gradients)]
        lines = []
        for node, text, number, gradient in zip(shown, written, numbers, gradients, strict=True):
            mark = "->" if node is turn else "done" if self._complete[node] <= self.position else ""
            fresh = (
                not (self.is_computed(node, before) and near(old.data[node], data[node], 0.0)) and number != "-"
            )
            changed = gradient != "-" and not near(old.gradient(node, before), self.gradient(node), 0.0)
            number, gradient = f"{number:>{widths[1]}}", f"{gradient:>{widths[2]}}"
            number = paint(f"{number}*") if fresh else f"{number} "
            gradient = paint(f"{gradient} *") if changed else gradient
            lines.append(f"{mark:4}  {text:{widths[0]}}  {number} grad {gradient}")
        return lines
