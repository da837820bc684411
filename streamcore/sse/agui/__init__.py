"""Encode a stream as the events of AG-UI 1.0 (https://docs.ag-ui.com/spec/1.0)."""
