"""A check that fails inside of pytest shows the line of the user's test, and no frame of ours."""

import os
import subprocess
import sys
from pathlib import Path

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
"""
CALLS = [
    "testing.gradcheck(square, 2.0)",
    "testing.check_rule(square)",
    "testing.assert_near(1.0, 2.0, 1.0)",
    "testing.diagnose(Engine).check()",
]


def test_frames_of_our_checks_are_hidden(tmp_path: Path) -> None:
    tests = [f"def test_{i}():\n    {call}\n" for i, call in enumerate(CALLS)]
    (tmp_path / "test_users.py").write_text("\n".join([PROGRAM, *tests]), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_users.py"]
    plain = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}  # such as --cov
    shown = subprocess.run(command, cwd=tmp_path, env=plain, capture_output=True, text=True, timeout=600).stdout
    assert f"{len(CALLS)} failed" in shown
    for call in CALLS:
        assert f">       {call}" in shown or f">   {call}" in shown
    assert "tinygrad_edu/" not in shown.replace("\\", "/")
