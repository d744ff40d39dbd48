"""The READMEs are right: code prints what stands below it, links lead somewhere, pictures are current."""

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

ROOT = Path(__file__).parent.parent
FOLDERS = ("tinygrad_edu", "tests", "notebooks")
PAGES = [
    ROOT / "README.md",
    *(ROOT / ".github").glob("*.md"),
    *sorted(page for folder in FOLDERS for page in (ROOT / folder).rglob("README.md")),
    *sorted((ROOT / "notebooks/pages").glob("*.md")),
]
TEXTS = {str(page.relative_to(ROOT)): page.read_text(encoding="utf-8") for page in PAGES}

each = pytest.mark.parametrize("page", TEXTS)


def blocks_of(page: str) -> list[tuple[str, str]]:
    """(language, code) of each fenced block of the page."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", TEXTS[page], re.MULTILINE | re.DOTALL)


def texts(svg: Path) -> list[str]:
    return sorted("".join(e.itertext()) for e in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text"))


@each
def test_every_block_is_of_a_kind_that_is_tested(page: str) -> None:
    """python is run, text is compared with what the python block above it prints, the others are not run."""
    blocks = blocks_of(page)
    assert TEXTS[page].count("```") == 2 * len(blocks)
    assert {language for language, _ in blocks} <= {"python", "text", "console", "bibtex"}
    for (before, _), (language, _) in zip([("", ""), *blocks], blocks, strict=False):
        assert language != "text" or before == "python"


@pytest.mark.parametrize("page", [page for page in TEXTS if "```python" in TEXTS[page]])
def test_python_blocks_print_what_stands_below_them(page, tmp_path, monkeypatch) -> None:
    """The blocks of a page are one program. A block with no text below it prints nothing."""
    monkeypatch.chdir(tmp_path)
    blocks, namespace = blocks_of(page), {"__name__": "__main__"}
    for (language, code), (following, expected) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if language == "python":
            printed, lines = io.StringIO(), code.splitlines(True)
            linecache.cache["README.md"] = (len(code), None, lines, "README.md")  # errors show lines
            with contextlib.redirect_stdout(printed):
                exec(compile(code, "README.md", "exec"), namespace)
            assert printed.getvalue() == (expected if following == "text" else "")


@each
def test_links_and_pictures_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)#]+)[^)]*\)|(?:href|src)=\"([^\"#]+)", TEXTS[page])
    for target in (markdown or html for markdown, html in targets):
        made = ("https://", "live/", "lite/")  # the site makes these; its first page stands at its top
        places = [(ROOT / page).parent / target, ROOT / target]
        exists = any(place.exists() for place in places[: 1 + ("/pages/" in page)])
        assert target.startswith(made) or exists, target


def test_the_readme_is_short_and_ci_runs_its_commands() -> None:
    assert len(TEXTS["README.md"].splitlines()) <= 150
    code = "".join(code for language, code in blocks_of("README.md") if language == "console")
    commands = code.splitlines()
    ci = (ROOT / ".ci/run").read_text(encoding="utf-8").splitlines()
    assert len(commands) == 4  # two to set up, the main job, the tests
    assert [line for line in ci if line in commands] == commands


def test_the_pictures_are_those_that_their_script_makes(tmp_path: Path) -> None:
    runpy.run_path(str(ROOT / "notebooks/pictures/make.py"))["main"](tmp_path)
    for name in ("neuron.svg", "step.svg", "groups.svg"):
        assert texts(tmp_path / name) == texts(ROOT / "notebooks/pictures" / name)
        assert len(texts(tmp_path / name)) > 20


def test_the_engines_page_counts_its_lines() -> None:
    page = TEXTS["tinygrad_edu/engine/README.md"]
    files = re.findall(r"`(\w+\.py)`", page[: page.index("Read them in this order")])
    assert len(files) == 7
    lines = sum(len((ROOT / "tinygrad_edu/engine" / name).read_text("utf-8").splitlines()) for name in files)
    assert abs(lines - int(re.search(r"in this order: ([\d,]+) lines", page)[1].replace(",", ""))) <= 20


@pytest.mark.parametrize(
    "module",
    [m.name for m in pkgutil.walk_packages(tinygrad_edu.__path__, "tinygrad_edu.") if "__main__" not in m.name],
)
def test_docstrings(module: str) -> None:
    assert doctest.testmod(importlib.import_module(module)).failed == 0
