"""Define the JSON bodies of requests, and of responses that are not streams."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from streamcore.sse.event_id import RUN_ID

ID = f"^{RUN_ID}$"
"""The one grammar of ids from outside, at start and at reconnect."""

SessionId = Annotated[
    str, Field(pattern=ID, description="The id of a conversation: 1 to 64 characters of A-Z a-z 0-9 _ ~ -.")
]


class Body(BaseModel):
    """The body of a request; an unknown key is an error, so that a typo is noticed."""

    model_config = ConfigDict(extra="forbid")


class SentFile(Body):
    """A file of a message."""

    name: str = Field(description="The file's name, without folders.")
    media_type: str = Field(description="One of the types in `accepts` of `GET /about`; the content must fit.")
    data: str = Field(repr=False, description="The bytes in base64.")


class FilesOf(Body):
    """A message whose files are sent again."""

    session_id: SessionId = Field(description="The conversation.")
    run: SessionId = Field(description="The run that answered the message.")


class Start(Body):
    """A message, and the conversation that it belongs to."""

    prompt: str | None = Field(default=None, description="The message. A graph may start without one.")
    session_id: SessionId | None = Field(
        default=None, description="The conversation to continue; defaults to a new one."
    )
    variables: dict[str, Any] = Field(
        default_factory=dict[str, Any], description="Other variables of the prompt, or values of the graph's state."
    )
    files: list[SentFile] = Field(
        default_factory=list[SentFile], max_length=100, description="Files, where `GET /about` has `accepts`."
    )
    files_of: FilesOf | None = Field(default=None, description="Send the files of an earlier message again, too.")
    model: str = Field(
        default="", max_length=200, description='One of `models` of `GET /about`; "": the model of the target.'
    )


class Resume(Body):
    """The answer to the question that a conversation waits for."""

    answer: Any = Field(description="Text, or any JSON value that the graph accepts.")


class Started(BaseModel):
    """A run that was started, and where to read it."""

    session_id: str
    run: str = Field(description="The run's name.")
    stream: str = Field(description="The path of the stream, relative to the service; add &format=.")


class Stopped(BaseModel):
    """The result of a stop."""

    stopped: bool = Field(description="False if no run had to be stopped.")


class Question(BaseModel):
    """A question of a graph, which waits for its answer."""

    node: str
    message: Any
    resume_key: str


class TurnFile(BaseModel):
    """A file of a message, without its content."""

    name: str
    media_type: str


class Turn(BaseModel):
    """A message and its answer."""

    user: str
    assistant: str
    files: list[TurnFile] = Field(default_factory=list[TurnFile], exclude_if=lambda files: not files)


class SessionState(BaseModel):
    """The state of a conversation."""

    session_id: str
    status: Literal["running", "waiting", "idle"] = Field(description="waiting: `question` must be answered.")
    run: str | None = Field(default=None, description="The last run, as long as it can be read.")
    question: Question | None = None
    turns: list[Turn] = Field(default_factory=list[Turn], description="The turns of a prompt's conversation.")
    state: dict[str, Any] = Field(default_factory=dict[str, Any], description="The state of a graph's thread.")


class About(BaseModel):
    """What is served."""

    name: str
    kind: Literal["prompt", "graph"]
    description: str = ""
    input: str | None = Field(description="The variable, or the key of the state, that a message becomes.")
    begins: bool = Field(description="Whether a run can start without a message.")

    forks: bool = Field(default=False, description="Whether a conversation can be forked at any turn.")
    suggestions: list[str] = Field(default_factory=list[str], description="Messages that the page suggests.")
    keeps: bool = Field(default=False, description="Whether the service keeps the page's conversations for this user.")
    accepts: list[str] = Field(default_factory=list[str], description="The types of files that a message may have.")
    max_file_bytes: int = Field(default=0, description="The maximum number of bytes of one file.")
    max_files: int = Field(default=0, description="The maximum number of files of one message.")
    max_files_bytes: int = Field(default=0, description="The maximum number of bytes of all files of one message.")
    models: list[str] = Field(default_factory=list[str], description="The models that a message may name.")


class Fork(Body):
    """Which turns of a conversation a new one begins with."""

    keep: list[SessionId] = Field(description="The runs whose turns are kept, in any order.", max_length=1000)


class Forked(BaseModel):
    """A new conversation."""

    session_id: str


class ListedConversation(BaseModel):
    """A conversation of the page, in the list of its user."""

    id: str
    title: str
    created: int = Field(description="Unix time in milliseconds.")
    updated: int = Field(description="Unix time in milliseconds.")


class ConversationList(BaseModel):
    """The conversations of a user, the latest first."""

    conversations: list[ListedConversation]


class ConversationRecord(Body):
    """A conversation as the page saves it."""

    record: dict[str, Any] = Field(
        description="What the page shows; the service reads only its `title`, for the list, up to 200 characters."
    )


class SavedConversation(BaseModel):
    """The time of the change."""

    updated: int = Field(description="Unix time in milliseconds.")


class Rating(Body):
    """What a user thinks of an answer."""

    run: SessionId = Field(description="The run whose answer it is.")
    rating: Literal["good", "bad"] | None = Field(description="null takes the rating back.")


class PageToken(BaseModel):
    """The proof that a GET request comes from a page of this service."""

    token: str = Field(description="Add it as &token= to a stream that starts a run; the browser keeps the cookie.")


class Health(BaseModel):
    """The service is up; how busy it is."""

    status: Literal["ok"] = "ok"
    running: int = Field(description="The number of answers that run in this worker.")
    max_running: int


class Problem(BaseModel):
    """Why a request was refused, as text for people."""

    detail: str
