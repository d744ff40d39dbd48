"""A class of submissions: found in folders, graded beside one another, and summed up."""

import contextlib
import os
import signal
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from .diagnosis import Diagnosis, diagnose
from .rubric import items_of

ENDINGS = (".py", ".ipynb")
NAMES = ("engine", "value", "micrograd", "submission", "solution", "main")  # of the likeliest file in a folder
NOTHING = Diagnosis("", [], [], [])  # of a submission that is not graded


@dataclass(frozen=True)
class Submission:
    """What one student handed in: the report, or the error in one sentence that kept it from being graded."""

    name: str
    path: Path
    report: Diagnosis = NOTHING
    error: str = ""

    @property
    def ok(self) -> bool:
        """Was it graded, with no mistake and nothing missing?"""
        return not self.error and self.report.ok


def collect(paths: Iterable[str | os.PathLike[str]]) -> list[Submission]:
    """The submissions in files and folders, not yet graded: each file or subfolder of a folder is one.

    Raises ValueError for a folder in which there is none.
    """
    submissions = list[Submission]()
    for path in map(Path, paths):
        if not path.is_dir():
            submissions.append(Submission(path.name, path))
            continue
        inside = sorted(p for p in path.iterdir() if p.name[0] not in "._")
        parts = [of_folder(p) if p.is_dir() else Submission(p.name, p) for p in inside]
        parts = [part for part in parts if part.path.is_dir() or part.path.suffix in ENDINGS]
        if not parts:
            raise ValueError(f"The folder {str(path)!r} has no .py or .ipynb file and no subfolder to be graded.")
        submissions += parts
    return submissions


def of_folder(folder: Path) -> Submission:
    """The submission in a subfolder: the file with the likeliest name, or else the largest that has a class."""
    files = [path for ending in ENDINGS for path in sorted(folder.rglob(f"*{ending}")) if path.is_file()]
    if not files:
        return Submission(folder.name, folder, error=f"The folder {folder.name!r} has no .py or .ipynb file.")

    def rank(path: Path) -> tuple[bool, int, int]:
        text = path.read_bytes()
        stem = path.stem.lower()
        named = next((i for i, name in enumerate(NAMES) if name in stem), len(NAMES))
        return b"class" not in text or b"back" not in text, named, -len(text)

    return Submission(folder.name, min(files, key=rank))


def grade_one(submission: Submission, require: Sequence[str] | None = None) -> Submission:
    """The submission with its report, or with the reason why there is none."""
    if submission.error:
        return submission
    try:
        return replace(submission, report=diagnose(submission.path, require=require))
    except Exception as error:
        return replace(submission, error=str(error) or repr(error))


def grade_all(
    submissions: Sequence[Submission], require: Iterable[str] | None = None, jobs: int | None = None
) -> list[Submission]:
    """Grade them, several at a time, with a progress bar. One that ends its grader is told, and stops no other."""
    items = items_of(require)
    submissions = [replace(each, report=replace(NOTHING, items=items)) for each in submissions]
    if len(submissions) == 1:
        return [grade_one(submissions[0], items)]
    graded: dict[int, Submission] = {}
    at_once = signal.SIGINT, signal.SIG_DFL  # Ctrl-C ends the pool
    with tqdm(total=len(submissions), unit="engine", disable=None) as bar:  # None: not in a pipe
        # What was in a pool that broke is graded again, one by one.
        for group in [range(len(submissions)), *([i] for i in range(len(submissions)))]:
            with (
                ProcessPoolExecutor(jobs, initializer=signal.signal, initargs=at_once) as pool,
                contextlib.suppress(BrokenProcessPool),
            ):
                futures = {pool.submit(grade_one, submissions[i], items): i for i in group if i not in graded}
                for future in as_completed(futures):
                    graded[futures[future]] = future.result()
                    bar.update()
    told = "It ended the process that grades it."
    return [graded.get(i) or replace(each, error=told) for i, each in enumerate(submissions)]
