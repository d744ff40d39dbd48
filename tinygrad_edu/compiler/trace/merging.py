"""Merge: paths whose graphs differ only in what a number chose become one graph.

`1.0 if i == t else 0.0`, `-1e9 if i > t else 0` and `sorted(h, key=...)[0]` give graphs of one form. Where these
have other constants or operands, the merged graph chooses: by the question whose answer decides, as in
where(i == t, 1.0, 0.0), or by one question after the other. An operand must be one that every path computes, or
made of such by operations that are defined and flat enough everywhere: what is not chosen must not give nan.
Nothing is assumed of a path that no run has taken, since the program asks the questions of all paths for each
example.
"""

import math
from collections.abc import Collection, Hashable, Sequence
from typing import Any

from ...engine.rules import MUL, RULES
from ...engine.value import Value
from .placeholder import CHOICES, GIVEN, Placeholder

_BY_NAME = "add sub mul neg sum dot where max min abs relu tanh sigmoid sin cos".split()
TAME = {*map(RULES.__getitem__, _BY_NAME), *CHOICES.values(), GIVEN}


class Unlike(Exception):
    """The graphs have different forms."""


class Merge:
    """The merged results of runs: `outputs`, for rows of results, one row for each run. Raises Unlike.

    Equal nodes have equal numbers, in all runs: `_numbers` has them by the id of the node. `_everywhere` has those
    that may be computed for an example of any path.
    """

    def __init__(self, runs: Sequence[Any], rows: Sequence[Sequence[Value]], learned: Collection[Value]):
        self._learned = learned
        self._paths = [run.path for run in runs]
        self._known: dict[Hashable, int] = {}
        self._numbers: dict[int, int] = {}
        self._everywhere = set.intersection(*(set(map(self._number, run.trace.nodes)) for run in runs))
        self._questions: dict[tuple[bool, ...], Value] = {}  # that all paths ask at one place, by their answers
        for steps in zip(*self._paths, strict=False):
            if len({self._number(step.node) for step in steps}) == 1:
                self._questions.setdefault(tuple(step.outcome for step in steps), steps[0].node)
        self._merged: dict[tuple[int, ...], Value] = {}
        self.outputs = [self._one(nodes) for nodes in zip(*rows, strict=True)]

    def _number(self, node: Value) -> int:
        number = self._numbers.get(id(node))
        if number is None:
            key: Hashable = id(node)
            if node.rule is not None and isinstance(node, Placeholder):
                key = node.rule, *map(self._number, node.parents)  # which have theirs: no deep recursion
            elif self._is_constant(node):
                key = "constant", repr(node.data)
            number = self._numbers[id(node)] = self._known.setdefault(key, len(self._known))
        return number

    def _is_harmless(self, node: Value) -> bool:
        """May it be computed for an example of any path?"""
        stack, seen = [node], set[int]()
        while stack:
            node = stack.pop()
            number = self._number(node)
            if node.rule is not None and number not in self._everywhere and number not in seen:
                if node.rule not in TAME:
                    return False
                seen.add(number)
                stack += node.parents
        self._everywhere |= seen
        return True

    def _one(self, roots: Sequence[Value]) -> Value:
        """The node that stands for these, one of each run."""
        stack = [tuple(roots)]
        while stack:
            nodes = stack[-1]
            key = tuple(map(self._number, nodes))
            if key in self._merged:
                stack.pop()
            elif all(map(self._is_harmless, nodes)):
                self._merged[key] = self._choice(range(len(nodes)), nodes)
            elif len({(x.rule, len(x.parents)) for x in nodes}) > 1:
                raise Unlike
            else:
                rows = list(zip(*(x.parents for x in nodes), strict=True))
                keys = [tuple(map(self._number, row)) for row in rows]
                missing = [row for row, key in zip(rows, keys, strict=True) if key not in self._merged]
                stack += missing
                if not missing:
                    assert nodes[0].rule
                    self._merged[key] = Placeholder.of(nodes[0].rule, tuple(map(self._merged.__getitem__, keys)))
        return self._merged[tuple(map(self._number, roots))]

    def _choice(self, some: Sequence[int], nodes: Sequence[Value], place: int = 0) -> Value:
        """The node of the path that an example takes, one of some. These agree before a place."""
        numbers = [self._number(nodes[i]) for i in some]
        other = next((i for i, number in zip(some, numbers, strict=True) if number != numbers[0]), None)
        if other is None:
            return nodes[some[0]]
        if len(some) == len(nodes) and len(set(numbers)) == 2:
            answers = tuple(number == numbers[0] for number in numbers)
            for pair in ((nodes[0], nodes[other]), (nodes[other], nodes[0])):
                if answers in self._questions:
                    return Placeholder.of(RULES["where"], (self._questions[answers], *pair))
                answers = tuple(not answer for answer in answers)
        groups: dict[Any, list[int]] = {}
        while len(groups) < 2:
            groups, asked = {}, set()
            for i in some:
                if place == len(self._paths[i]):
                    raise Unlike
                step = self._paths[i][place]
                asked.add(self._number(step.node if step.pinned is None else step.node.parents[0]))
                groups.setdefault((step.outcome, step.pinned), []).append(i)
            if len(asked) > 1:  # equal answers lead to other questions: then it is no function of its inputs
                raise Unlike
            place += 1
        cases = [
            (self._paths[group[0]][place - 1].node, self._choice(group, nodes, place))
            for _, group in sorted(groups.items(), key=lambda item: not item[0][0])
        ]
        if len(cases) > 2 and all(self._is_constant(x) and math.isfinite(x.data) for _, x in cases):
            return Placeholder.of(RULES["sum"], tuple(Placeholder.of(MUL, case) for case in cases))
        chosen = cases[-1][1]
        for question, node in reversed(cases[:-1]):
            chosen = Placeholder.of(RULES["where"], (question, node, chosen))
        return chosen

    def _is_constant(self, x: Value) -> bool:
        return x.rule is None and not isinstance(x, Placeholder) and x not in self._learned
