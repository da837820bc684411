"""Chat in the terminal: `streamcore chat [PROMPT]`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from streamcore.checkpoints import open_checkpointer
from streamcore.cli.approval import Yes, approver
from streamcore.cli.conversation import Conversation, said
from streamcore.cli.figures import Figures
from streamcore.cli.options import (
    Debug,
    EnvFile,
    LogJson,
    Model,
    OptionalName,
    PromptsDir,
    Provider,
    Raw,
    Stats,
    Temperature,
    prompt_and_folder,
    provider_and_model,
    read_env_file,
)
from streamcore.cli.output import INTERRUPTED, bad_input, fail, note, show_log
from streamcore.cli.run import THREADS
from streamcore.cli.terminal import GRACE
from streamcore.cli.tool_lines import ChunkScreen, dim
from streamcore.cli.variables import Var, VarFile, VarsFile, gather
from streamcore.errors import ConfigError, StreamcoreError
from streamcore.execute import stream_prompt, stream_request
from streamcore.observe import observe
from streamcore.prompts.message_variable import message_variable
from streamcore.prompts.prompt_file import load_prompt
from streamcore.provider import ModelChoice, resolve_provider
from streamcore.request import Message, Request
from streamcore.stream import Stream
from streamcore.testing.stopwatch import Stopwatch
from streamcore.tools.decisions import Approver

HELP = """\
/help            this list
/history         show the conversation
/clear           begin a new conversation
/model [NAME]    show or change the model, as MODEL or PROVIDER/MODEL
/save FILE       write the conversation: as Markdown if FILE ends in .md, else as lines of JSON
/quit            end; so does Ctrl-D, or Ctrl-C twice

Ctrl-C stops an answer; what arrived stays in the conversation."""


@dataclass(slots=True)
class _Responder:
    """What answers a message: a prompt file, or a model without one."""

    prompt: str | None
    prompts_dir: Path | None
    variable: str
    variables: Mapping[str, Any]
    system: str | None
    provider: str | None
    model: str | None
    temperature: float | None
    approve: Approver

    def answer(self, text: str, history: list[Message]) -> Stream:
        """Return the stream of the answer to a message."""
        if self.prompt is not None:
            return stream_prompt(
                self.prompt,
                {**self.variables, self.variable: text},
                provider=self.provider,
                model=self.model,
                temperature=self.temperature,
                prompts_dir=self.prompts_dir,
                history=history,
                approve=self.approve,
            )
        resolved = resolve_provider([ModelChoice(self.provider, self.model, self.temperature)], "this conversation")
        first = [Message("system", self.system)] if self.system else []
        request = Request(
            [*first, *history, Message("user", text)], model=resolved.model, temperature=resolved.temperature
        )
        return stream_request(request, provider=resolved.provider)


def chat(
    name: OptionalName = None,
    system: Annotated[
        str | None, typer.Option("--system", "-s", metavar="TEXT", help="The system message, without a prompt file.")
    ] = None,
    var: Var = None,
    var_file: VarFile = None,
    vars_file: VarsFile = None,
    message_as: Annotated[
        str | None, typer.Option("--input", metavar="VARIABLE", help="The variable that a message becomes.")
    ] = None,
    thread: Annotated[
        str | None, typer.Option(help=f"The conversation to begin or to continue; it is saved in {THREADS}.")
    ] = None,
    provider: Provider = None,
    model: Model = None,
    temperature: Temperature = None,
    prompts_dir: PromptsDir = None,
    env_file: EnvFile = None,
    yes: Yes = False,
    stats: Stats = False,
    raw: Raw = False,
    log_json: LogJson = False,
    debug: Debug = False,
) -> None:
    """Chat with a prompt file and its tools, or with a model alone.

    Example: streamcore chat --provider demo

    A line is a message; /help lists the commands. Ctrl-C stops an answer, twice it ends the conversation. Without
    --thread the conversation is forgotten at the end. Messages may also come from a pipe.
    """
    read_env_file(env_file)
    show_log(as_json=log_json)
    given = gather(var, var_file, vars_file)
    provider, model = provider_and_model(provider, model)
    if name is not None and system is not None:
        bad_input("--system is for a conversation without a prompt file; write the file's `system`")
    try:
        variable = ""
        if name is not None:
            name, prompts_dir = prompt_and_folder(name, prompts_dir)
            prompt = load_prompt(name, prompts_dir=prompts_dir)
            variable = message_variable(prompt, given, message_as)
            resolve_provider([ModelChoice(provider, model), prompt.choice], f"prompt {name!r}")
        else:
            resolve_provider([ModelChoice(provider, model)], "this conversation")
        responder = _Responder(
            name, prompts_dir, variable, given, system, provider, model, temperature, approver(yes=yes)
        )
        store = None if thread is None else open_checkpointer({"type": "sqlite", "path": THREADS})
        with asyncio.Runner() as runner:
            talk = _Chat(responder, Conversation(thread, store), runner, raw=raw, debug=debug, stats=stats)
            try:
                talk.run()
            finally:
                if stats:
                    talk.show_total()
    except StreamcoreError as error:
        if debug:
            raise
        fail(error)


class _Chat:
    """Read messages and commands, and show the answers; all answers run on one event loop, so MCP servers stay open."""

    def __init__(
        self,
        responder: _Responder,
        conversation: Conversation,
        runner: asyncio.Runner,
        *,
        raw: bool,
        debug: bool,
        stats: bool,
    ) -> None:
        self._partner = responder
        self._conversation = conversation
        self._runner = runner
        self._raw = raw
        self._debug = debug
        self._stats = stats
        self._figures = Figures(cost=stats)
        self._terminal = sys.stdin.isatty() and sys.stdout.isatty()

    def run(self) -> None:
        """Converse until the end of the input, `/quit`, or Ctrl-C twice."""
        self._runner.run(self._conversation.load())
        if self._terminal:
            with suppress(ImportError):
                import_module("readline")  # line editing in input()
            count = len(self._conversation.messages)
            dim(f"continues with {count} messages; /help lists the commands" if count else "/help lists the commands")
        while (line := self._line()) is not None:
            text = line.strip()
            if text == "/quit":
                return
            try:
                if text.startswith("/"):
                    self._command(text)
                elif text:
                    self._runner.run(self._turn(text))
            except asyncio.CancelledError:
                raise typer.Exit(INTERRUPTED) from None
            except StreamcoreError as error:
                if self._debug or not self._terminal:
                    raise
                note(f"{type(error).__name__}: {error}")

    def show_total(self) -> None:
        """Show the figures of the whole conversation."""
        tokens, (answers, cost, *_) = self._figures.tokens, (*self._figures.more, "")
        note("in all: " + ", ".join(part for part in (answers, tokens, cost) if part))

    def _line(self) -> str | None:
        """Return the next line, None at the end."""
        pressed = False
        while True:
            try:
                return input("> " if self._terminal else "")
            except EOFError:
                if self._terminal:
                    note("")
                return None
            except KeyboardInterrupt:
                if pressed or not self._terminal:
                    raise typer.Exit(INTERRUPTED) from None
                pressed = True
                note("\n(Ctrl-C again, or /quit, ends the conversation)")

    def _command(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        conversation = self._conversation
        if word == "/help":
            note(HELP)
        elif word == "/history":
            note("\n".join(conversation.readable()) or "nothing was said yet")
        elif word == "/clear":
            conversation.messages.clear()
            self._runner.run(conversation.save())
            note("a new conversation begins")
        elif word == "/model":
            self._model(rest)
        elif word == "/save":
            if not rest:
                raise ConfigError("/save needs the name of a file, as in /save talk.md")
            conversation.write(Path(rest))
            note(f"wrote {rest}")
        else:
            note(f"there is no command {word}; /help lists them")

    def _model(self, name: str) -> None:
        responder = self._partner
        if name:
            provider, model = provider_and_model(None, name)
            responder.provider, responder.model = provider or responder.provider, model
        note(f"model: {'/'.join(part for part in (responder.provider, responder.model) if part) or 'the default'}")

    async def _turn(self, text: str) -> None:
        """Show the answer to a message, and add both to the conversation."""
        stream = self._partner.answer(text, self._conversation.messages)
        screen, watch = ChunkScreen(raw=self._raw), Stopwatch()
        try:
            with _ctrl_c(stream.stop), observe(self._figures):
                async with stream:
                    async for chunk in stream:
                        watch.see(chunk)
                        screen.show(chunk)
        finally:
            screen.close()
            self._conversation.add(text, stream)
            if self._stats:
                dim(watch.describe(stream.partial))
        if not stream.partial.complete:
            note(f"(stopped; {len(said(stream.partial))} characters arrived)")
        answered = {result.call_id for result in stream.partial.tool_results}
        for call in stream.partial.tool_calls:
            if call.id not in answered:
                note(f"the model asks to call {call.name} with {call.arguments}, which does not run here")
        await self._conversation.save()


@contextmanager
def _ctrl_c(stop: Callable[[], None]) -> Generator[None]:
    """Stop the answer at the first Ctrl-C; at the second cancel the task, and exit if that takes too long."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    pressed = 0

    def on_sigint() -> None:
        nonlocal pressed
        pressed += 1
        if pressed == 1:
            stop()
            return
        timer = threading.Timer(GRACE, lambda: os._exit(INTERRUPTED))
        timer.daemon = True
        timer.start()
        if task is not None:
            task.cancel()

    loop.add_signal_handler(signal.SIGINT, on_sigint)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
