"""Sphinx: how the pages of the site are made. notebooks/build_site.py lays out the folder and runs it."""

import re

project = "tinygrad_edu"
author = "The tinygrad_edu authors"
extensions = ["myst_nb", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = "tinygrad_edu"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["extra"]  # the live pages
html_show_sphinx = False
html_copy_source = False
html_theme_options = {"top_of_page_buttons": []}
pygments_style = "a11y-high-contrast-light"  # the defaults of furo have too little contrast
pygments_dark_style = "a11y-high-contrast-dark"
mathjax_path = "mathjax.js"  # in _static: the pages ask no other host
nb_execution_mode = "off"
nb_ipywidgets_js = {}
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "none"
linkcheck_ignore = [
    r"https://github\.com/OWNER/.*",
    r"https://OWNER\.github\.io/.*",
    r".*/OWNER/tinygrad_edu/.*",  # Colab and Binder
]  # from the next tag on
suppress_warnings = ["myst.header", "mystnb.unknown_mime_type"]


def code(match):
    return f"``{match[1]}``\\ " if match[1] else "\\" + match[2]


def as_text(app, what, name, obj, options, lines):
    """Docstrings are plain text with doctests: columns and formulas stay as they are, nothing else is markup."""
    if what == "data" and obj.__doc__ == type(obj).__doc__:  # of dict, of float
        lines.clear()
    shown = []
    for block in "\n".join(lines).strip().split("\n\n"):
        if block.lstrip().startswith(">>>"):
            shown += block.splitlines()
        elif re.search(r"^ |\S   *\S", block, re.MULTILINE):
            shown += ["::", "", *("   " + line for line in block.splitlines())]
        else:
            shown += re.sub(r"`([^`\n]+)`|([\\*_|`])", code, block).splitlines()
        shown.append("")
    lines[:] = shown


def setup(app):
    app.connect("autodoc-process-docstring", as_text)
