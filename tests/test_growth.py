"""Limit how the work grows with the size of hostile input: twice the input must not take four times as long.

Processor time is compared, which other processes do not change. Linear work takes 8 times as long for 8 times the
input, quadratic work 64 times.
"""

from __future__ import annotations

import pytest

from benchmarks.growth import CASES, seconds

MOST = 24
LEAST_SECONDS = 0.002  # below, the clock says little


@pytest.mark.parametrize("name", CASES)
def test_work_is_linear(name: str) -> None:
    size, case = CASES[name]
    before, after = seconds(case, size), seconds(case, size * 8)
    assert after <= MOST * max(before, LEAST_SECONDS), f"{size}: {before:.4f} s, {size * 8}: {after:.4f} s"
