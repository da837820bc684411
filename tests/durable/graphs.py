"""Define the graphs of these tests."""

from __future__ import annotations

TALK = """
    name: talk
    nodes:
      one: {prompt: say, skip_if_exists: false, state_key: one}
      ask: {type: interrupt, message: "Go on?", resume_key: answer}
      two: {type: passthrough, output: {two: "{state.answer}"}}
      three: {prompt: say, skip_if_exists: false, state_key: three}
    edges:
      - {from: START, to: one}
      - {from: one, to: ask}
      - {from: ask, to: two}
      - {from: two, to: three}
      - {from: three, to: END}
"""
GATED_TALK = TALK.replace(
    "    nodes:\n", "    tools:\n      gate: {type: python, module: tests.durable.gates, function: gate}\n    nodes:\n"
).replace('type: passthrough, output: {two: "{state.answer}"}', "type: python, tool: gate, state_key: two")
GATED = """
    name: gated
    state: {gate: str, notes: str}
    tools:
      note: {type: python, module: tests.durable.gates, function: note}
      gate: {type: python, module: tests.durable.gates, function: gate}
    nodes:
      one: {type: python, tool: note, state_key: one}
      two: {type: python, tool: gate, state_key: two}
    edges:
      - {from: START, to: one}
      - {from: one, to: two}
      - {from: two, to: END}
"""
