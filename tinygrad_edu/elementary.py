"""The functions that rules are written with, for `from tinygrad_edu.elementary import where`."""

from .engine.elementary import *  # noqa: F403  # the list is engine/elementary.py's own __all__
