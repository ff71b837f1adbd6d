"""All of it: what is said here is promised of every client (`tests/contract/test_server_habits.py`)."""

from collections import Counter

from tests.kit.habits.contents import CONTENTS
from tests.kit.habits.framing import FRAMING
from tests.kit.habits.loose import loose_habits
from tests.kit.habits.trouble import TROUBLE

HABITS = (*FRAMING, *CONTENTS, *TROUBLE)
LOOSE = tuple(loose_habits())
_TWICE = [name for name, count in Counter(one.name for one in (*HABITS, *LOOSE)).items() if count > 1]
assert not _TWICE, f"two habits have one name: {_TWICE}"
