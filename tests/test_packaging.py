"""What is installed: the entry points, and what a plain install must not need."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from cases import python

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_entry_points_are_installed_and_load() -> None:
    files = importlib.metadata.distribution("tinygrad-edu").entry_points
    assert {(point.group, point.value) for point in files} == {
        ("hypothesis", *PROJECT["entry-points"]["hypothesis"].values()),
        ("console_scripts", *PROJECT["scripts"].values()),
    }
    for point in files:
        assert callable(point.load())


def test_every_page_names_the_same_account() -> None:
    account = PROJECT["urls"]["Source"].split("/")[-2]
    names = "README.md notebooks/README.md notebooks/pages/conf.py .github/CONTRIBUTING.md pyproject.toml".split()
    for name in names:
        text = (ROOT / name).read_text(encoding="utf-8").replace("\\.", ".")
        accounts = re.findall(
            r"(?:github\.com|/github|/gh)/([\w-]+)/|https://([\w-]+)\.github\.io|([\w-]+)@users", text
        )
        assert {one for groups in accounts for one in groups if one} == {account}, name


@pytest.mark.parametrize(
    "first", ["from hypothesis import given, strategies as st", "import tinygrad_edu.testing"]
)
def test_hypothesis_draws_values_for_their_type(first: str) -> None:
    code = f"""{first}
from hypothesis import given, settings, strategies as st
from tinygrad_edu import Value

@settings(max_examples=20, database=None)
@given(...)
def test(x: Value, pairs: list[tuple[Value, int]]) -> None:
    assert isinstance(x, Value) and all(isinstance(pair[0], Value) for pair in pairs)

test()
print(type(st.from_type(Value).example()).__name__)"""
    assert python(code) == "Value\n"


LIGHT = {  # what is imported, and what must not come with it
    "hypothesis": "numpy mpmath flint tinygrad_edu.testing.check.strategies",
    "tinygrad_edu.debug": "numpy graphviz mpmath",
    "tinygrad_edu.datasets": "pooch requests tqdm matplotlib",
}


@pytest.mark.parametrize("module", LIGHT)
def test_an_import_loads_little(module: str) -> None:
    assert not set(LIGHT[module].split()) & set(python(f"import sys, {module}; print(*sys.modules)").split())


BLOCKED = """
import sys
from importlib.abc import MetaPathFinder
class Missing(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("hypothesis", "flint"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
"""


def test_what_a_plain_install_can_do() -> None:
    python(BLOCKED + (ROOT / ".ci/plain.py").read_text(encoding="utf-8"))
    out = python(BLOCKED + 'from tinygrad_edu.cli import main; main(["explain", "a*b", "a=2", "b=3"])')
    assert "ok" in out
