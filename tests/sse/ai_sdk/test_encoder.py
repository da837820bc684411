"""Read what the encoder of the UI message stream writes with the AI SDK's own client."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from streamcore import Chunk, Completion, Opaque, ToolCall, ToolResult, Usage
from streamcore.errors import RateLimitError, StreamInterrupted
from streamcore.parts import Image, Text
from streamcore.sse import Item
from streamcore.sse.ai_sdk.encoder import DONE, UIMessageEncoder
from streamcore.sse.ai_sdk.values import output_of, output_text, plain_json, source_part
from tests.node_clients import NodeClients

HOSTILE = (
    'a\r\nb\ndata: [DONE]\n\nevent: error\ndata: {"type":"finish"}\n\n\u2028\0\u200d👩🏽\u200d🚀 "__proto__": </script>'
)
FINISH = Chunk("finish", finish_reason="stop")


def call(arguments: str, name: str | None = None, identity: str | None = None, position: int = 0) -> Chunk:
    return Chunk("tool_call", tool_call=ToolCall(identity, name, arguments, position))


def encoded(*items: Item, end: Completion | None = None, **settings: Any) -> bytes:
    encoder = UIMessageEncoder(**settings)
    return b"".join([encoder.feed([item]) for item in items]) + encoder.end(end)


def read(node: NodeClients, *bodies: bytes, size: int = 7) -> list[dict[str, Any]]:
    """Return what the client makes of each body, which arrives in pieces."""
    given = [{"body": base64.b64encode(body).decode(), "size": size} for body in bodies]
    found: list[dict[str, Any]] = node.run("ui_messages.mjs", given)
    return found


def parts_of(result: Mapping[str, Any]) -> list[Any]:
    assert result["error"] is None
    return [part for part in result["message"]["parts"] if part["type"] != "step-start"]


def texts_of(result: Mapping[str, Any]) -> str:
    return "".join(part["text"] for part in parts_of(result) if part["type"] == "text")


def chunks_of(body: bytes) -> list[dict[str, Any]]:
    blocks = [block.removeprefix(b"data: ") for block in body.split(b"\n\n") if block.startswith(b"data: ")]
    return [json.loads(block) for block in blocks if block != b"[DONE]"]


def kinds_of(body: bytes) -> list[str]:
    return [chunk["type"] for chunk in chunks_of(body)]


def test_an_answer_becomes_a_message(node: NodeClients) -> None:
    chunks = [
        Chunk("start", id="r1", model="m", usage=Usage(input_tokens=4)),
        Chunk("reasoning", "Hm"),
        Chunk("reasoning", "m."),
        Chunk("text", "Hel", index=1),
        Chunk("text", "lo", index=1),
        FINISH,
        Chunk("usage", usage=Usage(4, 3, reasoning_tokens=1)),
    ]
    body = encoded(*chunks, message_id="msg-1")
    assert body.endswith(DONE)
    (result,) = read(node, body)
    reasoning, text = parts_of(result)
    assert result["message"]["id"] == "msg-1"
    assert result["message"]["role"] == "assistant"
    assert (reasoning["type"], reasoning["text"], reasoning["state"]) == ("reasoning", "Hmm.", "done")
    assert (text["type"], text["text"], text["state"]) == ("text", "Hello", "done")
    usage = {"inputTokens": 4, "outputTokens": 3, "reasoningTokens": 1, "totalTokens": 7}
    assert result["message"]["metadata"] == {"usage": usage, "model": "m"}
    finish = result["chunks"][-1]
    assert (finish["type"], finish["finishReason"]) == ("finish", "stop")


@pytest.mark.parametrize("size", [1, 3, 4096])
def test_hostile_text_arrives_as_it_is(node: NodeClients, size: int) -> None:
    pieces = [HOSTILE[at : at + 2] for at in range(0, len(HOSTILE), 2)]
    body = encoded(*[Chunk("text", piece) for piece in pieces], FINISH)
    tokens = encoded(*pieces)
    halves = encoded(Chunk("text", "\ud83d"), Chunk("text", "\ude80"), FINISH)
    found = read(node, body, tokens, halves, size=size)
    assert [texts_of(one) for one in found] == [HOSTILE, HOSTILE, "🚀"]


def test_calls_of_the_client_stream_their_input_in_parallel(node: NodeClients) -> None:
    body = encoded(
        Chunk("start", id="r1"),
        Chunk("text", "Let me see."),
        call('{"city": "Par', "weather", "c1"),
        call('{"city":', "weather", "c2", 1),
        call('is"}'),
        call(' "Rome"}', position=1),
        Chunk("tool_call", tool_call=ToolCall("c3", "say", "free text", 2, custom=True)),
        call("not JSON", "weather", "c4", 3),
        call('{"__proto__": 1, "n": 1e999}', "weather", "c5", 4),
        call("", "now", None, 5),
        Chunk("finish", finish_reason="tool_calls"),
    )
    (result,) = read(node, body)
    text, *calls = parts_of(result)
    assert text["state"] == "done"
    assert [(part["type"], part["state"], part["input"]) for part in calls] == [
        ("tool-weather", "input-available", {"city": "Paris"}),
        ("tool-weather", "input-available", {"city": "Rome"}),
        ("tool-say", "input-available", "free text"),
        ("tool-weather", "output-error", "not JSON"),
        ("tool-weather", "input-available", '{"__proto__": 1, "n": 1e999}'),
        ("tool-now", "input-available", {}),
    ]
    assert [part["toolCallId"] for part in calls[:3]] == ["c1", "c2", "c3"]
    assert len(calls[5]["toolCallId"]) == 9
    assert result["chunks"][-1]["finishReason"] == "tool-calls"
    assert not any(part.get("providerExecuted") for part in calls)


def test_two_calls_with_one_id_are_two_parts() -> None:
    body = encoded(Chunk("start", id="r1"), call("{}", "a", "x"), call("{}", "b", "x", 1), FINISH)
    parts = [json.loads(line[6:]) for line in body.decode().splitlines() if line.startswith("data: {")]
    ids = {part["toolName"]: part["toolCallId"] for part in parts if part["type"] == "tool-input-start"}
    assert ids["a"] == "x"
    assert ids["b"] not in ("x", None)


def test_an_agent_shows_its_steps_calls_progress_and_results(node: NodeClients) -> None:
    image = Image(data=b"png", media_type="image/png")
    body = encoded(
        Chunk("step", data={"step": 1}),
        Chunk("start", id="r1"),
        call('{"q": 1}', "find", "c1"),
        call("{}", "fail", "c2", 1),
        Chunk("tool_progress", data={"progress": {"percent": 50}}, tool_call=ToolCall("c1", "find")),
        Chunk("finish", finish_reason="tool_calls"),
        Chunk("usage", usage=Usage(1, 2)),
        Chunk("text", "inside", path=("find",)),
        Chunk("tool_result", tool_result=ToolResult("c1", "find", '{"found":[1,2]}', parts=(Text("x"), image))),
        Chunk("tool_result", tool_result=ToolResult("c2", "fail", "Error: ValueError: no", "ValueError: no")),
        Chunk("step", data={"step": 2}),
        Chunk("start", id="r2"),
        Chunk("text", "Two."),
        FINISH,
        Chunk("usage", usage=Usage(10, 20)),
        end=Completion(complete=True),
    )
    (result,) = read(node, body)
    found, failed, file, text = parts_of(result)
    assert (found["type"], found["toolName"], found["state"]) == ("dynamic-tool", "find", "output-available")
    assert found["output"] == {"found": [1, 2]}
    assert found["providerExecuted"] is True
    assert (failed["state"], failed["errorText"]) == ("output-error", "Error: ValueError: no")
    of_call = {"streamcore": {"toolCallId": "c1"}}
    assert file == {"type": "file", "mediaType": "image/png", "url": image.as_url, "providerMetadata": of_call}
    assert text["text"] == "Two."
    assert [part["type"] for part in result["message"]["parts"]].count("step-start") == 2
    kinds = [chunk["type"] for chunk in result["chunks"]]
    assert kinds.count("finish-step") == 2
    (progress,) = [chunk for chunk in result["chunks"] if chunk.get("preliminary")]
    assert progress["output"] == {"percent": 50}
    (nested,) = [chunk for chunk in result["chunks"] if chunk["type"] == "data-nested"]
    assert nested["data"] == {"path": ["find"], "kind": "text", "text": "inside"}
    assert result["message"]["metadata"]["usage"] == {"inputTokens": 11, "outputTokens": 22, "totalTokens": 33}


def test_calls_that_wait_ask_for_approval(node: NodeClients) -> None:
    pending = ToolCall("c1", "book", '{"seat": 1}')
    body = encoded(
        Chunk("step", data={"step": 1}),
        call(pending.arguments, "book", "c1"),
        Chunk("finish", finish_reason="tool_calls"),
        end=Completion(complete=True, pending=(pending,)),
    )
    (result,) = read(node, body)
    (part,) = parts_of(result)
    assert part["state"] == "approval-requested"
    assert part["approval"] == {"id": "c1"}
    assert part["input"] == {"seat": 1}


def test_a_restart_removes_the_answer_so_far_but_not_the_steps_before_it(node: NodeClients) -> None:
    alone = encoded(Chunk("text", "wrong"), call("{", "f", "c"), Chunk("restart"), Chunk("text", "right"), FINISH)
    agent = encoded(
        Chunk("step", data={"step": 1}),
        Chunk("text", "first"),
        FINISH,
        Chunk("step", data={"step": 2}),
        Chunk("text", "wrong"),
        Chunk("citation", data={"url": "https://example.org"}),
        Chunk("restart"),
        Chunk("citation", data={"url": "https://example.org"}),
        Chunk("text", "right"),
        FINISH,
    )
    early = encoded(Chunk("start", id="r"), Chunk("restart"), Chunk("text", "right"), FINISH)
    found = read(node, alone, agent, early)
    assert [texts_of(one) for one in found] == ["right", "firstright", "right"]
    assert [part["type"] for part in parts_of(found[1])].count("source-url") == 1


def test_a_graph_shows_its_nodes_and_each_text_is_a_part(node: NodeClients) -> None:
    events: list[Item] = [
        {"type": "node_start", "node": "a"},
        {"type": "node_start", "node": "b"},
        {"type": "token", "node": "a", "content": "A"},
        {"type": "token", "node": "b", "content": "B"},
        {"type": "token", "node": "a", "content": "a"},
        {"type": "node_complete", "node": "a", "output": {"x": "Aa"}, "metadata": {"usage": Usage(1, 2)}},
        {"type": "token", "node": "b", "content": "wrong"},
        {"type": "restart", "node": "b"},
        {"type": "token", "node": "b", "content": "b"},
        {"type": "tool_call", "node": "b", "call_id": "c1", "tool": "t", "args": {"k": 1}},
        {"type": "tool_progress", "node": "b", "call_id": "c1", "tool": "t", "progress": "half"},
        {"type": "tool_result", "node": "b", "call_id": "c1", "tool": "t", "output": "ok", "error": None, "seconds": 1},
        {"type": "node_complete", "node": "b", "output": {"y": "b"}, "metadata": {"usage": {"output_tokens": 5}}},
        {"type": "graph_complete", "state": {}},
    ]
    (result,) = read(node, encoded(*events, client_tools=()))
    parts = parts_of(result)
    assert [part["text"] for part in parts if part["type"] == "text"] == ["Aa", "b"]
    nodes = [part["data"] for part in parts if part["type"] == "data-node"]
    assert sorted(one["node"] for one in nodes) == ["a", "b"]
    assert {one["status"] for one in nodes} == {"complete"}
    (tool,) = [part for part in parts if part["type"] == "dynamic-tool"]
    assert (tool["input"], tool["output"], tool["state"]) == ({"k": 1}, "ok", "output-available")
    assert result["message"]["metadata"]["usage"] == {"inputTokens": 1, "outputTokens": 7, "totalTokens": 8}


def test_a_restart_of_a_node_leaves_what_the_others_have_sent(node: NodeClients) -> None:
    events: list[Item] = [
        {"type": "node_start", "node": "a"},
        {"type": "token", "node": "a", "content": "done"},
        {"type": "node_complete", "node": "a", "output": {}},
        {"type": "node_start", "node": "b"},
        {"type": "node_start", "node": "c"},
        {"type": "token", "node": "b", "content": "wrong"},
        {"type": "token", "node": "c", "content": "op"},
        {"type": "restart", "node": "b"},
        {"type": "token", "node": "c", "content": "en"},
        {"type": "token", "node": "b", "content": "right"},
        {"type": "graph_complete", "state": {}},
    ]
    (result,) = read(node, encoded(*events))
    assert [part["text"] for part in parts_of(result) if part["type"] == "text"] == ["done", "open", "right"]


def test_a_question_of_a_graph_is_a_text_and_data(node: NodeClients) -> None:
    asked: Item = {"type": "interrupt", "node": "ask", "message": "Which city?", "resume_key": "city"}
    options: Item = {"type": "interrupt", "node": "ask", "message": {"choose": [1, 2]}, "resume_key": "n"}
    text, structured = read(node, encoded(asked), encoded(options))
    data, question = parts_of(text)
    assert data["data"] == {"node": "ask", "message": "Which city?", "resume_key": "city"}
    assert question["text"] == "Which city?"
    assert parts_of(structured)[0]["data"]["message"] == {"choose": [1, 2]}


@pytest.mark.parametrize("metadata", [{"metadata": {"calls": ["c1", "c2"]}}, {}])
def test_the_question_of_an_agent_is_a_request_for_approval(node: NodeClients, metadata: dict[str, Any]) -> None:
    calls: list[Item] = [
        {"type": "tool_call", "node": "a", "call_id": f"c{n}", "tool": "book", "args": {"seat": n}} for n in (1, 2)
    ]
    message = {"tool": "book", "args": {"seat": 1}}
    asked: Item = {"type": "interrupt", "node": "a", "message": message, "resume_key": "answer", **metadata}
    shown, alone = read(node, encoded(*calls, asked), encoded(asked))
    data, first, second = sorted(parts_of(shown), key=lambda part: part["type"])
    assert data["data"] == {"node": "a", "message": message, "resume_key": "answer"}
    assert (first["toolCallId"], first["state"], first["approval"]["id"]) == ("c1", "approval-requested", "c1")
    assert second["state"] == ("approval-requested" if metadata else "input-available")
    assert texts_of(shown) == ""
    call_alone = parts_of(alone)[1]  # a run that only asks again
    assert (call_alone["state"], call_alone["input"]) == ("approval-requested", {"seat": 1})


def test_a_graph_without_tokens_answers_with_its_last_output(node: NodeClients) -> None:
    one: Item = {"type": "node_complete", "node": "a", "output": {"x": "whole"}}
    several: Item = {"type": "node_complete", "node": "a", "output": {"x": 1, "y": [2]}}
    found = read(node, encoded(one), encoded(several))
    assert [texts_of(result) for result in found] == ["whole", '{"x":1,"y":[2]}']


def test_citations_become_sources_each_url_once(node: NodeClients) -> None:
    citations: Sequence[Mapping[str, Any]] = [
        {"type": "url_citation", "url": "https://example.org/a", "title": "A", "start_index": 1},
        {"type": "url_citation", "url_citation": {"url": "https://example.org/a"}},
        {"web": {"uri": "https://example.org/b", "title": "B"}},
        {"type": "char_location", "document_title": "Report", "file_id": None},
        {"type": "file_citation", "filename": "a.pdf"},
        {"url": "javascript:alert(1)"},
        {"segment": {"start": 1}, "__proto__": {}},
    ]
    body = encoded(Chunk("text", "Text"), *[Chunk("citation", data=one) for one in citations], FINISH)
    (result,) = read(node, body)
    sources = [part for part in parts_of(result) if part["type"] != "text"]
    assert [part["type"] for part in sources] == ["source-url"] * 2 + ["source-document"] * 2 + ["data-citation"] * 2
    assert [part.get("url") for part in sources[:2]] == ["https://example.org/a", "https://example.org/b"]
    assert [part.get("title") for part in sources[:4]] == ["A", "B", "Report", "a.pdf"]
    assert len({part["sourceId"] for part in sources[:4]}) == 4


def test_what_the_vendor_needs_again_is_kept_with_a_part(node: NodeClients) -> None:
    opaque = Opaque("anthropic-messages", ({"type": "thinking", "signature": "s"},), source="s")
    finish = Chunk("finish", finish_reason="stop", opaque=opaque)
    kept: dict[str, Any] = {"wire": opaque.wire, "items": [*opaque.items], "fields": {}, "source": "s"}
    text = encoded(Chunk("reasoning", "Hm"), Chunk("text", "Hi"), finish)
    calls = encoded(Chunk("reasoning", "Hm"), call("{}", "f", "c1"), call("{}", "f", "c2", 1), finish)
    redacted = encoded(Chunk("reasoning", opaque=opaque), finish)
    plain = encoded(Chunk("text", "Hi"), finish)
    found = [parts_of(one) for one in read(node, text, calls, redacted)]
    assert found[0][1]["providerMetadata"]["streamcore"]["opaque"] == kept
    assert found[1][1]["callProviderMetadata"]["streamcore"]["opaque"] == kept
    assert "callProviderMetadata" not in found[1][2]
    assert found[2][0]["providerMetadata"]["streamcore"]["opaque"] == kept
    assert b"opaque" not in plain


def test_a_stream_that_fails_has_an_error_and_no_end(node: NodeClients) -> None:
    encoder = UIMessageEncoder()
    body = encoder.feed([Chunk("text", "Half of i")]) + encoder.error(StreamInterrupted("secret words"))
    assert kinds_of(body)[-1] == "error"
    assert b"[DONE]" not in body
    assert b"secret" not in body
    (result,) = read(node, body)
    assert "cut off" in result["error"]
    assert result["message"]["parts"][-1]["text"] == "Half of i"
    assert result["message"]["parts"][-1]["state"] == "streaming"


def test_a_stream_that_was_stopped_ends_in_abort(node: NodeClients) -> None:
    body = encoded(Chunk("text", "Half"), end=Completion(text="Half"))
    assert kinds_of(body)[-1] == "abort"
    assert "finish" not in kinds_of(body)
    (result,) = read(node, body)
    assert texts_of(result) == "Half"


def test_with_waits_nothing_is_sent_before_the_first_content() -> None:
    encoder = UIMessageEncoder(waits=True, message_id="m")
    assert encoder.start() == b""
    assert encoder.feed([Chunk("start", id="r1", model="m"), Chunk("ping")]) == b""
    assert kinds_of(encoder.feed([Chunk("text", "Hi")])) == ["start", "start-step", "text-start", "text-delta"]


def test_an_error_before_the_first_event_is_a_status_with_a_text() -> None:
    error = RateLimitError("busy", provider="p", model="m", retry_after=7)
    refusal = UIMessageEncoder().refusal(error)
    assert refusal.status == 503
    assert refusal.headers == {"content-type": "text/plain; charset=utf-8", "retry-after": "7"}
    assert b"accepts no more requests" in refusal.body


def test_a_gap_at_the_beginning_has_all_items_and_one_later_replaces_the_answer(node: NodeClients) -> None:
    gap: Item = {"type": "gap", "seq": 2, "items": [Chunk("text", "whole "), Chunk("text", "answer")]}
    found = read(node, encoded(gap, FINISH), encoded(Chunk("text", "whole"), gap, FINISH))
    assert [texts_of(one) for one in found] == ["whole answer", "whole answer"]
    encoder = UIMessageEncoder()
    encoder.feed([Chunk("step", data={"step": 1}), Chunk("text", "a")])
    with pytest.raises(StreamInterrupted, match="read the answer again"):
        encoder.feed([gap])


def test_parts_that_the_message_has_are_sent_first() -> None:
    replayed = [{"type": "start-step"}, {"type": "text-start", "id": "p0"}]
    body = encoded(Chunk("text", "on"), FINISH, replayed=replayed, message_id="m")
    assert kinds_of(body)[:4] == ["start", "start-step", "text-start", "start-step"]


@pytest.mark.parametrize(
    "content", ['{"a":1}', '[1,"ä",null]', "plain", '{"a": 1}', "{broken", "[" * 100_000, '{"__proto__":{}}', "", "12"]
)
def test_the_text_of_an_output_is_what_the_tool_returned(content: str) -> None:
    assert output_text(output_of(content)) == content


def test_values_that_the_parser_of_the_client_refuses_are_sent_as_text() -> None:
    assert plain_json({"a": [{"__proto__": 1}]}) == '{"a": [{"__proto__": 1}]}'
    assert plain_json({"constructor": {"prototype": 1}}) == '{"constructor": {"prototype": 1}}'
    assert plain_json(float("nan")) == "NaN"
    for fine in ({"constructor": 1}, {"a": "__proto__"}, [1, None], "text"):
        assert plain_json(fine) is fine
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    assert plain_json(deep) == ""


def test_a_source_is_found_at_any_depth_of_a_citation() -> None:
    citation = {"source": {"location": {"web": {"url": "http://example.org"}}}, "title": "T"}
    assert source_part(citation, 3) == {
        "type": "source-url",
        "sourceId": "source-3",
        "url": "http://example.org",
        "title": "T",
    }
