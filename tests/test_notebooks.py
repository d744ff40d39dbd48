"""The notebooks are what their sources say, and show what they show: each is executed again and compared."""

import os
import runpy
from html import unescape
from importlib import resources
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from tinygrad_edu.page.document import SCRIPTS

live = resources.files("tinygrad_edu.page")
NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
make = SimpleNamespace(**runpy.run_path(str(NOTEBOOKS / "make.py")))
SOURCES = make.sources([])
QUICK = bool(os.environ.get("TINYGRAD_EDU_QUICK"))  # fewer steps in cells tagged "slow": their outputs differ

each = pytest.mark.parametrize("source", SOURCES, ids=[source.stem for source in SOURCES])


def test_every_notebook_has_a_source() -> None:
    assert [path.stem for path in sorted(NOTEBOOKS.glob("*.ipynb"))] == [source.stem for source in SOURCES]


@each
def test_committed_cells_are_those_of_the_source(source: Path) -> None:
    committed, made = nbformat.read(source.with_suffix(".ipynb"), 4), make.notebook(source)
    assert committed.metadata == made.metadata
    for old, new in zip(committed.cells, made.cells, strict=True):
        for part in ("cell_type", "id", "metadata", "source"):
            assert old[part] == new[part], "run notebooks/make.py"


@each
def test_committed_outputs_are_clean_and_seen_everywhere(source: Path) -> None:
    committed = nbformat.read(source.with_suffix(".ipynb"), 4)
    cells = [cell for cell in committed.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not make.faults(committed)
    for cell in cells:
        for output in cell.outputs:
            data = output.get("data", {})
            assert "image/svg+xml" not in data or "image/png" in data
            pictures = [output.metadata.get(kind, {}) for kind in ("image/png", "image/svg+xml") if kind in data]
            assert all(picture.get("alt") for picture in pictures), cell.source


@each
def test_a_live_page_has_todays_scripts_and_a_picture_stands_beside_it(source: Path) -> None:
    parts = [live.joinpath(name).read_text(encoding="utf-8") for name in (*SCRIPTS, "page.css")]
    for cell in nbformat.read(source.with_suffix(".ipynb"), 4).cells:
        if "tg.live(" not in cell.source or cell.cell_type != "code":
            continue
        (data,) = (output.data for output in cell.outputs)
        assert "image/png" in data
        assert ("text/html" in data) == ("live" in cell.metadata.get("tags", []))
        page = unescape(data.get("text/html", ""))
        assert not page or all(part in page for part in parts), "run notebooks/make.py"


@each
def test_the_readme_shows_its_picture_and_links_it(source: Path) -> None:
    committed = nbformat.read(source.with_suffix(".ipynb"), 4)
    assert (NOTEBOOKS / "pictures" / f"{source.stem[:2]}.png").read_bytes() == make.cover(committed)
    readme = (NOTEBOOKS.parent / "README.md").read_text(encoding="utf-8")
    assert f'src="notebooks/pictures/{source.stem[:2]}.png"' in readme
    assert f'href="notebooks/{source.stem}.ipynb"' in readme


@each
@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # those of the machinery that runs them
def test_execution_shows_what_was_committed(source: Path) -> None:
    if "\nimport jax\n" in source.read_text(encoding="utf-8"):
        pytest.importorskip("jax")
    committed, made = nbformat.read(source.with_suffix(".ipynb"), 4), make.notebook(source)
    make.execute(made)
    make.take_pages(made)
    assert not make.faults(made)
    for old, new in zip(committed.cells, made.cells, strict=True):
        if new.cell_type == "code" and not (QUICK and "slow" in new.metadata.get("tags", [])):
            assert make.words(new) == make.words(old), new.source


OUTPUTS = {
    "error": ("error", {"ename": "ValueError", "evalue": "no", "traceback": []}),
    "stderr": ("stream", {"name": "stderr", "text": "100%|####| 3/3"}),
    "path": ("stream", {"name": "stdout", "text": "/home/ada/notes.py"}),
    "address": ("stream", {"name": "stdout", "text": "<object at 0x7f2a10c2b0>"}),
    "script": ("display_data", {"data": {"text/html": "<script>1</script>"}}),
    "figure": ("execute_result", {"data": {"text/plain": "<Figure size 500x400 with 1 Axes>"}}),
}


@pytest.mark.parametrize("fault", OUTPUTS)
def test_faults(fault: str) -> None:
    kind, options = OUTPUTS[fault]
    cell = nbformat.v4.new_code_cell("1", outputs=[nbformat.v4.new_output(kind, **options)])
    assert make.faults(nbformat.v4.new_notebook(cells=[cell]))


def test_words_of_a_timing_are_compared_without_its_numbers() -> None:
    def cell(text: str, tags: list[str]) -> nbformat.NotebookNode:
        output = nbformat.v4.new_output("stream", name="stdout", text=text)
        return nbformat.v4.new_code_cell("1", outputs=[output], metadata={"tags": tags})

    slow, fast = "12.5 ms,  1,000 nodes", "9.25 ms, 1,000 nodes"
    assert make.words(cell(slow, ["timing"])) == make.words(cell(fast, ["timing"]))
    assert make.words(cell(slow, [])) != make.words(cell(fast, []))
    assert make.words(cell("x  error 3.1e-16", [])) == make.words(cell("x  error       0", []))
    assert make.words(cell("x  error 3.1e-09", [])) != make.words(cell("x  error       0", []))


def test_unknown_names_are_told() -> None:
    with pytest.raises(SystemExit, match="No notebook's name begins with 99"):
        make.sources(["99"])
