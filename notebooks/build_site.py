"""Builds the site into notebooks/site: python notebooks/build_site.py [--offline] [--linkcheck]

Sphinx makes the pages from notebooks/pages, the READMEs, the docstrings and the notebooks as they are committed.
JupyterLite makes site/lite, where the lessons run in the browser. It needs: pip install -e ".[site]", and npm.
What Pyodide has only on its CDN (NumPy, matplotlib) is loaded from there; with --offline it is left out.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import nbformat
from jupyterlite_pyodide_kernel.constants import PYODIDE_CDN_URL, PYODIDE_KERNEL_PLUGIN_ID, PYODIDE_VERSION

import tinygrad_edu as tg
from tinygrad_edu import datasets, debug, nn, optim, testing, train, viz

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
SITE = HERE / "site"
LABEXTENSION = "share/jupyter/labextensions/@jupyterlite/pyodide-kernel-extension/static/pypi"
KERNEL = ["comm", "ipykernel", "ipython", "jedi", "micropip", "piplite", "pyodide-kernel"]  # loaded at its start
OURS = ["graphviz", "hypothesis", "mpmath", "python-flint", "sortedcontainers", "tqdm", "ziaplot"]  # in lessons
INSTALL = "%pip install -q tinygrad-edu"  # the wheel of this site
STATIC = {
    "11": "This lesson needs JAX, which has no WebAssembly build: read its outputs here, or run it on a computer."
}


def run(*command: str | Path, folder: Path = ROOT) -> None:
    subprocess.run([*map(str, command)], cwd=folder, check=True)


# --- The lessons in the browser -----------------------------------------------------------------------------


def wheels(pyodide: Path, lock: dict[str, Any]) -> list[Path]:
    """Every wheel that the tab needs, downloaded or built: the kernel's, our dependencies' and our own."""
    known = lock["packages"]
    wanted, queue = {"python-flint", "hypothesis"}, [name for name in [*KERNEL, *OURS] if name in known]
    while queue:
        name = queue.pop()
        if name not in wanted and known[name]["file_name"].endswith("none-any.whl"):
            wanted.add(name)
            queue += known[name]["depends"]
    wanted |= {"comm", "graphviz", "ziaplot"}
    exact = [f"{name}=={known[name]['version']}" if name in known else name for name in sorted(wanted)]
    platform = f"pyemscripten_{lock['info']['abi_version']}_wasm32"
    tags = ["--platform", platform, "--python-version", "3.14", "--implementation", "cp", "--abi", "cp314"]
    options = ["--quiet", "--disable-pip-version-check", "--no-deps"]
    pip = [sys.executable, "-m", "pip"]
    run(*pip, "download", *options, "--only-binary=:all:", *tags, "--dest", pyodide, *exact)
    run(*pip, "wheel", *options, "--wheel-dir", pyodide, ROOT)
    for wheel in Path(sys.prefix, LABEXTENSION).glob("*.whl"):
        shutil.copy(wheel, pyodide)
    return sorted(pyodide.glob("*.whl"))


def entry(wheel: Path, known: dict[str, Any]) -> dict[str, Any]:
    """The wheel's entry in Pyodide's lock file. KERNEL and OURS name what the unknown ones depend on."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    title = re.search(r"^Name: (.*)$", metadata, re.MULTILINE)[1].lower().replace("_", "-")
    return {
        "name": title,
        "version": re.search(r"^Version: (.*)$", metadata, re.MULTILINE)[1],
        "file_name": wheel.name,
        "install_dir": "site",
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "package_type": "package",
        "imports": [title.replace("-", "_")],
        "depends": known[title]["depends"] if title in known else ["numpy", *OURS] * (title == "tinygrad-edu"),
    }


def pyodide(folder: Path, offline: bool) -> None:
    """Pyodide with the wheels beside it. All others of its packages are on the CDN, or left out."""
    run(
        "npm", "install", "--silent", "--no-audit", "--prefix", folder.parent / "npm", f"pyodide@{PYODIDE_VERSION}"
    )
    names = ("pyodide.mjs", "pyodide.asm.mjs", "pyodide.asm.wasm", "python_stdlib.zip", "pyodide-lock.json")
    folder.mkdir(parents=True)
    for name in names:
        shutil.copy(folder.parent / "npm/node_modules/pyodide" / name, folder)
    lock = json.loads((folder / names[-1]).read_text("utf-8"))
    known = lock["packages"]
    for one in known.values():
        one["depends"] = [name.lower().replace("_", "-") for name in one["depends"]]
    local = [entry(wheel, known) for wheel in wheels(folder, lock)]
    distant = {name: {**one, "file_name": f"{PYODIDE_CDN_URL}/{one['file_name']}"} for name, one in known.items()}
    packages = ({} if offline else distant) | {one["name"]: one for one in local}
    for one in packages.values():
        one["depends"] = [name for name in one["depends"] if name in packages]
    lock["packages"] = packages
    (folder / names[-1]).write_text(json.dumps(lock), encoding="utf-8")


def lessons(folder: Path, to_run: bool) -> None:
    """The notebooks; the set-up cell of each installs our wheel, links the lesson, or says why it cannot run."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(HERE.glob("[0-9][0-9]_*.ipynb")):
        book = nbformat.read(path, 4)
        place = f"../lite/notebooks/index.html?path={path.name}"
        link = f'<a class="try" href="{place}">Run this lesson in the browser</a>'
        text = STATIC.get(path.name[:2], link)
        code = to_run and text is link
        new = nbformat.v4.new_code_cell(INSTALL) if code else nbformat.v4.new_markdown_cell(text)
        new.id = "first"
        book.cells[1] = new  # below the heading
        for cell in book.cells:
            if code and cell.cell_type == "code":
                cell.execution_count = None  # a number says that the reader ran the cell
        nbformat.write(book, folder / path.name)


def lite(work: Path, offline: bool) -> None:
    pyodide(work / "static/pyodide", offline)
    lessons(work / "files", to_run=True)
    settings = {"loadPyodideOptions": {"packages": KERNEL}, "disablePyPIFallback": True}
    config = {"litePluginSettings": {PYODIDE_KERNEL_PLUGIN_ID: settings}, "exposeAppInBrowser": True}
    config |= {"appName": "tinygrad_edu", "defaultKernelName": "python"}
    text = json.dumps({"jupyter-lite-schema-version": 0, "jupyter-config-data": config})
    (work / "jupyter-lite.json").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "jupyterlite_core.app", "build", "--no-sourcemaps", "--apps", "notebooks"]
    run(*command, "--apps", "tree", "--contents", "files", "--output-dir", SITE / "lite", folder=work)


# --- The pages ----------------------------------------------------------------------------------------------

HOME = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Source"]
PAGES = [
    "tinygrad_edu/*/README.md",
    "tests/README.md",
    "tests/benchmarks/README.md",
    "notebooks/README.md",
    ".github/*.md",
]
DROP_IN = (tg.micrograd.engine, tg.micrograd.nn)
MODULES = (tg, nn, optim, train, datasets, viz, debug, testing, tg.elementary, tg.micrograd, *DROP_IN)
ACCESSIBLE = {
    'role="heading">': 'role="heading" aria-level="2">',
    '<aside class="sidebar-drawer">': '<aside class="sidebar-drawer" aria-label="Pages">',
    '<aside class="toc-drawer': '<aside aria-label="On this page" class="toc-drawer',
    "<pre>": '<pre tabindex="0">',
}


def with_links(page: Path) -> str:
    """The page's text; links to what is no page of the site lead to the repository."""

    def target(match: re.Match[str]) -> str:
        path, anchor = match[2], match[3] or ""
        file = (page.parent / path).resolve()
        if path.startswith("https:") or file.suffix in (".md", ".ipynb", ".png", ".svg", ".gif"):
            if file == ROOT / "README.md":
                path = path.replace("README.md", "index.md")
            return f"{match[1]}{path}{anchor})"
        return f"{match[1]}{HOME}/blob/main/{file.relative_to(ROOT)}{anchor})"

    return re.sub(r"(\]\()([^)#]+)(#[^)]*)?\)", target, page.read_text("utf-8"))


def reference(folder: Path) -> list[str]:
    """A page for each module with all that is public in it, also what stays out of `__all__`. Their names."""
    folder.mkdir()
    for module in MODULES:
        name = module.__name__
        lines = [f"# {name}", "", "```{eval-rst}", f".. module:: {name}", ""]
        public_names = dir(tg) if module is tg else getattr(module, "__all__", vars(module))
        for public in public_names:
            thing = getattr(module, public)
            if module in DROP_IN and (public[0] == "_" or getattr(thing, "__module__", "") != module.__name__):
                continue
            if isinstance(thing, type):
                lines += [f".. autoclass:: {public}", "   :members:", ""]
            elif callable(thing) and hasattr(thing, "__name__"):
                lines += [f".. autofunction:: {public}", ""]
            elif not isinstance(thing, ModuleType):
                lines += [f".. autodata:: {public}", "   :no-value:", ""]
        (folder / f"{name}.md").write_text("\n".join([*lines, "```", ""]), encoding="utf-8")
    return [f"reference/{module.__name__}" for module in MODULES]


def gallery(folder: Path) -> None:
    """The live pages that the first page and the gallery show."""
    folder.mkdir(parents=True)

    def leaves(name: str, *numbers: float) -> list[tg.Value]:
        return [tg.Value(number, label=f"{name}{place}") for place, number in enumerate(numbers)]

    neuron = tg.tanh(tg.dot(leaves("w", 0.5, -1.0), leaves("x", 1.5, 0.5)) + tg.Value(0.25, label="b"))
    query, z = tg.Value(1.0, label="query"), tg.Value(800.0, label="z")
    attention = tg.dot(
        tg.softmax([query * key for key in leaves("key", 2.0, 0.5, -1.0)]), leaves("value", 1.0, 2.0, 3.0)
    )
    bug = -tg.log(tg.exp(z) / (tg.exp(z) + 1.0))
    X, y = datasets.moons(20, seed=0)
    model = nn.MLP(2, [3, 1], activation="tanh", rng=0)
    optimizer = optim.SGD(model.parameters(), lr=0.3)
    with debug.record(model) as film:
        for _ in range(30):
            optimizer.zero_grad()
            loss = nn.mse([model(row) for row in X[:2]], y[:2])
            loss.backward()
            optimizer.step()
    shown = {"neuron": tg.live(neuron), "attention": tg.live(attention), "bug": tg.live(bug), "moons": film}
    for name, page in shown.items():
        (folder / f"{name}.html").write_text(page.to_html(), encoding="utf-8")


def make_accessible(page: Path) -> None:
    """What a screen reader and the keyboard miss in the theme's pages."""
    text = page.read_text("utf-8")
    for before, after in ACCESSIBLE.items():
        text = text.replace(before, after)
    text = re.sub(r'alt="[^"]*_images/[^"]*"', 'alt="What the cell above shows, as a picture"', text)
    page.write_text(text, encoding="utf-8")


def pages(work: Path, linkcheck: bool) -> None:
    """Lay out the sources as in the repository, so that their links hold, and run Sphinx."""
    shutil.copytree(HERE / "pages", work, ignore=shutil.ignore_patterns("__pycache__"))
    (work / "_static").mkdir()
    (work / "site.css").rename(work / "_static/site.css")
    run("npm", "install", "--silent", "--no-audit", "--prefix", work.parent / "npm", "mathjax@3")
    shutil.copy(work.parent / "npm/node_modules/mathjax/es5/tex-svg.js", work / "_static/mathjax.js")
    found = [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    for path in [
        *found,
        *sorted(HERE.glob("pictures/*")),
        *ROOT.glob("tinygrad_edu/*/*.svg"),
    ]:
        copy = work / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path in found:
            copy.write_text(with_links(path), encoding="utf-8")
        else:
            shutil.copy(path, copy)
    gallery(work / "extra/live")
    lessons(work / "notebooks", to_run=False)
    names = [f"notebooks/{path.stem}" for path in sorted(HERE.glob("*.ipynb"))]
    texts = [str(path.relative_to(ROOT).with_suffix("")) for path in found]
    contents = {
        "Start": ["how_do_i", "gallery"],
        "Lessons": names,
        "Guides": texts,
        "Reference": reference(work / "reference"),
    }
    with (work / "index.md").open("a", encoding="utf-8") as index:
        for caption, names in contents.items():
            print("\n```{toctree}", ":hidden:", f":caption: {caption}", "", *names, "```", sep="\n", file=index)
    sphinx = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-j", "2"]
    if linkcheck:
        run(*sphinx, "-b", "linkcheck", work, work.parent / "links")
    run(*sphinx, "-d", work.parent / "doctrees", work, work.parent / "html")  # myst-nb writes beside this folder
    shutil.move(work.parent / "html", SITE)
    for page in SITE.rglob("*.html"):
        if page.parent.name != "live":
            make_accessible(page)


def main(arguments: list[str]) -> None:
    shutil.rmtree(SITE, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        pages(Path(folder) / "pages", "--linkcheck" in arguments)
        (Path(folder) / "lite").mkdir()
        lite(Path(folder) / "lite", "--offline" in arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
