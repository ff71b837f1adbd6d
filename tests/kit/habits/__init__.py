"""Habits of model servers: what one may answer, and what that means to whoever asked. One table for every client."""

from tests.kit.habits.table import HABITS as HABITS
from tests.kit.habits.table import LOOSE as LOOSE
from tests.kit.habits.what import Habit as Habit
from tests.kit.habits.what import Reply as Reply
from tests.kit.habits.what import Right as Right
