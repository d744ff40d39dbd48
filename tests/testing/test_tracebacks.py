"""A check that fails inside of pytest shows the line of the user's test, and no frame of ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import tinygrad_edu as tg
from tinygrad_edu import Value, testing

def wrong_slope(upstream, out, x):
    return (upstream * 3 * x,)

square = tg.rule(lambda x: x * x, backward=wrong_slope, name="square")

class Engine:
    def __init__(self, data, *more):
        self.data, self.grad = data, 0.0
    def __add__(self, other):
        return Engine(self.data + getattr(other, "data", other))
    __radd__ = __mul__ = __rmul__ = __add__
    def backward(self):
        pass

def test():
    {call}
"""
CALLS = {
    "gradcheck": "testing.gradcheck(square, 2.0)",
    "check_rule": "testing.check_rule(square)",
    "assert_near": "testing.assert_near(1.0, 2.0, 1.0)",
    "diagnose": "testing.diagnose(Engine).check()",
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
def test_frames_of_our_checks_are_hidden(call: str, tmp_path: Path) -> None:
    (tmp_path / "test_users.py").write_text(PROGRAM.replace("{call}", call), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_users.py"]
    plain = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}  # such as --cov
    shown = subprocess.run(command, cwd=tmp_path, env=plain, capture_output=True, text=True, timeout=600).stdout
    assert "1 failed" in shown
    assert f">       {call}" in shown or f">   {call}" in shown
    assert "tinygrad_edu/" not in shown.replace("\\", "/")
