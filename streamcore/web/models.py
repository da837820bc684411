"""Say what goes over HTTP as JSON: the bodies of requests and of answers that are no streams."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SESSION_ID = r"^[A-Za-z0-9_-]{1,64}$"

RUN = r"^[A-Za-z0-9_-]{1,64}$"

SessionId = Annotated[str, Field(pattern=SESSION_ID, description="A conversation: 1 to 64 of A-Z a-z 0-9 _ -.")]


class Body(BaseModel):
    """A request's body; a key that is not known is an error, lest a typo be taken for nothing."""

    model_config = ConfigDict(extra="forbid")


class Start(Body):
    """What to say, and in which conversation."""

    prompt: str | None = Field(default=None, description="The message. A graph may begin without one.")
    session_id: SessionId | None = Field(default=None, description="The conversation to go on with; else a new one.")
    variables: dict[str, Any] = Field(
        default_factory=dict[str, Any], description="More variables of the prompt, or values of the graph's state."
    )


class Resume(Body):
    """The answer to the question that waits."""

    answer: Any = Field(description="Text, or any JSON that the graph takes.")


class Begun(BaseModel):
    """What has begun, and where to listen to it."""

    session_id: str
    run: str = Field(description="The run's name.")
    stream: str = Field(description="The stream's path, relative to the service's; add &format=.")


class Stopped(BaseModel):
    """What became of a stop."""

    stopped: bool = Field(description="False: nothing was running.")


class Question(BaseModel):
    """What a graph asks before it goes on."""

    node: str
    message: Any
    resume_key: str


class Turn(BaseModel):
    """What was said and answered."""

    user: str
    assistant: str


class SessionState(BaseModel):
    """Where a conversation stands."""

    session_id: str
    status: Literal["running", "waiting", "idle"] = Field(description="waiting: a question is to be answered.")
    run: str | None = Field(default=None, description="The last run, while it can still be read.")
    question: Question | None = None
    turns: list[Turn] = Field(default_factory=list[Turn], description="What a prompt's conversation holds.")
    state: dict[str, Any] = Field(default_factory=dict[str, Any], description="What a graph's thread holds.")


class About(BaseModel):
    """What is served."""

    name: str
    kind: Literal["prompt", "graph"]
    description: str = ""
    input: str | None = Field(description="The variable, or the key of the state, that a message becomes.")
    begins: bool = Field(description="It can begin without a message.")


class Health(BaseModel):
    """That the service is there, and how busy it is."""

    status: Literal["ok"] = "ok"
    running: int = Field(description="The answers that are on their way in this worker.")
    max_running: int


class Problem(BaseModel):
    """Why a request was turned down, for a person to read."""

    detail: str
