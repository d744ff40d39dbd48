"""The READMEs keep their word: their code runs and prints what stands there, table and pictures are current."""

import contextlib
import doctest
import importlib
import io
import linecache
import pkgutil
import re
import runpy
from pathlib import Path
from xml.etree import ElementTree

import pytest

import tinygrad_edu
from tinygrad_edu.viz.table import rules_table

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ENGINE = (ROOT / "tinygrad_edu/engine/README.md").read_text(encoding="utf-8")
COMPILER = (ROOT / "tinygrad_edu/compiler/README.md").read_text(encoding="utf-8")


def blocks_of(page: str) -> list[tuple[str, str]]:
    """(language, code) of all its blocks."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


BLOCKS = blocks_of(README)


def check(blocks: list[tuple[str, str]]) -> None:
    """Every block of Python prints the block of text behind it."""
    namespace: dict[str, object] = {}
    for (language, code), (following, expected) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if language == "python":
            printed = io.StringIO()
            linecache.cache["README.md"] = len(code), None, code.splitlines(True), "README.md"  # errors show lines
            with contextlib.redirect_stdout(printed):
                exec(compile(code, "README.md", "exec"), namespace)
            assert following == "text"
            assert printed.getvalue() == expected


def texts(svg: Path) -> list[str]:
    return sorted("".join(e.itertext()) for e in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text"))


def test_python_blocks_print_what_stands_below_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        check(BLOCKS)
    finally:
        for name in ("softsign", "mish", "forgetful"):
            tinygrad_edu.RULES.pop(name, None)
    assert texts(tmp_path / "neuron.svg") == texts(ROOT / "notebooks/pictures/neuron.svg")
    assert "All 5 steps" in (tmp_path / "steps.html").read_text(encoding="utf-8")


def test_the_compilers_page_prints_what_stands_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = blocks_of(COMPILER)
    assert {language for language, _ in blocks} == {"python", "text"}
    check(blocks)


def test_the_pictures_are_those_that_their_script_makes(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / "notebooks/pictures/make.py"))["main"](tmp_path)
    for name in ("neuron.svg", "step.svg", "groups.svg"):
        assert texts(tmp_path / name) == texts(ROOT / "notebooks/pictures" / name)
        assert len(texts(tmp_path / name)) > 20


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    assert {language for language, _ in BLOCKS} == {"python", "text", "console"}
    assert [language for language, _ in BLOCKS].count("python") == [language for language, _ in BLOCKS].count(
        "text"
    )


def test_ci_runs_the_commands_as_they_stand_here() -> None:
    commands = [line for language, code in BLOCKS if language == "console" for line in code.splitlines()]
    ci = (ROOT / ".ci/run").read_text().splitlines()
    assert len(commands) == 8  # two to set up, the main job, the tests, three for expressions, and training
    assert sorted(line for line in ci if line in commands) == sorted(commands)
    assert ci[-1] == commands[3]


def test_the_engines_page_prints_what_stands_there() -> None:
    blocks = blocks_of(ENGINE)
    assert {language for language, _ in blocks} == {"python", "text"}
    try:
        check(blocks)
    finally:
        tinygrad_edu.RULES.pop("softsign", None)


def test_the_engines_page_counts_its_lines() -> None:
    files = re.findall(r"`(\w+\.py)`", ENGINE[: ENGINE.index("Read them in this order")])
    assert len(files) == 7
    lines = sum(len((ROOT / "tinygrad_edu/engine" / name).read_text("utf-8").splitlines()) for name in files)
    assert abs(lines - int(re.search(r"in this order: ([\d,]+) lines", ENGINE)[1].replace(",", ""))) <= 20


def test_the_table_is_that_of_the_rules() -> None:
    table = re.search(r"<!-- rules -->\n(.*)\n<!-- /rules -->", ENGINE, re.DOTALL)
    assert table is not None
    assert table[1] == rules_table()


@pytest.mark.parametrize(
    "module",
    [m.name for m in pkgutil.walk_packages(tinygrad_edu.__path__, "tinygrad_edu.") if "__main__" not in m.name],
)
def test_docstrings(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0
