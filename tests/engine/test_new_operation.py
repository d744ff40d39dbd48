"""An operation is added in two files: the rules and their mathematics. All else reads them."""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import tinygrad_edu

PACKAGE = Path(tinygrad_edu.__file__).parent

RULE = '''
def _softsign(x): return x / (1 + abs(x))
def _softsign_backward(upstream, out, x): return (div(upstream, (1 + abs(x)) * (1 + abs(x))),)
rule(_softsign, backward=_softsign_backward, formula="x / (1 + |x|)", slope="1 / (1 + |x|)^2")

def _root_of_two(x, y): return sqrt(x - 1) * sqrt(y - 1)
def _root_of_two_backward(upstream, out, x, y):
    return upstream * div(out, 2 * (x - 1)), upstream * div(out, 2 * (y - 1))
rule(_root_of_two, backward=_root_of_two_backward, domain=(Interval(1), Interval(1)),
     formula="sqrt((x - 1) (y - 1))", slope="out / (2 x - 2), out / (2 y - 2)")
'''  # fmt: skip
MATHEMATICS = """
    "softsign": one(lambda x: x / (1 + abs(x)), lambda x: 1 / (1 + abs(x)) ** 2),
    "root_of_two": several(
        lambda x, y: mp.sqrt(x - 1) * mp.sqrt(y - 1),
        lambda x, y: (mp.sqrt((y - 1) / (x - 1)) / 2, mp.sqrt((x - 1) / (y - 1)) / 2),
    ),
"""
USE = """
import tinygrad_edu as tg
from tinygrad_edu import *
from tinygrad_edu import micrograd, nn
from tinygrad_edu.testing import check_rule, programs
from tinygrad_edu.testing.check.random_program import SMOOTH, TEMPLATES, Program
from tinygrad_edu.viz.table import one_rule, rules_table

x = Value(3.0, label="x")
assert x.softsign().data == softsign(3.0) == tg.softsign(x).data == micrograd.Value(3.0).softsign().data == 0.75
assert "softsign" in dir(tg) and "softsign" in dir(x) and "root_of_two" in dir(tg) and "root_of_two" not in dir(x)
assert x.softsign.__doc__.startswith("softsign(x) = x / (1 + |x|)")
assert "0.5 gives 0.3333" in one_rule("softsign") and "| root_of_two |" in rules_table()
assert "2, 2 gives 1" in one_rule("root_of_two")
assert TEMPLATES["softsign"] == ("softsign(a)",) and "softsign" in SMOOTH
assert TEMPLATES["root_of_two"] == ("root_of_two(Fraction(7, 2) + a / 2, Fraction(7, 2) + b / 2)",)
programs(["softsign", root_of_two])
print(Program((0.5,), (("softsign(a)", (0, 0, 0, 0)),)))
assert check_rule("softsign").inputs > 100
assert "softsign" in str(tree(x.softsign() * 2))
assert "softsign" in draw(x.softsign() * 2).source
step = tg.compile(lambda a: (a * x).softsign(), [x])
assert abs(step.value_and_grad([1.0])[0] - 0.75) < 1e-15
"""


def test_an_operation_is_added_in_two_files(tmp_path: Path) -> None:
    copy = tmp_path / "tinygrad_edu"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    rules, mathematics = copy / "engine/rules.py", copy / "testing/check/mathematics.py"
    rules.write_text(rules.read_text(encoding="utf-8") + RULE, encoding="utf-8")
    before, row, after = mathematics.read_text(encoding="utf-8").partition('\n    "add": ')
    mathematics.write_text(before + MATHEMATICS + row[1:] + after, encoding="utf-8")
    run = subprocess.run([sys.executable, "-c", USE], cwd=tmp_path, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert "x1 = softsign(x0)" in run.stdout


def test_the_stubs_and_the_table_are_those_of_the_rules() -> None:
    spec = importlib.util.spec_from_file_location("stubs", Path(__file__).parents[2] / ".ci/stubs.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for path, text in module.stubs().items():
        assert path.read_text(encoding="utf-8") == text, "Run: python .ci/stubs.py"
