"""Text for a terminal of fewer than 80 columns: long lines are folded."""

import shutil
import textwrap


def say(text: str) -> None:
    """Print the text, with the lines folded that do not fit. What stands before their first word stays."""
    width = shutil.get_terminal_size((80, 0)).columns
    for line in text.split("\n"):
        if len(line) > max(width, 20) and width < 80:
            line = textwrap.fill(line, max(width, 20), subsequent_indent="     ", break_on_hyphens=False)
        print(line)
