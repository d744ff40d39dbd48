"""Arrays of numbers that are followed."""

from typing import Any

import numpy as np


class Followed(np.ndarray[Any, Any]):
    """An array of numbers that are followed: comparisons do not ask for them."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        inputs = tuple(np.asarray(x, object) if isinstance(x, np.ndarray) else x for x in inputs)
        if ufunc in (np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal):
            options["dtype"] = object
        result = getattr(ufunc, method)(*inputs, **options)
        return result.view(Followed) if isinstance(result, np.ndarray) else result

    def astype(self, *_: Any, **__: Any) -> Any:
        """The same: its numbers have no type before they are known."""
        return self


def followed(numbers: Any) -> Any:
    """Nested lists as such an array."""
    return np.array(numbers, object).view(Followed)
