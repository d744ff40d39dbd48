"""What spoilt the gradients: the first node that made a nan, an inf, a dead end, a vanishing or exploding share.

A nan spreads: most nodes that have one received it. Blame goes to the node that *made* it from numbers that
were still right. `_forward` and `_Sweep` find those nodes, `_remedy` says what usually helps.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from ..engine.calculus import values_of
from ..engine.scalar import as_real
from ..engine.value import Value
from ..viz.names import names_of, variables_in_sight
from ..viz.reading import nodes_below, parameters_among
from ..viz.strangers import adopted
from ..viz.words import few, finite, formula, four_digits, visible
from .passes import Audit, audit, counting, told
from .stepping import Step, Steps
from .training import layer_of, unit_of

SERIOUS = ("nan", "inf", "unreached", "zero", "vanishing", "exploding")
SATURATING = ("tanh", "sigmoid", "erf", "erfc", "softplus", "elu", "gelu", "silu", "atan")
EXPONENTIAL = ("exp", "expm1", "sinh", "cosh")


@dataclass(frozen=True, slots=True, repr=False)
class Finding:
    """One node and what is wrong with it: `kind`, as `blame` lists them, and `phase`: "forward", "backward" or "".

    `upstream` and `slope` belong to the share for operand number `operand` in the backward pass. operand is None
    for a sum of shares, and where all operands are meant. For "accumulated", upstream is the gradient that this
    pass gives; for "changed", the number of passes that the result has had.
    """

    kind: str
    phase: str
    node: Value
    names: dict[Value, str]
    upstream: Any = None
    slope: Any = None
    operand: int | None = None

    @property
    def rule(self) -> Any:
        """The operation that made the node; None for a leaf."""
        return self.node.rule

    @property
    def operands(self) -> tuple[tuple[str, Any], ...]:
        """(name, data) of what the node was computed from."""
        return tuple((self.names[parent], parent.data) for parent in self.node.parents)

    @property
    def name(self) -> str:
        """What the node is called: a variable of the caller's, its label or a number such as #2."""
        return self.names.get(self.node) or visible(self.node.label) or "a parameter without a label"

    @property
    def title(self) -> str:
        """The finding without its node, to count it by: "zero (relu)"."""
        phase = f"{self.phase}, " * (self.kind in ("nan", "inf"))
        return self.kind + f" ({phase}{self.rule.name if self.rule else 'leaf'})" * bool(self.phase)

    def __repr__(self) -> str:
        operands = ", ".join(few([f"{name} = {four_digits(data)}" for name, data in self.operands], 5))
        where = f" = {formula(self.rule, [name for name, _ in self.operands])}" if self.rule else ""
        lines = [f"{self.kind} at {self.name}{where}" + f", {self.phase}" * bool(self.phase) + f": {self.made}"]
        return "\n".join([*lines, *[f"  operands: {operands}"] * bool(operands), f"  remedy: {self.remedy}"])

    @property
    def made(self) -> str:
        """What happened, in one sentence."""
        name, of = self.name, "" if self.operand is None else f" for {self.operands[self.operand][0]}"
        numbers = formula(self.rule, [four_digits(data) for _, data in self.operands]) if self.rule else ""
        match self.kind, self.phase:
            case "unreached", _:
                return f"{name} is not part of the loss, its gradient stays 0"
            case "changed", _:
                again = f", and backward() ran {self.upstream} times on this result" * (self.upstream > 1)
                return f"{name} was changed after the forward pass{again}"
            case "accumulated", _:
                return told(name, self.node, self.upstream)
            case "zero", _:
                causes = {"relu": "dead relu: ", **dict.fromkeys(SATURATING, "saturation: ")}
                cause = "" if of else causes.get(self.rule.name, "")
                stopped = four_digits(self.upstream)
                return f"{cause}the slope of {numbers}{of} is 0, and stops an upstream of {stopped}"
            case _, "forward" if not self.rule:
                return f"the leaf {name} is {self.node.data} itself"
            case kind, "forward":
                return "overflow: " * (kind == "inf") + f"{numbers} is {four_digits(self.node.data)}"
        if not of:
            return f"the shares that {name} receives add up to {four_digits(self.upstream)}"
        upstream, slope, share = map(four_digits, (self.upstream, self.slope, self.upstream * self.slope))
        return f"upstream {upstream} * slope {slope} = {share}{of}"

    @property
    def remedy(self) -> str:
        """What usually helps, in one sentence."""
        name = self.rule.name if self.rule else ""
        others = ["y"] * (len(self.operands) - 1)
        infinite = [operand for operand, data in self.operands if not finite(data)]
        is_steep = self.operand is not None and not finite(self.slope)
        match self.kind, self.phase:
            case "unreached", _:
                return "Use it on the way to the loss, or leave it out; reading its .data on that way cuts it off."
            case "changed", _:
                again = "Compute the result again in every step, before backward()."
                return again + " Where tg.gradients has given the gradients, this is normal." * (not self.upstream)
            case "accumulated", _:
                return (
                    "Call optimizer.zero_grad(), or set each parameter's grad to 0.0, before every backward pass. "
                    "Only where passes are added up on purpose, as over micro-batches, all is well."
                )
            case _, "forward" if not self.rule:
                return (
                    "Give it a finite number: the learning rate may be too large, or there may be data with gaps."
                )
            case "nan", "forward" if infinite:
                what = "0 * inf" if name in ("mul", "dot") else "inf / inf" if name == "div" else "inf - inf"
                return f"{what} has no value: find out what made {', '.join(few(infinite, 5))} infinite."
            case _, "forward" if name in EXPONENTIAL:
                return "Use logsumexp, log_softmax, softplus or sigmoid, which never form the large exponential."
            case _, "forward" if name == "div":
                return "Keep the denominator away from 0: add a small number to it."
            case _, "forward":
                return "Scale the inputs and weights down, or add logarithms instead of multiplying."
            case "nan", _ if self.upstream == 0:
                inside = formula(self.rule, ["where(ok, x, 1)", *others])
                return (
                    "0 * inf: a where() outside hides the value, not the slope; choose the input as well (double "
                    f"where), as in where(ok, {inside}, 0)."
                )
            case "nan", _:
                return f"The backward of {name} gives nan here: prove it with testing.check_rule."
            case "inf", _ if is_steep and name in ("sqrt", "pow", "pow_n"):
                inside = formula(self.rule, ["x + 1e-12", *others])
                return f"The slope is infinite at 0: add a small number inside, as in {inside}."
            case "inf", _ if is_steep:
                return "The slope is infinite there: keep the input away from that point, by 1e-12 or so."
            case kind, _ if kind in ("inf", "exploding"):
                return "Clip the gradients, start from smaller weights, or add residual connections."
        if name in SATURATING:
            return "Start from Xavier or He initialisation, scale the inputs (as BatchNorm does), or use relu."
        if self.kind == "vanishing":
            return "Start from larger weights (He or Xavier), use relu, or add residual connections."
        if name == "relu":
            return "Use leaky_relu, a smaller learning rate, or He initialisation."
        if name in ("mul", "dot"):
            return "Start from small random numbers instead of zeros: a factor of 0 lets nothing through."
        return "At the minimum this is as it should be; anywhere else, start from another point."


class Blame:
    """The answer of `blame`: false if all is well, else `findings`, the most serious first.

    `kind`, `node`, `made` and `remedy` are those of the `first`; "" and None where there is nothing to blame.
    `others` are all findings but the first; `size` is how many nodes the graph has; `leaves` says whose gradients
    were looked at; `note` says what is normal.
    """

    def __init__(self, findings: Sequence[Finding], size: int, leaves: str, note: str = ""):
        self.findings: tuple[Finding, ...] = tuple(findings)
        self.size: int = size
        self.leaves: str = leaves
        self.note: str = note
        self.first: Finding | None = self.findings[0] if findings else None
        self.others: tuple[Finding, ...] = self.findings[1:]
        self.node: Value | None = self.first.node if self.first else None
        self.kind: str = self.first.kind if self.first else ""
        self.made: str = self.first.made if self.first else ""
        self.remedy: str = self.first.remedy if self.first else ""

    def __bool__(self) -> bool:
        return bool(self.findings)

    def __repr__(self) -> str:
        note = f"\n  note: {self.note}" * bool(self.note)
        if not self:
            nodes = f"{self.size:,} node{'s' * (self.size > 1)}"
            return f"nothing to blame: all values and the gradients of {self.leaves} are in order ({nodes}){note}"
        counts = Counter(finding.title for finding in self.others)
        others = ", ".join(few([f"{count:,} {title}" for title, count in counts.most_common()], 5))
        return repr(self.findings[0]) + f"\n  others: {others}" * bool(others) + note


def blame(
    root: Value,
    upstream: Any = 1.0,
    *,
    parameters: Iterable[Value] | Value | None = None,
    vanishing: float = 1e-9,
    exploding: float = 1e9,
    variables: Mapping[Value, str] | None = None,
) -> Blame:
    """Find the node that spoilt the gradients of root, say what it did, and what usually helps.

    In the order of seriousness, `kind` is
      "nan", "inf"  the first node, forward and then backward, that made one out of finite numbers; a leaf that
                    is nan or inf itself counts as its maker
      "unreached"   one of `parameters` that root does not depend on
      "changed"     a number that was changed between the forward and the backward pass, so that the slopes belong
                    to other numbers
      "accumulated" a leaf whose `.grad` is not what this pass gives: something was there before; it may be meant
      "zero"        a slope of exactly 0, as that of a dead relu or beside a factor of 0, while a gradient
                    reaches the node
      "vanishing"   a share that falls below vanishing * |upstream|, or out of the floats to 0
      "exploding"   a share, or a sum of shares, that rises above exploding * |upstream|
    The last three are reported only if a leaf below the node receives nothing better from elsewhere. A relu that
    is off for one example of several, or beside a residual connection, is no fault. Shares may cancel, too.
    The leaves that count are `parameters` (a model or a list) if given, else those that an update has changed, and
    the parameters of modules, or the leaves with a label, those that are used more than once, or all.
    `variables` name the nodes without a label; by default they are those of the caller.

    The sweep is blame's own: no `.grad` is written, and no backward pass is needed before. After an update, which
    is normal, the gradients are judged by the numbers of the forward pass, as far as the graph still tells them.

    >>> x = Value(1000.0, label="x")
    >>> blame(x.exp() + 1)
    inf at #2 = exp(x), forward: overflow: exp(1000) is inf
      operands: x = 1000
      remedy: Use logsumexp, log_softmax, softplus or sigmoid, which never form the large exponential.
    >>> blame((1 - x) ** 2)
    nothing to blame: all values and the gradients of the leaves with a label are in order (4 nodes)

    Raises TypeError unless root and parameters are Values and upstream is a number, ValueError unless upstream is
    finite and not 0, and 0 <= vanishing <= 1 <= exploding. If a rule fails, its error has a note with the node.
    """
    (root,) = adopted(root)
    order = nodes_below(root)
    seed = type(root.data)(as_real(upstream))
    if not finite(seed) or seed == 0:
        raise ValueError(f"upstream is a finite number other than 0, got {upstream!r}.")
    if not (isinstance(vanishing, Real) and isinstance(exploding, Real) and 0 <= vanishing <= 1 <= exploding):
        raise ValueError(f"vanishing is 0 to 1 and exploding 1 or more, got {vanishing!r} and {exploding!r}.")
    chosen = None
    if parameters is not None:
        chosen = list(dict.fromkeys(values_of(parameters, "parameters are Values, such as model.parameters()")))
    names = names_of(order, variables_in_sight(variables))
    checked = audit(order, chosen)
    sweep = _Sweep(Steps(root, seed, numbers=checked.numbers), names, vanishing, exploding)
    missing = [Finding("unreached", "", p, names) for p in chosen or () if p not in names]
    given = [p for p in chosen or () if p in names]
    who, below = counting(order, checked.moved) if chosen is None else ("the given parameters", given)
    stale = [Finding("changed", "", node, names, checked.passes) for node in checked.wrong]
    again = [Finding("accumulated", "", leaf, names, this) for leaf, this in checked.left.items()]
    resting, note = _resting(below, sweep)
    faults = sweep.faults([leaf for leaf in below if leaf not in resting])
    if root.grad != 0:  # a training that has come to the minimum of a squared error is all right
        faults = [fault for fault in faults if fault.kind == "exploding" or fault.rule.name != "pow_n"]
    findings = [*_forward(order, names), *sweep.broken, *missing, *stale, *again, *faults]
    return Blame(findings, len(order), who, "; ".join(filter(None, [note, _moved(checked, names)])))


def _resting(leaves: list[Value], sweep: "_Sweep") -> tuple[set[Value], str]:
    """The parameters without a gradient in layers where others have one, as in most networks of relus, and a
    sentence that counts the units. In a training, leaves whose labels name no unit are the units of one layer."""
    layers: dict[str, dict[Any, list[Value]]] = {}
    for leaf in parameters_among(leaves):
        unit = unit_of(str(leaf.label))
        if unit != "the model":
            layers.setdefault(f"units of {layer_of(unit)}", {}).setdefault(unit, []).append(leaf)
    if not layers and sweep.order[-1].grad != 0:
        layers["leaves"] = {leaf: [leaf] for leaf in leaves}
    resting, notes = set[Value](), []
    for layer, units in layers.items():
        still = {leaf for unit in units.values() for leaf in unit if not sweep.largest[leaf]}
        dead = sum(still.issuperset(unit) for unit in units.values())
        if dead < len(units):
            resting |= still
            notes += [f"no gradient reaches {dead:,} of {len(units):,} {layer}"] * bool(dead)
    return resting, "; ".join(notes)


def _moved(checked: Audit, names: Mapping[Value, str]) -> str:
    others = [f"{len(checked.moved) - 1:,} more"] * (len(checked.moved) > 1)
    who = " and ".join([*(names[leaf] for leaf in checked.moved[:1]), *others])
    text = "changed after the backward pass, as an update does: this is about the numbers before it"
    return f"{who} {text}" * bool(who)


# --- Forward --------------------------------------------------------------------------------------------------


def _forward(order: list[Value], names: dict[Value, str]) -> Iterator[Finding]:
    """Every node that made a nan out of other numbers, or an inf out of finite ones."""
    for node in order:
        x = node.data
        if x != x and all(p.data == p.data for p in node.parents):
            yield Finding("nan", "forward", node, names)
        elif abs(x) == math.inf and all(finite(p.data) for p in node.parents):
            yield Finding("inf", "forward", node, names)


# --- Backward -------------------------------------------------------------------------------------------------


class _Sweep:
    """A backward pass, and which of its shares are the first to be out of order.

    `largest` is the size of the largest share that each node receives: a gradient does not tell what arrived if
    its shares have cancelled.
    """

    def __init__(self, steps: Steps, names: dict[Value, str], vanishing: float, exploding: float):
        self.order, self.names, self.adjoints = steps.order, names, steps.gradients(len(steps))
        seed = abs(self.adjoints[steps.root])
        self.low, self.high = vanishing * float(seed), exploding * float(seed)
        self.broken: list[Finding] = []  # nan and inf
        self.suspects: list[Finding] = []  # the rest, if a leaf suffers from it
        self.largest = dict.fromkeys(steps.order, type(seed)(0)) | {steps.root: seed}
        passing = iter(steps)
        for node in reversed(steps.order):
            # The sum of the shares may be too large where none of them is.
            adjoint, largest = self.adjoints[node], self.largest[node]
            if not finite(adjoint) and finite(largest):
                self._add("inf", node)
            elif abs(adjoint) > self.high >= largest:
                self._add("exploding", node)
            if node.rule:
                self._pass_on(next(passing))

    def _add(self, kind: str, node: Value, slope: Any = None, operand: int | None = None) -> None:
        finding = Finding(kind, "backward", node, self.names, self.adjoints[node], slope, operand)
        (self.broken if kind in ("nan", "inf") else self.suspects).append(finding)

    def _pass_on(self, step: Step) -> None:
        node, adjoint = step.node, step.upstream
        sound = all(map(finite, (adjoint, node.data, *[p.data for p in node.parents])))
        if sound and adjoint != 0 and not any(share.share or share.slope for share in step.shares):
            self._add("zero", node, 0)
            sound = False
        for operand, (parent, slope, share, *_) in enumerate(step.shares):
            partner = node.parents[operand - len(node.parents) // 2]  # in a product, each is the other's slope
            stops = node.rule.name in ("mul", "dot") and partner.data == 0 and not partner.rule
            if sound and adjoint != 0 and stops:  # a 0 that was computed has a cause further down
                self._add("zero", node, 0, operand)
            if sound and (kind := self._kind(adjoint, share)) and (share != 0 or slope != 0):
                self._add(kind, node, slope, operand)
            if not abs(share) <= self.largest[parent]:  # nan as well
                self.largest[parent] = abs(share)

    def _kind(self, adjoint: Any, share: Any) -> str:
        """What is wrong with a share whose adjoint is still right."""
        if not finite(share):
            return "inf" if share == share else "nan"
        if abs(adjoint) <= self.high < abs(share):
            return "exploding"
        return "vanishing" if abs(share) < self.low <= abs(adjoint) else ""

    def faults(self, leaves: list[Value]) -> list[Finding]:
        """The suspects that spoil the gradient of a leaf below them, the most serious first."""
        starved = self._above({leaf for leaf in leaves if self.largest[leaf] < self.low})
        stopped = self._above({leaf for leaf in leaves if self.largest[leaf] == 0})
        flooded = self._above({leaf for leaf in leaves if not abs(self.adjoints[leaf]) <= self.high})
        suffering = {"zero": stopped, "vanishing": starved, "exploding": flooded}

        def guilty(suspect: Finding) -> bool:
            parents = suspect.node.parents
            touched = suspect.node if suspect.operand is None else parents[suspect.operand]
            return touched in suffering[suspect.kind]

        return sorted(filter(guilty, self.suspects), key=lambda suspect: SERIOUS.index(suspect.kind))

    def _above(self, leaves: set[Value]) -> set[Value]:
        """These leaves and all that depends on one of them."""
        for node in self.order if leaves else ():
            if not leaves.isdisjoint(node.parents):
                leaves.add(node)
        return leaves
