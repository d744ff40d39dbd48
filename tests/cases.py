"""Every rule, and those with parameters at several of them; every optimiser; interrupts; processes; Node."""

import copy
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import settings

from tinygrad_edu import optim
from tinygrad_edu.engine.rules import RULES

FEWER = settings(deadline=None, max_examples=settings.default.max_examples * 3 // 5)  # where each takes long
EXPONENTS = [0, 1, 3, -1, 0.5, -0.5, 2.5, 0.1, 1e-20]
OURS = [rule for rule in RULES.values() if rule.ours]
CASES = [
    *OURS,
    *(RULES["pow_n"].bind(exponent=exponent) for exponent in EXPONENTS),
    *(RULES["leaky_relu"].bind(alpha=alpha) for alpha in (0.2, 0.0, 1.5)),
    *(RULES["elu"].bind(alpha=alpha) for alpha in (0.3, 2.0)),
]

OPTIMIZERS: dict[str, Callable[..., optim.Optimizer]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "Nesterov": lambda p: optim.SGD(p, lr=0.02, momentum=0.9, nesterov=True, weight_decay=0.01),
    "RMSProp": lambda p: optim.RMSProp(p, lr=0.01, momentum=0.5, weight_decay=0.01),
    "Adam": lambda p: optim.Adam(p, lr=0.02, betas=(0.8, 0.95), weight_decay=0.01),
    "AdamW": lambda p: optim.AdamW(p, lr=0.02, weight_decay=0.1),
}


NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="needs Node.js")
COPIES: dict[str, Any] = {"deepcopy": copy.deepcopy, "pickle": lambda x: pickle.loads(pickle.dumps(x))}


def refused(table: Any, *arguments: Callable[[], Any]) -> Any:
    """A test of a table: calls, the type of the error of each, and what its one sentence says.

    A call gets what the arguments make.
    """

    @pytest.mark.parametrize(("call", "error", "match"), table)
    def test(call: Callable[..., Any], error: type[Exception], match: str) -> None:
        with pytest.raises(error, match=match) as caught:
            call(*[make() for make in arguments])
        assert "\n" not in str(caught.value)

    return test


def run_lines(run: Callable[[], Any], inside: Callable[[Any], Any], at: int = 0) -> int:
    """Run, with a KeyboardInterrupt in line `at` of those that are `inside`. Returns how many lines there are."""
    lines = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal lines
        if event == "line" and inside(frame):
            lines += 1
            if lines == at:
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
    return lines


def run(*arguments: str, input: str = "", **environment: str) -> "subprocess.CompletedProcess[str]":
    """A process of Python with these arguments, in a terminal of UTF-8."""
    return subprocess.run(
        [sys.executable, *arguments],
        input=input,
        capture_output=True,
        encoding="utf-8",
        timeout=900,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
    )


def python(program: str, **environment: str) -> str:
    """What a program prints in a process of its own, which ends without an error."""
    done = run("-c", program, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_node(script: str) -> Any:
    """What a module of JavaScript gives to PRINT. Its nan and inf come as texts."""
    as_text = "(key, x) => (typeof x === 'number' && !Number.isFinite(x) ? String(x) : x)"
    script += f"\nfunction PRINT(x) {{ console.log(JSON.stringify(x, {as_text})); }}"
    command = [str(NODE), "--input-type=module"]
    done = subprocess.run(command, input=script, capture_output=True, encoding="utf-8", timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
