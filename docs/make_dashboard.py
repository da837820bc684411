"""Write `assets/grafana.json`, a dashboard for what `serve --metrics` exports: `python docs/make_dashboard.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PLACE = Path(__file__).with_name("assets") / "grafana.json"

QUANTILE = "histogram_quantile({q}, sum by (le, gen_ai_provider_name) (rate({name}_bucket[$__rate_interval])))"
TOOLS = (
    "histogram_quantile(0.95, sum by (le, streamcore_operation_kind, streamcore_operation_name) "
    "(rate(streamcore_operation_duration_seconds_bucket[$__rate_interval])))"
)
PANELS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    (
        "Answers per second, by provider",
        "reqps",
        ("sum by (gen_ai_provider_name) (rate(gen_ai_client_operation_duration_seconds_count[$__rate_interval]))",),
    ),
    (
        "Time to the first chunk, median and 95%",
        "s",
        tuple(QUANTILE.format(q=q, name="gen_ai_client_operation_time_to_first_chunk_seconds") for q in (0.5, 0.95)),
    ),
    (
        "Time per output chunk, median",
        "s",
        (QUANTILE.format(q=0.5, name="gen_ai_client_operation_time_per_output_chunk_seconds"),),
    ),
    (
        "Time of an answer, median and 95%",
        "s",
        tuple(QUANTILE.format(q=q, name="gen_ai_client_operation_duration_seconds") for q in (0.5, 0.95)),
    ),
    (
        "Tokens per second, by model",
        "none",
        ("sum by (gen_ai_request_model, gen_ai_token_type) (rate(gen_ai_client_token_usage_sum[$__rate_interval]))",),
    ),
    (
        "Answers without a proper end, by cause",
        "reqps",
        ("sum by (streamcore_outcome, error_type) (rate(streamcore_answer_cut_total[$__rate_interval]))",),
    ),
    (
        "Attempts that failed, and fallbacks",
        "reqps",
        (
            'sum by (error_type) (rate(streamcore_answer_attempts_total{error_type!=""}[$__rate_interval]))',
            "sum by (gen_ai_provider_name) (rate(streamcore_answer_fallbacks_total[$__rate_interval]))",
        ),
    ),
    (
        "Tools and nodes: time, 95%",
        "s",
        (TOOLS,),
    ),
    (
        "Open streams, runs and readers",
        "none",
        ("sum(streamcore_streams_open)", "sum(streamcore_relay_runs_open)", "sum(streamcore_relay_readers)"),
    ),
    ("Bytes that relays hold", "bytes", ("sum by (instance) (streamcore_relay_bytes_held_bytes)",)),
)
"""The title, the unit and the queries of each panel."""


def dashboard() -> dict[str, Any]:
    """Return the dashboard, as Grafana imports it."""
    source = {"type": "prometheus", "uid": "${source}"}
    panels: list[dict[str, Any]] = [
        {
            "id": number + 1,
            "type": "timeseries",
            "title": title,
            "datasource": source,
            "gridPos": {"h": 8, "w": 12, "x": 12 * (number % 2), "y": 8 * (number // 2)},
            "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
            "targets": [
                {"refId": chr(ord("A") + place), "expr": query, "datasource": source}
                for place, query in enumerate(queries)
            ],
        }
        for number, (title, unit, queries) in enumerate(PANELS)
    ]
    variable = {"name": "source", "label": "Data source", "type": "datasource", "query": "prometheus"}
    return {
        "title": "streamcore",
        "uid": "streamcore",
        "schemaVersion": 39,
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [variable]},
        "panels": panels,
    }


def main() -> None:
    """Write the file."""
    PLACE.write_text(json.dumps(dashboard(), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
