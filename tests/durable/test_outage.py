"""Log outages of a store once, once a minute, and at their end."""

from __future__ import annotations

import pytest

from streamcore.durable.outage import Outage


def test_an_outage_is_logged_once_then_each_minute_and_at_its_end(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    outage = Outage("the search", lambda: now)
    outage.worked()
    for second in range(130):
        now = float(second)
        outage.failed(ConnectionError("refused"))
    outage.worked()
    outage.worked()
    assert [record.message for record in caplog.records] == [
        "the search fails, and is tried again until it works: refused",
        "the search has failed for 60 s: refused",
        "the search has failed for 120 s: refused",
        "the search works again, after 129 s",
    ]
    outage.failed(ConnectionError("again"))
    assert caplog.records[-1].message == "the search fails, and is tried again until it works: again"
