"""Serve a prompt as a conversation, whose turns are saved here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from streamcore.checkpoints import Checkpointer, MemoryCheckpointer
from streamcore.completion import Completion
from streamcore.errors import PromptError
from streamcore.execute import stream_agent, stream_prompt
from streamcore.graph.limits import AnswerTokens, Budget, RunLimits
from streamcore.prompts.prompt_file import Prompt
from streamcore.provider import ModelChoice, Provider, get_provider, resolve_provider
from streamcore.request import Message
from streamcore.web.approvals import Waiting, text_of
from streamcore.web.files import UserFile
from streamcore.web.history import HistoryLimit, SavedTurn, saved_turn, user_message, with_files
from streamcore.web.input_check import refuse_variables
from streamcore.web.models import About, SessionState, Turn
from streamcore.web.spending import run_cost
from streamcore.web.target import AnswerSource, ModelOverrides, RunRequest, without_folders


@dataclass(frozen=True, slots=True)
class PromptTarget:
    """A prompt as a conversation: earlier turns are sent between its system text and the new message."""

    prompt: Prompt
    overrides: ModelOverrides
    given: Mapping[str, Any]
    input: str
    store: Checkpointer
    prompts_dir: str | Path | None
    client_variables: Collection[str]
    history: HistoryLimit
    limits: RunLimits

    @property
    def path(self) -> Path:
        """The prompt's file."""
        return self.prompt.source.path

    @property
    def about(self) -> About:
        """What is served."""
        what = self.prompt.file.description or ""
        suggestions = self.prompt.file.suggestions
        return About(
            name=self.prompt.name,
            kind="prompt",
            description=what,
            input=self.input,
            begins=False,
            forks=True,
            suggestions=suggestions,
        )

    async def refuse(self, key: str, run_request: RunRequest) -> str | None:
        """Return what the request lacks: a message, or a variable of the prompt."""
        if run_request.resume is not None:
            waiting = (await self._load(key)).waiting
            return (
                "no call waits for approval; send a message." if waiting is None else waiting.refuse(run_request.resume)
            )
        if not run_request.prompt and not run_request.files:
            return "there is no message; give ?prompt=, or send one with POST /start."
        why = refuse_variables(run_request.variables, self.client_variables)
        if why is None and self.history.full == "refuse":
            why = self.history.refuse((await self._load(key)).turns)
        if why is not None:
            return why
        try:
            self.prompt.render(self._variables(run_request), {})
        except PromptError as error:
            return without_folders(str(error), self.prompt.source.path)
        return None

    def _variables(self, run_request: RunRequest) -> dict[str, Any]:
        return {**run_request.variables, **self.given, self.input: run_request.prompt or ""}

    async def open(self, key: str, run_request: RunRequest) -> AnswerSource:
        """Return the answer's stream."""
        saved = await self._load(key)
        resumed = saved.waiting if run_request.resume is not None else None
        choice = self._choice(run_request.model if resumed is None else resumed.model)
        options: dict[str, Any] = {
            "provider": choice.provider,
            "model": choice.model,
            "temperature": self.overrides.temperature,
            "transport": self.overrides.transport,
            "prompts_dir": self.prompts_dir,
            "max_cost": run_cost(self.limits),
        }
        if resumed is not None:
            decided = replace(resumed, decided=True).to_data()
            await self.store.save(key, {"turns": saved.turns, "waiting": decided}, saved.version)
            asked = RunRequest(resumed.user, resumed.variables)
            return stream_agent(
                self.prompt.name,
                self._variables(asked),
                messages=resumed.messages,
                resume=run_request.resume,
                **options,
            )
        history: list[Message] = []
        for turn in self.history.latest(saved.turns):
            history += [user_message(turn), Message("assistant", turn["assistant"])]
        if run_request.files:
            options["change"] = partial(with_files, files=run_request.files)
        return stream_prompt(self.prompt.name, self._variables(run_request), history=history, **options)

    def _choice(self, model: str) -> ModelChoice:
        """Return the provider and the model that the user has chosen, or else the operator's."""
        provider, slash, name = model.partition("/")
        return ModelChoice(provider, name) if slash else self.overrides.choice

    def provider_for(self, model: str) -> Provider:
        """Return the provider that answers; `model` is the user's choice.

        Raises:
            ConfigError: the provider cannot be used.
        """
        resolved = resolve_provider([self._choice(model), self.prompt.choice], f"prompt {self.prompt.name!r}")
        if not isinstance(resolved.provider, str | Mapping):
            return resolved.provider
        return get_provider(resolved.provider, model=resolved.model, transport=self.overrides.transport)

    async def files(self, key: str, run: str) -> list[UserFile]:
        """Return the files of the message that a run answered."""
        turns = [turn for turn in (await self._load(key)).turns if turn.get("run") == run]
        return [UserFile.from_data(one) for turn in turns for one in turn.get("files", ())]

    def tokens(self) -> AnswerTokens:
        """Return what counts the tokens of an answer's chunks."""
        return Budget(self.limits).answer(self.prompt.name, count_steps=True)

    async def ended(
        self, key: str, run_request: RunRequest, answer: Completion | None, messages: Sequence[Message]
    ) -> None:
        """Save the turn if there was an answer, or what it waits for if calls need approval."""
        saved = await self._load(key)
        before = saved.waiting if run_request.resume is not None else None
        user = before.user if before is not None else run_request.prompt or ""
        text = (before.text if before is not None else "") + ("" if answer is None else text_of(answer))
        files = before.files if before is not None else run_request.files
        turns, data = saved.turns, dict[str, Any]()
        if before is None and saved.waiting is not None and saved.waiting.text:  # nobody decided about its calls
            turns = [*turns, saved_turn(saved.waiting.user, saved.waiting.text, saved.waiting.files)]
        if answer is not None and answer.pending:
            variables = before.variables if before is not None else run_request.variables
            model = before.model if before is not None else run_request.model
            asked = [call.id or "" for call in answer.pending]
            data["waiting"] = Waiting(user, text, variables, messages, asked, files=files, model=model).to_data()
        elif text:
            turns = [*turns, saved_turn(user, text, files, run_request.run)]
        elif saved.waiting is None:
            return
        await self.store.save(key, {"turns": self.history.latest(turns), **data}, saved.version)

    async def state(self, key: str) -> SessionState | None:
        """Return the conversation's turns, and the calls that wait for approval."""
        saved = await self._load(key)
        if not saved.version:
            return None
        turns = [Turn.model_validate(one) for one in saved.turns]
        waiting = saved.open_question
        if waiting is None:
            return SessionState(session_id="", status="idle", turns=turns)
        return SessionState(session_id="", status="waiting", turns=turns, question=waiting.question())

    @property
    def kept_bytes(self) -> int:
        """The bytes of all turns, if only memory keeps them."""
        return self.store.size if isinstance(self.store, MemoryCheckpointer) else 0

    async def forget(self, key: str) -> None:
        """Delete the turns, if only memory keeps them."""
        if isinstance(self.store, MemoryCheckpointer):
            await self.store.delete(key)

    async def delete(self, key: str) -> None:
        """Delete the turns."""
        await self.store.delete(key)

    async def fork(self, key: str, new: str, runs: Collection[str]) -> None:
        """Begin a conversation with some turns of another."""
        turns = [turn for turn in (await self._load(key)).turns if turn.get("run") in runs]
        if turns:
            await self.store.save(new, {"turns": turns}, 0)

    @property
    def conversations(self) -> Checkpointer:
        """The store of the turns."""
        return self.store

    async def _load(self, key: str) -> _Saved:
        saved = await self.store.load(key)
        if saved is None:
            return _Saved(0, [], None)
        waiting = saved.data.get("waiting")
        return _Saved(saved.version, list(saved.data["turns"]), None if waiting is None else Waiting.from_data(waiting))


class _Saved(NamedTuple):
    """What is saved of a prompt's conversation."""

    version: int
    turns: list[SavedTurn]
    waiting: Waiting | None

    @property
    def open_question(self) -> Waiting | None:
        """What waits for decisions."""
        return None if self.waiting is None or self.waiting.decided else self.waiting
