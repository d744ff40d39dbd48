"""What check_rule found, to print, to plot, and to paste as a test."""

import math
from typing import Any

from ..engine.rule import RULES
from ..viz.plots import empty_figure
from .subject import ROUNDING, RuleMismatch, Subject, names

TEST = """\
import pytest

{module}from tinygrad_edu import RULES
from tinygrad_edu.testing import check_rule

{declare}{name} = {rule}


@pytest.mark.parametrize(("inputs", "value", "slopes"), [
{cases}])
def test_{name}_at_hard_points(inputs, value, slopes):
    out = {name}.forward(*inputs)
    assert out == pytest.approx(value, rel={relative:.1g}, abs=1e-300)
    assert list({name}.shares(1.0, out, *inputs)) == pytest.approx(slopes, rel={relative:.1g}, abs=1e-300)


def test_{name}_is_right():
    check_rule({name}, bound={bound!r})
"""


class RuleReport:
    """What check_rule found: `inputs`, how many were tried, on which `numbers`, and the largest errors in `worst`.

    Each of `worst` is a pair, the error and the point where it was: "value" and "slopes" in ulps, units in the
    last place, "second", that of the second derivatives, relative to the size of their terms. `mathematics` and
    `rounding` are the two verdicts, each "right", "wrong" or "not examined".
    """

    def __init__(self, subject: Subject, failure: RuleMismatch | None = None):
        self.rule, self.inputs, self.numbers = subject.rule, subject.inputs, subject.numbers
        self.worst, self.failure, self._subject = subject.worst, failure, subject

    @property
    def mathematics(self) -> str:
        """Is the formula right, as far as it was tried?"""
        return "right" if self.failure is None or self.failure.kind == ROUNDING else "wrong"

    @property
    def rounding(self) -> str:
        """Do floats keep its digits, as far as it was tried?"""
        if self.failure is None:
            return "right"
        return "wrong" if self.failure.kind == ROUNDING else "not examined"

    def __repr__(self) -> str:
        if self.failure:
            return str(self.failure)
        lines = [
            f"{self.rule} is right at {self.inputs} inputs, on {', '.join(self.numbers)}.",
            f"  mathematics  the slopes are those of the forward function, to 12 digits or more, at "
            f"{self._subject.proven} inputs",
        ]
        for kind, (error, point) in self.worst.items():
            amount = f"{error:.2g} of its terms" if kind == "second" else f"{error:.2g} ulps"
            verdict = {"value": "rounding", "second": "second"}.get(kind, "")
            what = "" if kind == "second" else kind
            lines.append(f"  {verdict:<11}  {what:<7}{amount:>18} off at most, at {', '.join(map(repr, point))}")
        return "\n".join(lines)

    def plot(self) -> Any:
        """The error in ulps of the value and of each slope over the first input, as a matplotlib Figure.

        Points that failed, those beyond 1e100 and those where the exact number is not known are left out. Raises
        ImportError without matplotlib.
        """
        figure = empty_figure(8, 3.5)
        axes, subject = figure.add_subplot(), self._subject
        errors: dict[str, list[tuple[float, float]]] = {}
        for point in sorted(p for p in subject.points if abs(p[0]) < 1e100):
            for what, error in zip(subject.results(point), subject.errors(point), strict=False):
                if error < math.inf:  # a nan has none
                    errors.setdefault(what, []).append((point[0], min(max(error, 2.0**-4), 2.0**53)))
        for what, pairs in errors.items():
            axes.plot(*zip(*pairs, strict=True), ".", label=what, markersize=4)
        axes.axhline(subject.bound, color="grey", linewidth=1, label=f"allowed: {subject.bound:g}")
        axes.set_xscale("symlog", linthresh=1e-3)
        axes.set_yscale("log", base=2)
        axes.set_xlabel(names(self.rule, 1)[0])
        axes.set_ylabel("ulps, of 2^53")
        axes.set_title(f"{self.rule.name}: errors at {len(subject.points)} points")
        axes.legend()
        return figure

    def to_pytest(self) -> str:
        """A test to paste: the numbers where the errors were largest, and check_rule over the whole domain.

        For a rule that failed, the test fails until the rule is mended.
        """
        rule, points = self.rule, [point for _, point in self.worst.values()]
        if self.failure and all(isinstance(x, int | float) for x in self.failure.point):
            points.append(self.failure.point)
        cases = [row for point in dict.fromkeys(points) if (row := _case(self._subject, point))]
        module = getattr(rule.forward, "__module__", "_")
        declared = not module.startswith(("__main__", "_", "operator"))
        parameters = ", ".join(f"{name}={x!r}" for name, x in rule.parameters.items())
        return TEST.format(
            module=f"import {module}  # declares the rule\n" if declared else "",
            declare="" if rule.name in RULES else "# declare the rule before this line\n",
            name=rule.name if rule.name.isidentifier() else "rule",
            rule=f'RULES["{rule.name}"]' + (f".bind({parameters})" if parameters else ""),
            cases="".join(f"    {case},\n" for case in cases),
            relative=max(1e-12, 4 * self._subject.bound * 2.0**-52),  # with room for terms that cancel
            bound=self._subject.bound,
        )


def _case(subject: Subject, point: Any) -> tuple[tuple[float, ...], float, list[float]] | None:
    """Inputs, value and slopes; None where the exact numbers are not known or not finite."""
    numbers = list(map(float, subject.exact(point)))
    if len(numbers) < 2 or not all(map(math.isfinite, numbers)):
        return None
    return tuple(map(float, point)), numbers[0], numbers[1:]
