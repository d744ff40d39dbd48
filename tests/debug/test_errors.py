"""What is refused: each call with its error."""

import math
from collections.abc import Callable
from typing import Any

from cases import refused
from graphs import chain, neuron

from tinygrad_edu import Value, nn, tree
from tinygrad_edu.debug import Machine, blame, record, run, steps, why
from tinygrad_edu.debug.frames import frame


def goto(target: Any) -> Machine:
    return Machine(neuron()).next().goto(target)


NONE: Any = (([1.0], r"1.0 \(float\)"), ([[1.0]], r"\[1.0\] \(list\)"), (3, r"3 \(int\)"))
OF_A_ROOT: Any = (blame, steps, Machine, run, lambda root: why(root, root[0]))
ERRORS: list[tuple[Callable[[Value], Any], type[Exception], str]] = [
    *((lambda v, f=f: f([v]), TypeError, r"Pass one Value, the .* computation, not \[Value") for f in OF_A_ROOT),
    *((lambda v, f=f: f(v, "1"), TypeError, "one real number") for f in (blame, steps, Machine)),
    *((lambda v, n=n: blame(v, n), ValueError, f"finite number other than 0, got {n}") for n in (0, math.nan)),
    *((lambda v, f=f: f(v, variables=3), TypeError, "^variables are a dict of") for f in (blame, Machine, tree)),
    *((lambda v, a=a: run(v, a), TypeError, "run takes commands as text .*, got") for a in (3, ["n"])),
    (lambda v: blame(v, exploding=0.5), ValueError, "exploding 1 or more, got 1e-09 and 0.5"),
    *((lambda v, p=p: blame(v, parameters=p), TypeError, rf"parameters\(\), got {told}") for p, told in NONE),
    (lambda v: blame(v, vanishing="a"), ValueError, "exploding 1 or more, got 'a' and"),
    (lambda v: why(v, 2.0), TypeError, r"x is the Value whose gradient is explained, not 2.0 \(float\)"),
    *((lambda v, n=n: why(v, v, n), TypeError, f"how many paths to show, an int, got {n}") for n in (1.5, True)),
    (lambda v: why(v, v, -1), ValueError, "0 or more, got -1"),
    (lambda v: why(neuron(), "aa"), ValueError, r"no node is called 'aa' here\. Did you mean a"),
    *((lambda v, n=n: steps(neuron()).gradients(n), ValueError, f"from 0 to 3, got {n}") for n in (-1, 4)),
    *((lambda v, f=f: f(1.5), TypeError, "integer") for f in (goto, steps(neuron()).gradients)),
    *((lambda v, n=n: steps(neuron())[n], IndexError, f"no step {n}: there are 3") for n in (3, -4)),
    (lambda v: steps(neuron())["y"], TypeError, "integer"),
    (lambda v: steps(v)[0], IndexError, "no step 0: there are 0"),
    (lambda v: frame(steps(chain(400)), 1), ValueError, "up to 400 nodes, and this graph has 401: take the steps"),
    (lambda v: goto(Value(1.0, label="z")), ValueError, "label='z'.* is not among the nodes"),
    (lambda v: Machine(neuron()).gradient(v), ValueError, "is not among the nodes"),
    *((lambda v, n=n: goto(n), ValueError, f"goto takes 0 to 3, the number of steps, got {n}") for n in (4, -1)),
    (lambda v: goto("ee"), ValueError, r"no node is called 'ee' here\. Did you mean e\?"),
    (lambda v: Machine(nn.MLP(1, [2, 1], rng=0)([v])).node("neuron0.w0"), ValueError, r"'neuron0\.w0' here"),
    (lambda v: Machine(neuron()).goto(2).until("e"), ValueError, "the step of e is over: goto goes back to it"),
    (lambda v: Machine(neuron()).set("e", 1), ValueError, "e was computed: set one of the leaves"),
    (lambda v: run(neuron(), a=1.0), TypeError, "run takes numbers beside a function, got a beside Value"),
    (lambda v: record(nn.Neuron(2, rng=0), every=0), ValueError, "every is a whole number of 1 or more, got 0"),
    (lambda v: record(3), TypeError, "^record takes a model or a list of Values, got 3 "),
    (lambda v: record(nn.Activation("relu")), ValueError, "The model has no parameters"),
    (lambda v: record(nn.Neuron(2, rng=0)).to_html(), ValueError, "Nothing is recorded: no backward pass has"),
]
test_it_is_refused = refused(ERRORS, lambda: Value(1.0))
