"""What RULES gives under the rules' own names: the functions, and a base class for the methods of Value.

The names are made when this is imported. Type checkers read named.pyi, which `python .ci/stubs.py` writes.
"""

from .rules import RULES

__all__ = [name for name, rule in RULES.items() if rule.called in ("function", "method")]
globals().update((name, RULES[name]) for name in __all__)


class Methods:
    """A method for every rule that is called as one; value.py makes them."""

    __slots__ = ()
