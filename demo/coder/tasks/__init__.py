"""The tasks that the demo model learns, by subject."""

from demo.coder.tasks.algorithms import ALGORITHMS
from demo.coder.tasks.classes import CLASSES
from demo.coder.tasks.collections_and_files import COLLECTIONS_AND_FILES
from demo.coder.tasks.data_files import DATA_FILES
from demo.coder.tasks.lists import LISTS
from demo.coder.tasks.numbers import NUMBERS
from demo.coder.tasks.numbers_and_units import NUMBERS_AND_UNITS
from demo.coder.tasks.patterns import PATTERNS
from demo.coder.tasks.sequences import SEQUENCES
from demo.coder.tasks.task import Task
from demo.coder.tasks.text import TEXT

TASKS: tuple[Task, ...] = (
    *LISTS,
    *TEXT,
    *NUMBERS,
    *ALGORITHMS,
    *COLLECTIONS_AND_FILES,
    *SEQUENCES,
    *PATTERNS,
    *NUMBERS_AND_UNITS,
    *CLASSES,
    *DATA_FILES,
)

__all__ = ["TASKS", "Task"]
