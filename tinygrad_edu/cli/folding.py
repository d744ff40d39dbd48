"""Text for a terminal of fewer than 80 columns: long lines are folded."""

import shutil
import textwrap


def terminal_width() -> int:
    """The columns of the terminal, if they are fewer than 80; else so many that nothing is folded."""
    columns = shutil.get_terminal_size((80, 0)).columns
    return max(columns, 20) if columns < 80 else 10_000


def folded(text: str) -> str:
    """The text with the lines folded that do not fit. What stands before their first word stays."""
    width = terminal_width()
    return "\n".join(
        line
        if len(line) <= width
        else textwrap.fill(line, width, subsequent_indent="     ", break_on_hyphens=False)
        for line in text.split("\n")
    )


def say(text: str) -> None:
    """Print the text, folded."""
    print(folded(text))
