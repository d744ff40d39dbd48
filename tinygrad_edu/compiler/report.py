"""Groups: what was found in the graph, as a table."""

from .lower import Array, Lowered


class Groups:
    """The arrays that a graph fell into. It prints as a table."""

    def __init__(self, lowered: Lowered):
        self.lowered = lowered

    def __len__(self) -> int:
        return len(self.lowered.arrays)

    @property
    def title(self) -> str:
        products = self.lowered.n_products
        return (
            f"{self.lowered.n_traced:,} nodes -> {len(self)} groups, "
            f"{products} matrix product{'s' if products != 1 else ''}"
        )

    def __repr__(self) -> str:
        rows = [("array", "operation", "shape", "numbers"), *map(_row, self.lowered.arrays)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        return "\n".join([self.title, *lines])


def _row(array: Array) -> tuple[str, str, str, str]:
    operation = array.rule.name if array.rule else array.source[0]
    shape = ", ".join([*(["B"] if array.batched else []), *map(str, array.shape)])
    return array.name or "numbers", operation, f"({shape})", f"{array.size:,}"
