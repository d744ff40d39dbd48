"""Ctrl-C in any line of backward(): every leaf keeps the gradient it had, or has the new one, never a part."""

import pytest
from cases import run_lines

from tinygrad_edu import Value


def test_an_interrupt_in_any_line_leaves_whole_gradients() -> None:
    leaves = [Value(0.1 * i + 0.05, label=f"x{i}") for i in range(4)]
    y = leaves[0]
    for i in range(12):
        y = (y + leaves[i % 4]) * 0.5 if i % 3 else (y * leaves[i % 4]).tanh()
    y.backward()
    once = [leaf.grad for leaf in leaves]

    def interrupted(at: int) -> int:
        for leaf, gradient in zip(leaves, once, strict=True):
            leaf.grad = gradient
        return run_lines(y.backward, lambda frame: frame.f_code is Value.backward.__code__, at)

    lines = interrupted(0)
    assert lines > 60
    assert [leaf.grad for leaf in leaves] == [2 * gradient for gradient in once]
    for at in range(1, lines + 1):
        with pytest.raises(KeyboardInterrupt):
            interrupted(at)
        assert [leaf.grad for leaf in leaves] in (once, [2 * gradient for gradient in once]), at
