"""Makes the notebooks from their sources, executed: python notebooks/make.py [names]

A notebook is written as a plain file of cells, `01_derivatives_and_values.py` (jupytext's percent format), and
read as `01_derivatives_and_values.ipynb`, which this script makes: each in a fresh kernel and an empty folder.
Names may be shortened, as in `make.py 01 03`; without any, all are made. README.md here says what sources may use.
"""

import base64
import hashlib
import html
import os
import re
import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
}
ENVIRONMENT = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",  # the same sums everywhere; and two notebooks at a time do not fight for the cores
    "OPENBLAS_NUM_THREADS": "1",
}
FORBIDDEN = r"/(home|tmp|work|root|usr)/|site-packages|[A-Z]:\\|0x[0-9a-f]{6,}|<script|<iframe|Warning:"
FONTS = 'font-family="Liberation Sans, Arial, DejaVu Sans, Helvetica"'
NUMBER, ROUNDING = r"\d[\d.,]*(e[-+]?\d+)?", r"\b\d(\.\d+)?e-[1-3]\d+\b"
SETUP = """# Colab and Binder do not have all of these yet. Elsewhere this cell does nothing.
from importlib.util import find_spec

if not all(map(find_spec, ["tinygrad_edu", "matplotlib", "{}"])):
    %pip install -q "tinygrad-edu[plot,{}]"
"""
LIVE = '<iframe srcdoc="&lt;!doctype html&gt;'
SECONDS = 300  # for one cell


def sources(names: list[str]) -> list[Path]:
    """The sources whose names begin with one of these, or all if `names` is empty.

    Raises SystemExit if a name matches no source.
    """
    every = sorted(HERE.glob("[0-9][0-9]_*.py"))
    for name in names:
        if not any(path.name.startswith(name) for path in every):
            raise SystemExit(f"No notebook's name begins with {name}: there are {[path.stem for path in every]}.")
    return [path for path in every if not names or path.name.startswith(tuple(names))]


def notebook(source: Path) -> NotebookNode:
    """The notebook of a source, without outputs. Below the heading stands a cell for hosts without the package.

    A cell's id comes from its text, so that diffs stay small.
    """
    cells = jupytext.read(source, fmt="py:percent").cells
    text = source.read_text(encoding="utf-8")
    module = next((name for name in ("jax", "ziaplot") if f"\nimport {name}\n" in text), "flint")
    needs = module, "jax" if module == "jax" else "prove"
    tags = ["setup", "remove-cell"]  # the site has a link in its place
    cells.insert(1, nbformat.v4.new_code_cell(SETUP.format(*needs).strip(), metadata={"tags": tags}))
    ids: set[str] = set()
    for cell in cells:
        digest = hashlib.sha256(cell.source.encode()).hexdigest()
        cell.id = next(digest[i : i + 8] for i in range(56) if digest[i : i + 8] not in ids)
        ids.add(cell.id)
        if "answer" in cell.metadata.get("tags", []):
            cell.metadata["jupyter"] = {"source_hidden": True}
    return nbformat.v4.new_notebook(cells=cells, metadata=METADATA)


def execute(book: NotebookNode) -> None:
    """Run the cells from top to bottom, in a fresh kernel and an empty folder. Raises CellExecutionError."""
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(
            book,
            timeout=SECONDS,
            kernel_name="python3",
            record_timing=False,
            coalesce_streams=True,
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": folder}},
        ).execute(env={**os.environ, **ENVIRONMENT})
    book.metadata = nbformat.from_dict(METADATA)  # the kernel wrote its version there


def faults(book: NotebookNode) -> list[str]:
    """Outputs that a notebook must not show: errors, warnings, paths of this machine, what needs a script."""
    found = []
    for cell in book.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            markup = data.get("text/html", "")
            if markup.startswith(LIVE):  # a page of ours, whose picture stands beside it
                markup = ""
            text = "\n".join([output.get("text", ""), data.get("text/plain", ""), markup])
            fault = re.search(FORBIDDEN, text)
            if output.output_type == "error":
                found.append(f"{output.ename}: {output.evalue}")
            elif output.get("name") == "stderr":
                found.append(f"on stderr: {text.strip()}")
            elif fault:
                found.append(f"{fault[0]} in {text[:200]!r}")
            elif text.startswith("\n<Figure ") and "image/png" not in data:
                found.append("a picture that is not shown: is `# %matplotlib inline` in the first cell?")
    return found


def words(cell: NotebookNode) -> list[str]:
    """The text that a code cell shows. Rounding (numbers of 1e-10 and less) and the width of columns are left out.

    In a cell tagged "timing" all numbers are left out. A live page is compared without the picture beside it.
    """
    shown = []
    for output in cell.outputs:
        data = output.get("data", {})
        shown += [output.get("text", ""), data.get("text/plain", "")]
        shown += [data.get("text/html", "").partition('<img style="display:none"')[0]]
        shown += output.get("traceback", [])
    masked = NUMBER if "timing" in cell.metadata.get("tags", []) else ROUNDING
    return [re.sub(" +", " ", re.sub(masked, "0", text)) for text in shown if text]


def add_pictures(book: NotebookNode) -> None:
    """Add a PNG to each SVG: some hosts show no SVG, nor does JupyterLab in a notebook that it does not trust."""
    import resvg_py

    for cell in book.cells:
        for output in cell.get("outputs", []):
            svg = output.get("data", {}).get("image/svg+xml")
            if svg:
                with_fonts = re.sub('font-family="[^"]*"', FONTS, svg)
                png = resvg_py.svg_to_bytes(svg_string=with_fonts, zoom=2, dpi=96)
                output["data"]["image/png"] = base64.b64encode(bytes(png)).decode() + "\n"
                number, unit = re.search(r'width="([\d.]+)(pt)?"', svg).groups()
                output["metadata"]["image/png"] = {"width": round(float(number) * (4 / 3 if unit else 1))}


def describe_pictures(book: NotebookNode) -> None:
    """Give each picture its alternative text: of a drawing of ours its own words, of a plot the `alt` of its cell.

    Raises SystemExit for a picture that has none.
    """
    for cell in book.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            titles = re.findall(r"<title>(.*?)</title>|title=&quot;(.*?)&quot;", data.get("image/svg+xml", ""))
            alt = (
                cell.metadata.get("alt")
                or (titles and titles[0][0])
                or data.get("text/plain", "").partition("\n")[0]
            )
            for kind in ("image/png", "image/svg+xml"):
                if kind in data and (not alt or alt.startswith("<")):
                    raise SystemExit(
                        f'This cell shows a picture without words: write `# %% alt="..."`.\n{cell.source}'
                    )
                if kind in data:
                    output["metadata"].setdefault(kind, {})["alt"] = html.unescape(alt)


def take_pages(book: NotebookNode) -> None:
    """Take the live pages out of all cells but those tagged "live": 60 KB each. Their pictures stay."""
    for cell in book.cells:
        for output in cell.get("outputs", []) if "live" not in cell.metadata.get("tags", []) else ():
            if output.get("data", {}).get("text/html", "").startswith(LIVE):
                del output["data"]["text/html"]


def cover(book: NotebookNode) -> bytes | None:
    """The picture that stands for the notebook: the first of a cell tagged "cover", else the first of all."""
    cells = sorted(book.cells, key=lambda cell: "cover" not in cell.metadata.get("tags", []))
    for cell in cells:
        for output in cell.get("outputs", []):
            if png := output.get("data", {}).get("image/png"):
                return base64.b64decode(png)
    return None


def keep_timings(book: NotebookNode, before: NotebookNode) -> None:
    """Keep the old outputs of cells in which only timings differ, so that a diff shows only real changes."""
    known = {cell.id: cell for cell in before.cells if cell.cell_type == "code"}
    for cell in book.cells:
        old = known.get(cell.id)
        if old and "timing" in cell.metadata.get("tags", []) and words(cell) == words(old):
            cell.outputs = old.outputs


def main(names: list[str]) -> None:
    for source in sources(names):
        target = source.with_suffix(".ipynb")
        book = notebook(source)
        execute(book)
        take_pages(book)
        add_pictures(book)
        describe_pictures(book)
        if found := faults(book):
            raise SystemExit(f"{source.stem} shows what it must not:\n" + "\n".join(found))
        if target.exists():
            keep_timings(book, nbformat.read(target, 4))
        nbformat.validate(book)
        nbformat.write(book, target)
        if picture := cover(book):
            (HERE / "pictures" / f"{source.stem[:2]}.png").write_bytes(picture)
        print(f"{target.name}: {len(book.cells)} cells, {target.stat().st_size // 1024} KiB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
