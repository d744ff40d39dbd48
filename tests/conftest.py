"""Hypothesis profiles: `dev` by default, `ci` where CI is set, `thorough` before a release.

pytest --hypothesis-profile=thorough
"""

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("dev", deadline=None, max_examples=50)
settings.register_profile(
    "ci",
    deadline=None,
    max_examples=80,
    derandomize=True,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", deadline=None, max_examples=5000)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

if sys.dont_write_bytecode:  # or a dozen processes would compile every module anew; the folders stay clean
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(Path(__file__).parents[1] / ".pytest_cache/bytecode")
    os.environ |= {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": sys.pycache_prefix}

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a shell; some tests send Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_rules() -> Iterator[None]:
    """The rules that a test declares are gone after it."""
    from tinygrad_edu import RULES

    before = dict(RULES)
    yield
    RULES.clear()
    RULES.update(before)


@pytest.fixture
def living() -> Iterator[Callable[..., int]]:
    """How many Values, or objects of another class, there are that were not there before the test.

    The cycle collector does not run during the test. What was there before is set aside, garbage included, so that
    neither `gc.get_objects` nor `gc.collect` looks at it.
    """
    from tinygrad_edu import Value

    gc.freeze()
    gc.disable()
    yield lambda kind=Value: sum(type(x) is kind for x in gc.get_objects())
    gc.enable()
    gc.unfreeze()
