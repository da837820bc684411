"""Read answers with one client library, in an environment that has it; `test_other_clients.py` runs this file.

`python other_client.py NAME` reads jobs as JSON from stdin, and prints a JSON list with the text, the calls, the
reason of the end and the error of each. It imports nothing of this project.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

Result = dict[str, Any]
RUNNER = asyncio.Runner()
"""One event loop for all jobs, since clients keep their connections."""
TOOL = {
    "type": "function",
    "function": {
        "name": "clock",
        "description": "Tell the time.",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]},
    },
}


def _calls(calls: Iterable[Any]) -> list[Any]:
    return [[call["name"], call["args"]] for call in calls]


def langchain(job: Any, url: str, result: Result) -> None:
    """Use ChatOpenAI: `stream`, `invoke` or `astream`, over chat completions or responses."""
    module: Any = import_module("langchain_openai")
    model: Any = module.ChatOpenAI(
        model=job["model"],
        base_url=f"{url}/v1",
        api_key="client-key",
        max_retries=0,
        stream_usage=True,
        use_responses_api=job["api"] == "responses",
    )
    if job["tools"]:
        model = model.bind_tools([TOOL])
    whole: Any = None

    def add(chunk: Any) -> None:
        nonlocal whole
        result["text"] += chunk.text
        whole = chunk if whole is None else whole + chunk

    async def read() -> None:
        async for chunk in model.astream(job["text"]):
            add(chunk)

    if job["mode"] == "stream":
        for chunk in model.stream(job["text"]):
            add(chunk)
    elif job["mode"] == "async":
        RUNNER.run(read())
    else:
        add(model.invoke(job["text"]))
    result["calls"] = _calls(whole.tool_calls)
    result["end"] = whole.response_metadata.get("finish_reason") or whole.response_metadata.get("status")
    result["input_tokens"] = whole.usage_metadata["input_tokens"]


def litellm(job: Any, url: str, result: Result) -> None:
    """Use `completion` or `acompletion`, over chat completions or messages."""
    module: Any = import_module("litellm")
    module.suppress_debug_info = True
    given: dict[str, Any] = {
        "model": f"{'anthropic' if job['api'] == 'messages' else 'openai'}/{job['model']}",
        "api_base": url if job["api"] == "messages" else f"{url}/v1",
        "api_key": "client-key",
        "messages": [{"role": "user", "content": job["text"]}],
        "max_retries": 0,
        "timeout": 120,
    }
    if job["tools"]:
        given["tools"] = [TOOL]
    pieces: dict[int, list[str]] = {}

    def add(chunk: Any) -> None:
        choice = chunk.choices[0]
        result["text"] += choice.delta.content or ""
        result["end"] = choice.finish_reason or result["end"]
        for call in choice.delta.tool_calls or ():
            found = pieces.setdefault(call.index, ["", ""])
            found[0] += call.function.name or ""
            found[1] += call.function.arguments or ""

    async def read() -> None:
        async for chunk in await module.acompletion(**given, stream=True):
            add(chunk)

    if job["mode"] == "stream":
        for chunk in module.completion(**given, stream=True):
            add(chunk)
    elif job["mode"] == "async":
        RUNNER.run(read())
    else:
        choice = module.completion(**given).choices[0]
        result["text"], result["end"] = choice.message.content or "", choice.finish_reason
        for number, call in enumerate(choice.message.tool_calls or ()):
            pieces[number] = [call.function.name, call.function.arguments]
    result["calls"] = [[name, json.loads(arguments)] for name, arguments in pieces.values()]


def llm(job: Any, url: str, result: Result) -> None:
    """Use models of `extra-openai-models.yaml`."""
    folder = Path(os.environ["LLM_USER_PATH"])
    models = [
        {
            "model_id": f"ours/{job['model']}/{api}",
            "model_name": job["model"],
            "api_base": f"{url}/v1",
            "supports_tools": True,
            "responses": api == "responses",
        }
        for api in ("chat", "responses")
    ]
    (folder / "extra-openai-models.yaml").write_text(json.dumps(models), "utf-8")
    module: Any = import_module("llm")

    def clock(zone: str) -> str:
        """Tell the time."""
        return zone

    name = f"ours/{job['model']}/{job['api']}"
    given: dict[str, Any] = {"key": "client-key", "stream": job["mode"] == "stream"}
    if job["tools"]:
        given["tools"] = [clock]
    if job["mode"] == "async":
        RUNNER.run(_llm_async(module.get_async_model(name), job["text"], result))
        return
    response = module.get_model(name).prompt(job["text"], **given)
    for piece in response:
        result["text"] += piece
    result["calls"] = [[call.name, call.arguments] for call in response.tool_calls()]
    shown: dict[str, Any] = response.response_json or {}
    result["end"] = shown.get("finish_reason") or shown.get("status")


async def _llm_async(model: Any, text: str, result: Result) -> None:
    response = model.prompt(text, key="client-key")
    async for piece in response:
        result["text"] += piece


CLIENTS: dict[str, Callable[[Any, str, Result], None]] = {"langchain": langchain, "litellm": litellm, "llm": llm}


def main() -> None:
    """Do the jobs one after another."""
    read = CLIENTS[sys.argv[1]]
    results: list[Result] = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LLM_USER_PATH"] = folder
        for job in json.load(sys.stdin):
            result: Result = {"text": "", "calls": [], "end": None, "raised": None}
            try:
                read(job, job["url"], result)
            except Exception as error:  # noqa: BLE001  the outermost edge: it is the result
                result["raised"] = f"{type(error).__name__}: {error}"[:500]
            results.append(result)
    sys.stdout.write("\n" + json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
