"""Functions that straight-line Python calls. Their source is copied into programs that use them."""

from math import exp, fsum, isinf, log1p, nan, pow


def power(x, y):
    """x**y for real results; nan stays nan."""
    if (x == 0 and y < 0) or (x < 0 and y % 1):
        raise ValueError("0 to a negative power, or a negative base with a non-integer exponent")
    return pow(x, y) if x == x and y == y else nan


def logsumexp(xs):
    """log(e^x1 + e^x2 + ...), and after it the slopes: the softmax."""
    top = max(xs)
    powers = [exp(x - (0.0 if isinf(top) else top)) for x in xs]
    excess = fsum([*powers, -1.0])
    total = 1.0 + excess
    return [(0.0 if isinf(top) else top) + log1p(excess), *[power / total for power in powers]]


def take(rows, index):
    """rows[index], where the index is a whole number from 0 on."""
    if not 0 <= index < len(rows) or index % 1:
        raise ValueError(f"{index} is no index from 0 to {len(rows) - 1}")
    return rows[int(index)]


def placed(n, *pairs):
    """n adjoints: at every index the sum of its shares."""
    adjoints = [0.0] * n
    for index, share in pairs:
        adjoints[int(index)] += share
    return adjoints


def evaluate(rule, *inputs):
    """The result of a rule, after the checks of its domain."""
    return float(rule.evaluate(inputs, inputs))


# The functions, and what of `math` each reads.
READ = {
    power: {"nan", "pow"},
    logsumexp: {"exp", "fsum", "isinf", "log1p"},
    take: set[str](),
    placed: set[str](),
    evaluate: set[str](),
}
