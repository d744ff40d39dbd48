"""Builds the reference with pdoc into a folder; a warning is an error: python -W error .ci/reference.py FOLDER"""

import sys
from pathlib import Path

import pdoc

import tinygrad_edu as tg
from tinygrad_edu import testing

for package in (tg, testing):  # pdoc does not see what is loaded when it is first asked for
    for name in package.__all__:
        setattr(package, name, getattr(package, name))
pdoc.pdoc("tinygrad_edu", output_directory=Path(sys.argv[1]))
