"""Layer 6, a state machine: graphs that grow, are swept, cleared, changed and copied in any order.

The model knows every node by number: its operation, the numbers of its operands, and its data and grad as
Fractions. Its gradients are sums over paths, with slopes by hand; nothing in it is the engine's. After each step
every node must agree with it exactly, the sharing of operands included.

A node is stale if its leaves now give another number than it has. Then `backward(check=True)` refuses, and what
`backward()` gives is not promised, so the machine does not ask; it may set leaves back, or compute the node again.
"""

import copy
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import pytest
from cases import COPIES
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, multiple, rule

import tinygrad_edu as tg
from tinygrad_edu import Value, gradients
from tinygrad_edu.testing.check.oracles import path_sum


class Operation(NamedTuple):
    n_inputs: int
    engine: Callable[..., Value]
    forward: Callable[..., Fraction]
    slopes: Callable[..., tuple[Any, ...]]


def ties(*xs: Fraction) -> tuple[Fraction, ...]:
    return tuple(Fraction(x == max(xs), xs.count(max(xs))) for x in xs)


OPERATIONS: dict[str, Operation] = {
    "neg": Operation(1, operator.neg, lambda x: -x, lambda x: (-1,)),
    "add": Operation(2, operator.add, lambda x, y: x + y, lambda x, y: (1, 1)),
    "sub": Operation(2, operator.sub, lambda x, y: x - y, lambda x, y: (1, -1)),
    "mul": Operation(2, operator.mul, lambda x, y: x * y, lambda x, y: (y, x)),
    "square": Operation(1, lambda x: x**2, lambda x: x * x, lambda x: (2 * x,)),
    "cube": Operation(1, lambda x: x**3, lambda x: x * x * x, lambda x: (3 * x * x,)),
    "abs": Operation(1, abs, lambda x: max(x, -x), lambda x: ((x > 0) - (x < 0),)),
    "relu": Operation(1, tg.relu, lambda x: max(x, Fraction(0)), lambda x: (int(x > 0),)),
    "max": Operation(2, tg.max, max, ties),
    "max of 3": Operation(3, tg.max, max, ties),
    "sum": Operation(3, tg.sum, lambda x, y, z: x + y + z, lambda x, y, z: (1, 1, 1)),
    "where": Operation(3, tg.where, lambda c, x, y: x if c else y, lambda c, x, y: (0, int(c != 0), int(c == 0))),
    "dot": Operation(
        4,
        lambda x1, x2, y1, y2: tg.dot([x1, x2], [y1, y2]),
        lambda x1, x2, y1, y2: x1 * y1 + x2 * y2,
        lambda x1, x2, y1, y2: (y1, y2, x1, x2),
    ),
}


@dataclass(frozen=True)
class Node:
    """What a node is made of; a leaf has no operation."""

    operation: str | None
    operands: tuple[int, ...]


class Model:
    """Nodes by number, operands before the nodes made from them, with what each must hold."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.data: list[Fraction] = []
        self.grads: list[Fraction] = []
        self.walks: list[int] = []  # how many walks start at a node and go down: what a path sum costs

    def append(self, node: Node, data: Fraction, grad: Fraction = Fraction(0)) -> int:
        self.nodes.append(node)
        self.data.append(data)
        self.grads.append(grad)
        self.walks.append(1 + sum(self.walks[i] for i in node.operands))
        return len(self.nodes) - 1

    def below(self, *roots: int) -> list[int]:
        """The roots and all that they were made from, operands first."""
        below, waiting = set(), list(roots)
        while waiting:
            below.add(i := waiting.pop())
            waiting += self.nodes[i].operands
        return sorted(below)

    def leaves(self, root: int) -> list[int]:
        return [i for i in self.below(root) if self.nodes[i].operation is None]

    def recomputed(self, root: int) -> dict[int, Fraction]:
        """What the leaves give now, for every node below."""
        now: dict[int, Fraction] = {}
        for i in self.below(root):
            name, operands = self.nodes[i].operation, self.nodes[i].operands
            now[i] = OPERATIONS[name].forward(*[now[j] for j in operands]) if name else self.data[i]
        return now

    def is_stale(self, root: int) -> bool:
        return any(self.data[i] != x for i, x in self.recomputed(root).items())

    def derivatives(self, root: int) -> dict[int, Fraction]:
        """d(root)/d(node) of every node below: the sum over all paths down to it of the product of the slopes."""
        sums = dict.fromkeys(self.below(root), Fraction(0))
        paths = [(root, Fraction(1))]
        while paths:
            i, product = paths.pop()
            sums[i] += product
            name, operands = self.nodes[i].operation, self.nodes[i].operands
            if name:
                slopes = OPERATIONS[name].slopes(*[self.data[j] for j in operands])
                paths += [(j, product * slope) for j, slope in zip(operands, slopes, strict=True)]
        return sums

    def backward(self, root: int, upstream: Fraction) -> None:
        """Leaves add what arrives, interior nodes are written anew, the rest keep theirs."""
        for i, slope in self.derivatives(root).items():
            before = self.grads[i] if self.nodes[i].operation is None else 0
            self.grads[i] = before + upstream * slope

    def copy(self, *roots: int) -> dict[int, int]:
        """New nodes like those below, gradients included, by the numbers of the old ones."""
        twins: dict[int, int] = {}
        for i in self.below(*roots):
            operands = tuple(twins[j] for j in self.nodes[i].operands)
            twins[i] = self.append(Node(self.nodes[i].operation, operands), self.data[i], self.grads[i])
        return twins


MOST_NODES, MOST_WALKS = 120, 400


def named(*n_inputs: int) -> st.SearchStrategy[str]:
    return st.sampled_from([name for name, op in OPERATIONS.items() if op.n_inputs in n_inputs])


class Graphs(RuleBasedStateMachine):
    """Values beside their model. The bundles have the numbers of nodes: `self.values[i]` is node i."""

    nodes: Bundle[int] = Bundle("nodes")
    results: Bundle[int] = Bundle("results")  # those that are no leaves
    both = (nodes, results)
    fractions = st.fractions(-2, 2, max_denominator=3)
    whole = st.integers(0, 99)

    def __init__(self) -> None:
        super().__init__()
        self.values: list[Value] = []
        self.model = Model()
        self.first: dict[int, Fraction] = {}  # what a leaf was made with

    # Rules that make nodes

    def add_leaf(self, value: Value, data: Fraction) -> int:
        i = self.model.append(Node(None, ()), data)
        self.values.append(value)
        self.first[i] = data
        return i

    def add_node(self, value: Value, name: str, *operands: int) -> int:
        data = OPERATIONS[name].forward(*[self.model.data[i] for i in operands])
        self.values.append(value)
        return self.model.append(Node(name, operands), data)

    def apply_operation(self, name: str, *operands: int) -> int:
        return self.add_node(OPERATIONS[name].engine(*[self.values[i] for i in operands]), name, *operands)

    def has_room(self, *operands: int) -> bool:
        """So that the path sums stay fast."""
        walks = sum(self.model.walks[i] for i in operands)
        return walks <= MOST_WALKS and len(self.values) + len(self.model.below(*operands)) <= MOST_NODES

    @initialize(target=nodes, a=fractions, b=fractions)
    def start(self, a: Fraction, b: Fraction) -> Any:
        return multiple(self.add_leaf(Value(a), a), self.add_leaf(Value(b), b))

    @rule(target=nodes, data=fractions)
    def make_a_leaf(self, data: Fraction) -> Any:
        return self.add_leaf(Value(data), data) if self.has_room() else multiple()

    @rule(targets=both, name=named(1), a=nodes)
    def operate_on_one(self, name: str, a: int) -> Any:
        return self.apply_operation(name, a) if self.has_room(a) else multiple()

    @rule(targets=both, name=named(2), a=nodes, b=nodes)
    def operate_on_two(self, name: str, a: int, b: int) -> Any:
        return self.apply_operation(name, a, b) if self.has_room(a, b) else multiple()

    @rule(targets=both, name=named(2), between=st.none() | named(1), a=results)
    def operate_on_the_same_twice(self, name: str, between: str | None, a: int) -> Any:
        """f(a, a), or the diamond f(a, g(a))."""
        if not self.has_room(a, a):
            return multiple()
        return self.apply_operation(name, a, self.apply_operation(between, a) if between else a)

    @rule(targets=both, name=named(3, 4), a=nodes, b=results, others=st.tuples(nodes, nodes))
    def operate_on_more(self, name: str, a: int, b: int, others: tuple[int, int]) -> Any:
        operands = (a, b, *others)[: OPERATIONS[name].n_inputs]
        return self.apply_operation(name, *operands) if self.has_room(*operands) else multiple()

    @rule(targets=both, root=results)
    def compute_again(self, root: int) -> Any:
        """From the leaves as they are now, which the new graph shares with the old one."""
        if not self.has_room(root):
            return multiple()
        new: dict[int, int] = {}
        for i in self.model.below(root):
            name, operands = self.model.nodes[i].operation, self.model.nodes[i].operands
            new[i] = self.apply_operation(name, *[new[j] for j in operands]) if name else i
        assert not self.model.is_stale(new[root])
        return new[root]

    @rule(targets=both, way=st.sampled_from(list(COPIES)), roots=st.lists(results, min_size=1, max_size=3))
    def copy_together(self, way: str, roots: list[int]) -> Any:
        """What the roots share, their copies share."""
        if not self.has_room(*roots):
            return multiple()
        copied = COPIES[way]([self.values[i] for i in roots])
        twins = self.model.copy(*roots)
        copies = {twins[i]: value for i, value in zip(roots, copied, strict=True)}
        for twin in sorted(twins.values(), reverse=True):  # each after all that are made from it
            for operand, parent in zip(self.model.nodes[twin].operands, copies[twin].parents, strict=True):
                assert copies.setdefault(operand, parent) is parent
        self.values += [copies[twin] for twin in sorted(copies)]
        self.first |= {twins[i]: self.first[i] for i in self.first.keys() & twins.keys()}
        return multiple(*[twins[i] for i in roots])

    @rule(target=nodes, root=nodes)
    def copy_one_node(self, root: int) -> Any:
        """`copy.copy`: a node beside it, made from the same operands."""
        if not self.has_room(root):
            return multiple()
        value, grad = copy.copy(self.values[root]), self.model.grads[root]
        i = self.model.append(self.model.nodes[root], self.model.data[root], grad)
        self.values.append(value)
        self.first |= {i: self.first[root]} if root in self.first else {}
        return i

    # Rules that read and write gradients and leaves

    def refused(self, root: int) -> None:
        """The check names an operand of a node whose number is another now; no grad has moved."""
        now = self.model.recomputed(root)
        stale = [self.values[i] for i, x in now.items() if self.model.data[i] != x]
        names = [repr(suspect) for node in stale for suspect in (node, *node.parents)]
        with pytest.raises(RuntimeError, match="was changed after the forward pass") as caught:
            self.values[root].backward(check=True)
        assert any(str(caught.value).startswith(name) for name in names)

    @rule(root=results, check=st.booleans(), upstream=st.none() | st.integers(-3, 3) | fractions)
    def backward(self, root: int, check: bool, upstream: Any) -> None:
        if self.model.is_stale(root):
            self.refused(root)
            return
        self.ask_for_the_gradients(root)
        if upstream is None:
            self.values[root].backward(check=check)
        else:
            self.values[root].backward(upstream, check=check)
        self.model.backward(root, Fraction(1 if upstream is None else upstream))

    def ask_for_the_gradients(self, root: int) -> None:
        """`gradients` gives the derivatives of the model; so do the path sums of the toolkit."""
        expected = self.model.derivatives(root)
        got = gradients(self.values[root], self.values)
        assert got == [expected.get(i, 0) for i in range(len(self.values))]
        if self.model.walks[root] < 20:
            for leaf in self.model.leaves(root):
                assert path_sum(self.values[root], self.values[leaf]) == expected[leaf]

    @rule(root=results, place=whole)
    def backward_from_a_leaf(self, root: int, place: int) -> None:
        self.backward(self.leaf(root, place), False, None)

    def leaf(self, root: int, place: int) -> int:
        leaves = self.model.leaves(root)
        return leaves[place % len(leaves)]

    @rule(root=results, place=st.none() | whole)
    def clear_one_leaf_or_all(self, root: int, place: int | None) -> None:
        for i in self.model.leaves(root) if place is None else [self.leaf(root, place)]:
            self.values[i].grad = 0.0
            self.model.grads[i] = Fraction(0)

    def set_leaf(self, i: int, data: Fraction) -> None:
        self.values[i].data = self.model.data[i] = data

    @rule(root=results, place=whole, data=fractions)
    def change_a_leaf(self, root: int, place: int, data: Fraction) -> None:
        self.set_leaf(self.leaf(root, place), data)
        if self.model.is_stale(root):
            self.refused(root)

    @rule(root=results)
    def set_the_leaves_back(self, root: int) -> None:
        for i in self.model.leaves(root):
            self.set_leaf(i, self.first[i])

    @rule(root=results, place=whole, data=fractions)
    def change_a_leaf_and_set_it_back(self, root: int, place: int, data: Fraction) -> None:
        i, was_stale = self.leaf(root, place), self.model.is_stale(root)
        before = self.model.data[i]
        self.change_a_leaf(root, place, data)
        self.set_leaf(i, before)
        assert self.model.is_stale(root) == was_stale
        self.backward(root, True, None)

    # What holds after each step

    @invariant()
    def every_node_agrees_with_the_model(self) -> None:
        for i, value in enumerate(self.values):
            assert (i, value.data, value.grad) == (i, self.model.data[i], self.model.grads[i])
            assert isinstance(value.data, Fraction)
            assert isinstance(value.grad, Fraction) or repr(value.grad) == "0.0"
            assert all(map(operator.is_, value.parents, self.operands(i)))
            assert len(value.parents) == len(self.model.nodes[i].operands)

    def operands(self, i: int) -> Iterator[Value]:
        return (self.values[j] for j in self.model.nodes[i].operands)


TestGraphs: Any = Graphs.TestCase
TestGraphs.settings = settings(deadline=None, stateful_step_count=25)
