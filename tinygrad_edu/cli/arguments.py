"""What an argument of a command may be. Paths are checked before the work begins."""

import argparse
import os
import reprlib
from functools import partial
from pathlib import Path

STDOUT = Path("-")


def _whole(text: str, least: int, what: str, most: int = 1_000_000) -> int:
    """text as a number from least to most. An error says `what` is expected, and what was given."""
    if text.strip().isdecimal() and int(text[:20]) >= least:
        if len(text) <= 20 and int(text) <= most:
            return int(text)
        what += f", at most {most:,}"
    raise argparse.ArgumentTypeError(f"takes {what}, not {reprlib.repr(text)}")


count = partial(_whole, least=1, what="a whole number of 1 or more")
seed = partial(_whole, least=0, what="a whole number of 0 or more", most=2**32 - 1)


def folder(text: str) -> Path:
    folder = Path(text)
    if not folder.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text!r}; make it first")
    if not os.access(folder, os.W_OK):
        raise argparse.ArgumentTypeError(f"the folder {text!r} cannot be written to")
    return folder


def file(text: str) -> Path:
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder; add the name of a file")
    if path.exists():
        if not os.access(path, os.W_OK):
            raise argparse.ArgumentTypeError(f"the file {text!r} cannot be written to")
    else:
        folder(str(path.parent))
    return path


def output(text: str) -> Path:
    return STDOUT if text == "-" else file(text)
