"""Repeats: where the stages of a loop begin, for `loops.py` and for `backends/straight_loops.py`."""

from collections.abc import Mapping


def carried_from(period: int, ahead: Mapping[int, int]) -> list[int]:
    """For each place at which a stage may begin: how many results later stages read. The fewest are best.

    ahead: place -> how many places on its result is read last. It is carried over each beginning on the way.
    """
    carried = [sum(n // period for n in ahead.values())] * period
    for place, n in ahead.items():
        for i in range(1, n % period + 1):
            carried[(place + i) % period] += 1
    return carried
