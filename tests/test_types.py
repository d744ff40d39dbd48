"""The programs of tests/typing under mypy --strict, and under pyright where it is installed."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tinygrad_edu as tg

FOLDER = Path(__file__).parent / "typing"
CHECKERS = {"mypy": [sys.executable, "-m", "mypy", "--strict", "--no-error-summary"], "pyright": ["pyright"]}


def lines_with_errors(checker: str, file: str, tmp_path: Path) -> set[int]:
    if checker == "pyright" and not shutil.which("pyright"):
        pytest.skip("pyright is not installed")
    options = ["--cache-dir", str(tmp_path)] if checker == "mypy" else ["--pythonpath", sys.executable]
    run = subprocess.run([*CHECKERS[checker], *options, str(FOLDER / file)], capture_output=True, text=True)
    assert run.returncode in (0, 1), run.stdout + run.stderr
    return {int(line) for line in re.findall(rf"{file}:(\d+).*error", run.stdout)}


@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKERS)
def test_what_is_right_has_the_types_that_it_says(checker: str, tmp_path: Path) -> None:
    assert lines_with_errors(checker, "right.py", tmp_path) == set()


def wrong_statements() -> list[ast.stmt]:
    return [node for node in ast.parse((FOLDER / "wrong.py").read_text()).body if isinstance(node, ast.Expr)][1:]


@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKERS)
def test_what_is_wrong_is_an_error_for_a_checker(checker: str, tmp_path: Path) -> None:
    assert lines_with_errors(checker, "wrong.py", tmp_path) == {node.lineno for node in wrong_statements()}


@pytest.mark.parametrize("statement", [ast.unparse(node) for node in wrong_statements()])
def test_what_is_wrong_is_an_error_in_python(statement: str) -> None:
    with pytest.raises((TypeError, AttributeError)):
        exec(statement, {"tg": tg, "a": tg.Value(2.0)})
