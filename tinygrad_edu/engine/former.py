"""Names that a class had in an earlier version. Reading one says what to use instead."""

from abc import ABCMeta
from typing import TYPE_CHECKING, Any, ClassVar


def _missing(kind: Any, name: str, thing: Any) -> AttributeError:
    hint = f": {kind._former[name]}" if name in kind._former else ""
    return AttributeError(f"{kind.__name__} has no attribute {name!r}{hint}.", name=name, obj=thing)


class _OfClasses(ABCMeta):  # which a Sequence has, too
    if not TYPE_CHECKING:  # a checker refuses unknown names by itself

        def __getattr__(cls, name: str) -> Any:
            raise _missing(cls, name, cls)


class Former(metaclass=_OfClasses):
    """A class with names that are gone: `_former` says for each what to use instead."""

    __slots__ = ()
    _former: ClassVar[dict[str, str]] = {}

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise _missing(type(self), name, self)
