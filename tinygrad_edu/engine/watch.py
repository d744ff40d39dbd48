"""What a trace must know beside the operations: `nn` tells it which modes and statistics a function reads."""

import threading
from typing import Any


class _Watch(threading.local):
    """`tracer` traces a function in this thread; it is None in a thread that traces nothing.

    tracer.reads(thing, name, now)    The function reads an attribute: if it changes, the trace is out of date.
    tracer.refuse(what, instead)      The function does what no compiled function can do: raises TraceError.

    tells: do films and optimisers learn of backward passes? Not of those that the compiler compares with.

    factor(dropout)                        The factor of a number, in place of one that Dropout draws.
    remember(norm, means, variances, n)    In place of the method of BatchNorm.
    """

    tracer: Any = None
    tells: bool = True
    factor: Any = None
    remember: Any = None


watch: _Watch = _Watch()
# Films that record backward passes at present, in any thread. Each has `parameters`, before(root), and
# after(root, what `before` has returned).
recorders: list[Any] = []
tracers: list[Any] = []  # those that trace a function at present, in any thread
