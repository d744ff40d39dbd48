"""The command line, `tinygrad-edu`: one module per command, loaded when the command runs."""

from .main import main

__all__ = ["main"]
