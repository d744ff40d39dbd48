"""The command grade: what a learner's engine gets wrong."""

from pathlib import Path

from ..testing import diagnose


def grade(path: Path, page: Path | None, as_json: bool) -> int:
    """Print the diagnosis of the engine in a file. Returns 0 if it has no mistake, 1 if it has one.

    Raises ValueError if the file cannot be run or has no engine, OSError if the page cannot be written.
    """
    diagnosis = diagnose(path)
    print(diagnosis.to_json() if as_json else diagnosis)
    if page:
        diagnosis.to_html(page)
    return 0 if diagnosis.ok else 1
