"""What `import hypothesis` runs, by its entry point: from then on `st.from_type(Value)` draws Values.

This module runs inside of `import hypothesis`, so what needs hypothesis is imported when a Value is drawn.
"""

from typing import Any

from ...engine.value import Value


def register() -> None:
    from hypothesis import strategies as st

    def of_type(_: type[Value]) -> Any:
        from .strategies import values

        return values()

    st.register_type_strategy(Value, of_type)
