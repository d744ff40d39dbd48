"""The command line, `tinygrad-edu`. The module of a command is loaded when the command runs."""

from .main import main

__all__ = ["main"]
