"""A project of a thousand daily partitions: where its things lie. What they are is in definitions.py."""

import os
from datetime import date, timedelta
from pathlib import Path

from bikes_assets import Lake, Project

FOLDER = Path(os.environ["DAILY_DATA"])
FIRST, COUNT = date(2022, 1, 1), int(os.environ.get("BENCH_PARTITIONS", "1000"))
PARTITIONS = [str(FIRST + timedelta(days=number)) for number in range(COUNT)]
END = str(FIRST + timedelta(days=COUNT))
LAKE = Lake(str(FOLDER / "lake"), schemas={}, root=Path(__file__).parent)
PROJECT = Project(name="daily", definitions="daily.definitions:defs", lake=LAKE, data=FOLDER, stamp=lambda: COUNT)
