"""Answer a prompt for every row of a file, at a limited rate, and resume after a crash without asking twice."""

from __future__ import annotations

from streamcore.bulk.limits import RateLimit
from streamcore.bulk.map_file import MapOptions, MapReport, Progress, TooManyErrors, map_file
from streamcore.bulk.rows import Row, read_rows

__all__ = ["MapOptions", "MapReport", "Progress", "RateLimit", "Row", "TooManyErrors", "map_file", "read_rows"]
