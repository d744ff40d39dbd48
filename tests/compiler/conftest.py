"""What all tests of the compiler share."""

import pytest


@pytest.fixture(autouse=True)
def own_rules_are_forgotten(own_rules: None) -> None:
    """Rules that a test declares are gone after it."""
