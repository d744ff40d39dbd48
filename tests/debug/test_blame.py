"""`blame`: every kind of fault, the node that made it, and the remedy."""

import math
from collections.abc import Callable
from typing import Any

import pytest
from graphs import XS, YS, descend, squares
from hypothesis import given

import tinygrad_edu as tg
from tinygrad_edu import Value, nn, rule, topological_order
from tinygrad_edu.debug import Machine, blame, why
from tinygrad_edu.debug.causes import SERIOUS
from tinygrad_edu.testing import Program, programs

inf, nan = math.inf, math.nan


def leaf(data: Any, label: str = "x") -> Value:
    return Value(data, label=label)


def chain(f: Callable[[Value], Value], n: int) -> Value:
    y = leaf(1.0)
    for _ in range(n):
        y = f(y)
    return y


CASES: list[tuple[str, Callable[[], Value], str, str, str, str, str]] = [
    # what, root, kind, phase, rule, in the sentence, in the remedy
    ("exp", lambda: leaf(1000.0).exp() + 1, "inf", "forward", "exp", "overflow: exp(1000) is inf", "logsumexp"),
    ("sinh", lambda: leaf(-1000.0).sinh(), "inf", "forward", "sinh", "sinh(-1000) is -inf", "softplus"),
    ("power", lambda: leaf(1e200) ** 2, "inf", "forward", "pow_n", "1e+200**2 is inf", "Scale the inputs"),
    ("product", lambda: leaf(1e200) * 1e200, "inf", "forward", "mul", "1e+200 * 1e+200 is inf", "logarithms"),
    ("quotient", lambda: leaf(1.0) / 1e-310, "inf", "forward", "div", "1 / 1e-310 is inf", "denominator"),
    ("dot", lambda: tg.dot([leaf(1e200), 1e200], [1e200, -1e200]), "nan", "forward", "dot", "is nan", "Scale"),
    ("a nan leaf", lambda: leaf(nan) * 2, "nan", "forward", "", "the leaf x is nan itself", "data with gaps"),
    ("an inf leaf", lambda: leaf(-inf) * 2, "inf", "forward", "", "the leaf x is -inf itself", "learning rate"),
    ("sqrt at 0", lambda: leaf(0.0).sqrt() * 2, "inf", "backward", "sqrt", "upstream 2 * slope inf",
        "sqrt(x + 1e"),
    ("power at 0", lambda: leaf(0.0) ** 0.5, "inf", "backward", "pow_n", "slope inf", "(x + 1e-12)**0.5"),
    ("asin at 1", lambda: leaf(1.0).asin(), "inf", "backward", "asin", "= inf for x", "keep the input away"),
    ("sqrt behind where", lambda: tg.where(Value(0.0), leaf(0.0).sqrt(), 1.0), *("nan", "backward", "sqrt",
        "upstream 0 * slope inf = nan for x"), "double where), as in where(ok, sqrt(where(ok, x, 1)), 0)"),
    ("relu", lambda: (leaf(-3.0)).relu() * 2, "zero", "backward", "relu", "dead relu: the slope of relu(-3)",
        "He"),
    ("tanh", lambda: leaf(400.0).tanh(), "zero", "backward", "tanh", "saturation", "Xavier"),
    ("sigmoid", lambda: leaf(-800.0).sigmoid(), "zero", "backward", "sigmoid", "saturation", "BatchNorm"),
    ("minimum", lambda: leaf(0.0) ** 2, "zero", "backward", "pow_n", "0**2 is 0", "At the minimum"),
    ("two zeros", lambda: leaf(0.0) * leaf(0.0, "y"), "zero", "backward", "mul", "0 * 0", "small random numbers"),
    ("tail", lambda: leaf(20.0).tanh(), "vanishing", "backward", "tanh", "slope 1.699e-17", "Xavier"),
    ("small", lambda: leaf(1.0) * 1e-5 * 1e-5, "vanishing", "backward", "mul", "1e-05 * slope 1e-05 = 1e-10",
        "larger"),
    ("to 0", lambda: leaf(1.0) * 1e-200 * 1e-200, "vanishing", "backward", "mul", "slope 1e-200", "residual"),
    ("deep", lambda: chain(Value.sigmoid, 100), "vanishing", "backward", "sigmoid", "= 8.", "relu"),
    ("large", lambda: leaf(1e-5) * 1e5 * 1e5, "exploding", "backward", "mul", "= 1e+10", "Clip"),
    ("doubled", lambda: chain(lambda y: y + y, 40), "exploding", "backward", "add", "add up to 1.074e+09",
        "smaller"),
    ("no weight decay", lambda: [y := leaf(10.0) + 1, y.backward(), y.backward()][0], "accumulated", "", "",
        "x.grad is 2, this pass gives 1", "zero_grad"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("root", "kind", "phase", "rule", "made", "remedy"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_kinds(root: Callable[[], Value], kind: str, phase: str, rule: str, made: str, remedy: str) -> None:
    verdict = blame(root())
    assert verdict
    assert (verdict.kind, verdict.first.phase) == (kind, phase)
    assert (verdict.first.rule.name if verdict.first.rule else "") == rule
    assert made in verdict.made
    assert remedy in verdict.remedy
    assert verdict.node is verdict.first.node
    lines = repr(verdict).splitlines()
    assert lines[0].startswith(f"{kind} at ")
    assert 2 <= len(lines) <= 5
    assert all("\n" not in sentence for sentence in (verdict.made, verdict.remedy))


def test_the_whole_answer() -> None:
    x = leaf(1000.0)
    y = x.exp()
    verdict = blame(y + 1)
    assert verdict.node is y
    assert verdict.first.operands == (("x", 1000.0),)
    assert repr(verdict) == (
        "inf at y = exp(x), forward: overflow: exp(1000) is inf\n"
        "  operands: x = 1000\n"
        "  remedy: Use logsumexp, log_softmax, softplus or sigmoid, which never form the large exponential."
    )


def test_all_is_well() -> None:
    x = leaf(0.5)
    verdict = blame(tg.tanh(x * x))
    assert not verdict
    assert [verdict.kind, verdict.first, verdict.node, verdict.made, *verdict.others] == ["", None, None, ""]
    told = "nothing to blame: all values and the gradients of {} are in order ({} nodes)"
    assert repr(verdict) == told.format("all leaves", 3)
    assert repr(tg.debug.blame(tg.Value(3.0))).endswith("gradients of all leaves are in order (1 node)")
    assert repr(blame(x * 2)) == told.format("the leaves with a label", 3)
    assert repr(blame(x * 2, parameters=[x])) == told.format("the given parameters", 3)
    assert repr(blame(nn.Neuron(1, "tanh", rng=0)([2.0]))) == told.format("the parameters of modules", 6)
    w, v = Value(2.0), Value(3.0)
    y = w * w * v * 2
    y.backward()
    v.grad *= 2  # it is a constant, as far as blame can know
    assert repr(blame(y)) == told.format("the leaves that are used more than once", 6)
    w.data, v.grad, v.label = 1.9, v.grad / 2, "v"
    assert repr(blame(y)).startswith(told.format("the leaves with a label and those that were changed", 6))


@pytest.mark.parametrize(
    ("combine", "rule", "sentence"),
    [
        (lambda a, b: a - b, "sub", "inf - inf has no value: find out what made"),
        (lambda a, b: a / b, "div", "inf / inf has no value"),
        (lambda a, b: a * (1 / b), "mul", "0 * inf has no value"),
    ],
)
def test_a_nan_out_of_infinities_names_them(combine: Any, rule: str, sentence: str) -> None:
    a, b = leaf(1000.0, "a").exp(), leaf(2000.0, "b").exp()
    a.label, b.label = "A", "B"
    verdict = blame(combine(a, b))
    assert verdict.kind == "inf"  # it was made first
    (by,) = [other for other in verdict.others if other.kind == "nan" and other.phase == "forward"]
    assert by.rule.name == rule
    assert sentence in by.remedy
    assert "A" in by.remedy


def test_the_sum_of_finite_shares_may_overflow() -> None:
    x = leaf(0.0)
    verdict = blame(x * 1e308 + x * 1e308)
    assert (verdict.kind, verdict.node) == ("inf", x)
    assert verdict.made == "the shares that x receives add up to inf"
    assert verdict.first.operands == ()
    assert "Clip" in verdict.remedy
    verdict = blame(leaf(0.0) * 1e200 * 1e200)
    assert (verdict.kind, verdict.made) == ("inf", "upstream 1e+200 * slope 1e+200 = inf for x")
    assert "Clip" in verdict.remedy


def test_a_backward_that_makes_a_nan() -> None:
    broken = rule(lambda x: x, backward=lambda upstream, out, x: (upstream * nan,), name="broken", n_inputs=1)
    failing = rule(lambda x: x, backward=lambda upstream, out, x: (1 / 0,), name="failing", n_inputs=1)
    verdict = blame(broken(leaf(1.0)))
    assert (verdict.kind, verdict.first.rule.name) == ("nan", "broken")
    assert "check_rule" in verdict.remedy
    root = failing(leaf(1.0))
    with pytest.raises(ZeroDivisionError) as error:
        blame(root)
    assert error.value.__notes__ == [f"The chain rule had come to {root!r}, made by Rule('failing')."]


def test_the_first_node_is_blamed_and_the_others_are_counted() -> None:
    hidden = [leaf(-1.0 - i, f"x{i}").relu() for i in range(13)]
    verdict = blame(tg.sum(hidden))
    assert verdict.node is hidden[0]
    assert len(verdict.others) == 12
    assert repr(verdict).endswith("\n  others: 12 zero (relu)")
    model = nn.MLP(2, [4, 1], rng=0)
    for neuron in model.layers[0].neurons:
        neuron.b.data = -100.0
    loss = nn.mse([model([1.0, 2.0]), model([-1.0, 0.5])], [0.5, 0.25])
    verdict = blame(loss, parameters=model.parameters())
    assert (verdict.kind, verdict.first.rule.name, len(verdict.others)) == ("zero", "relu", 7)


def test_the_serious_comes_first() -> None:
    bad = leaf(-1.0, "d").relu() + leaf(20.0, "v").tanh() + leaf(1.0, "e") * 1e10
    worse = bad + leaf(0.0, "s").sqrt()
    worst = worse + leaf(1000.0, "o").exp() * 1e-9
    lost = leaf(1.0, "lost")
    verdict = blame(worst, parameters=[lost, *[x for x in topological_order(worst) if x.label]])
    assert [finding.kind for finding in verdict.findings] == ["inf", "inf", "unreached", *SERIOUS[3:]]
    assert [finding.phase for finding in verdict.findings[:2]] == ["forward", "backward"]
    assert [finding.kind for finding in blame(worse).findings] == ["inf", *SERIOUS[3:]]
    assert len(repr(verdict).splitlines()) <= 5


def test_what_costs_nobody_the_gradient_is_no_fault() -> None:
    x = leaf(-1.0)
    assert not blame(x.relu() + x)  # a residual connection
    w = leaf(0.5, "w")
    assert not blame((w * -1.0).relu() + (w * 2.0).relu())  # off for one example of two
    assert blame((w * -1.0).relu() + (w * -2.0).relu()).kind == "zero"
    assert not blame(w * 5 - w * 5)  # shares that cancel
    assert not blame(w + Value(-1.0).relu())  # a constant below it
    assert blame(w + leaf(-1.0, "c").relu()).kind == "zero"
    assert not blame(w + leaf(-1.0, "c").relu(), parameters=[w])
    assert not blame(leaf(1.0) * 1e-6 * 1e-6 * 1e12)
    assert not blame(leaf(1.0) * 1e-6 * 1e12 * 1e-6)


def test_thresholds_are_relative_to_upstream() -> None:
    y = leaf(1.0) * 1e-5
    for upstream in (1.0, -1e-30, 1e30):
        assert not blame(y, upstream)
        assert blame(y, upstream, vanishing=1e-4).kind == "vanishing"
        assert blame(y * 1e9, upstream, exploding=1e3).kind == "exploding"
        assert not blame(y * 1e9, upstream)


def test_a_parameter_that_the_loss_does_not_reach() -> None:
    model = nn.MLP(2, [2, 1], "tanh", rng=0)
    hidden = model.layers[0]([1.0, 2.0])
    verdict = blame(hidden[0] + hidden[1].data, parameters=model.parameters())
    assert verdict.kind == "unreached"
    assert verdict.node is model.layers[0].neurons[1].w[0]
    assert verdict.made == "layer0.neuron1.w0 is not part of the loss, its gradient stays 0"
    assert ".data" in verdict.remedy
    assert repr(verdict).splitlines()[0] == f"unreached at layer0.neuron1.w0: {verdict.made}"
    assert repr(verdict).splitlines()[-1] == "  others: 5 unreached"
    assert not blame(model([1.0, 2.0]), parameters=model.parameters())
    assert blame(Value(1.0), parameters=[Value(1.0)]).made.startswith("a parameter without a label is not")
    assert not blame(Value(1.0), parameters=[])
    x = Value(3.0, label="x")
    assert not blame(x * x, parameters=x)


@given(programs())
def test_random_programs_are_in_order_or_have_a_maker(program: Program) -> None:
    results = program.graph()
    root = results[-1]
    verdict = blame(root, parameters=[])
    assert verdict.kind in ("", "nan", "inf")
    if not verdict:
        root.backward()
        assert all(math.isfinite(node.grad) for node in topological_order(root))
    assert repr(blame(root))


def test_a_factor_of_zero_stops_the_gradient() -> None:
    a, x, w = Value(0.5, label="a"), Value(2.0, label="x"), Value(0.0, label="w")
    verdict = blame(tg.tanh(a * x + 1) * w, parameters=[a, w])
    assert verdict.kind == "zero"
    assert verdict.first.operand == 0
    assert "is 0, and stops an upstream of 1" in verdict.made
    assert "small random numbers" in verdict.remedy
    assert blame(x * 0.0, parameters=[x]).kind == "zero"
    assert not blame(tg.max(a, x), parameters=[a, x])  # a choice


# --- Mistakes around the pass -----------------------------------------------------------------------------------
FORGOTTEN = "w.grad is 12, this pass gives 4: 8 was there before. Was zero_grad forgotten?"


def test_gradients_that_were_not_set_to_zero() -> None:
    w = Value(1.0, label="w")
    for _ in range(3):
        loss = (w * 1.0 + 1) ** 2
        loss.backward()
    for verdict in (blame(loss, parameters=[w]), blame(loss)):
        assert (verdict.kind, verdict.node, verdict.made, verdict.others) == ("accumulated", w, FORGOTTEN, ())
        assert "zero_grad()" in verdict.remedy
        assert repr(verdict).splitlines()[0] == f"accumulated at w: {FORGOTTEN}"
    assert blame(loss, -2.0, parameters=w).made == FORGOTTEN
    assert repr(why(loss, w)).splitlines()[-1] == FORGOTTEN
    machine = Machine(loss)
    assert FORGOTTEN not in repr(machine)
    assert repr(machine.run()).splitlines()[-1] == FORGOTTEN


def test_gradients_are_compared_with_those_of_the_last_pass() -> None:
    a, b = Value(2.0, label="a"), Value(3.0, label="b")
    (a * b).backward(2.0)
    y = a * b
    assert not blame(y)  # no pass from y
    y.backward(3.0)
    assert blame(y).made == "a.grad is 15, this pass gives 9: 6 was there before. Was zero_grad forgotten?"
    for leaf in (a, b):
        leaf.grad = 0.0
    y.backward(3.0)
    assert not blame(y)
    b.grad += 5.25
    assert (blame(y).node, blame(y, parameters=[a]).kind) == (b, "")
    assert not blame(Value(2.0))


@pytest.mark.parametrize(
    ("steps", "kind", "text"),
    [
        ("backward", "", ""),
        ("backward update", "", "changed after the backward pass, as an update does"),
        ("update", "changed", "was changed after the forward pass\n"),
        ("update backward", "changed", "was changed after the forward pass\n"),
        ("backward update zero backward update", "changed", "and backward() ran 2 times on this result"),
    ],
)
def test_a_loss_from_before_the_update(steps: str, kind: str, text: str) -> None:
    model = nn.MLP(2, [3, 1], "tanh", rng=0)
    loss = (model([1.0, -2.0]) - 1.0) ** 2
    for step in steps.split():
        if step == "backward":
            loss.backward()
        else:
            for p in model.parameters():
                p.data, p.grad = (p.data - 0.1 * (p.grad or 1.0), p.grad) if step == "update" else (p.data, 0.0)
    verdict = blame(loss)
    assert (verdict.kind, bool(verdict)) == (kind, bool(kind))
    assert text in repr(verdict)


def test_a_number_that_was_changed_after_the_forward_pass() -> None:
    a = Value(2.0)
    y = a * a * a
    a.data = 5
    y.backward()
    sentence = "a was changed after the forward pass"
    verdict = blame(y)
    assert (verdict.kind, verdict.node, verdict.made) == ("changed", a, sentence)
    assert "Compute the result again" in verdict.remedy
    assert repr(why(y, a)).splitlines()[-1] == sentence
    assert repr(Machine(y)).splitlines()[-1] == sentence
    assert repr(Machine(y).run()).splitlines()[-1] == sentence
    assert sentence not in repr(Machine(y).next())


@pytest.mark.parametrize("widths", [[3, 1], [1]])
def test_inputs_that_are_trained_are_told_from_weights(widths: list[int]) -> None:
    model = nn.MLP(2, widths, "tanh", rng=0)
    x = [leaf(0.5, "x0"), leaf(-0.3, "x1")]
    loss = (model(x) - 0.9) ** 2
    loss.backward()
    for leaf_of_x in x:
        leaf_of_x.data -= 0.3 * leaf_of_x.grad
    assert not blame(loss)
    assert "note: x1 and 1 more changed after the backward pass" in repr(blame(loss))
    loss = (model(x) - 0.9) ** 2
    model.zero_grad()
    loss.backward()
    descend(model.parameters())
    assert not blame(loss)
    assert "note: layer0" in repr(blame(loss))


def test_what_this_pass_gives_is_that_of_this_root() -> None:
    """The pass of another loss has left its gradients in the predictions that both share."""
    w = Value(3.0, label="w")
    out = w * 2.0
    first, second = out * 5.0, out * 7.0
    first.backward()
    second.backward()
    assert blame(first).made == "w.grad is 24, this pass gives 10: 14 was there before. Was zero_grad forgotten?"


def test_a_tiny_update_is_one_of_the_weights_and_of_no_constant() -> None:
    model = nn.MLP(3, [4, 1], "tanh", rng=0)
    loss = squares(model)
    loss.backward()
    descend(model.parameters(), 1e-9)
    assert repr(blame(loss)).partition("note: ")[2].startswith("layer")


def test_a_pass_with_numbers_that_are_not_known_accuses_nobody() -> None:
    """One example: its prediction is that of an earlier step, so the last pass used numbers between the two."""
    model = nn.MLP(2, [3, 1], "tanh", rng=1)
    prediction = model([0.5, -0.3])
    for rate in (0.5, 0.5, math.nan):
        model.zero_grad()
        (loss := (prediction - 1.0) ** 2).backward()
        assert "accumulated" not in repr(blame(loss))
        descend(model.parameters(), rate)
    assert " and 12 more changed after the backward pass" in repr(blame(loss))


def test_predictions_of_an_earlier_step() -> None:
    """The loss is new in each step, the predictions are not: the last pass used numbers that are neither."""
    model = nn.MLP(3, [4, 1], "tanh", rng=0)
    outputs = [model(x) for x in XS]
    for _ in range(3):
        model.zero_grad()
        loss = sum((o - y) ** 2 for o, y in zip(outputs, YS, strict=True))
        loss.backward()
        descend(model.parameters())
    assert blame(loss).kind == "changed"


def test_an_update_without_a_backward_pass_may_be_normal() -> None:
    model = nn.MLP(3, [4, 1], "tanh", rng=0)
    loss = squares(model)
    for p, gradient in zip(model.parameters(), tg.gradients(loss, model.parameters()), strict=True):
        p.data -= 0.1 * gradient
    assert "Where tg.gradients has given the gradients, this is normal." in blame(loss).remedy


def test_a_dead_relu_of_a_class_of_ones_own() -> None:
    """Its weights have no labels: they are told from the data by being used for every example."""
    w, b = [Value(0.1), Value(0.2), Value(0.3)], Value(-30.0)
    rows = zip(XS, YS, strict=True)
    loss = sum((sum((wi * xi for wi, xi in zip(w, x, strict=True)), b).relu() - y) ** 2 for x, y in rows)
    loss.backward()
    assert blame(loss).made.startswith("dead relu")


def test_nan_stays_nan() -> None:
    assert blame(leaf(nan) * 2).others == ()
    z = leaf(1000.0, "z")
    w = z.exp() - z.exp()
    w.backward()
    assert "changed" not in repr(blame(w))


def test_a_training_of_leaves_without_places_is_not_accused_of_a_dead_unit() -> None:
    w, v = Value(1.0, label="u"), Value(-2.0, label="v")
    y = (w * 2.0).relu() + (v * 3.0).relu()
    assert blame(y).kind == "zero"
    y.backward()
    assert not blame(y)
    assert "note: no gradient reaches 1 of 2 leaves" in repr(blame(y))
