"""Define the options of `streamcore serve` that limit what its clients may do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Host = Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 is every address.")]
Port = Annotated[int, typer.Option(help="The port to listen on; 0 takes a free one.", min=0, max=65535)]
Workers = Annotated[
    int,
    typer.Option(help="How many processes serve the port; more than 1 need --relay, which they share.", min=1, max=256),
]
MessageAs = Annotated[
    str | None,
    typer.Option("--input", metavar="KEY", help="The variable, or key of the state, that a message becomes."),
]
Name = Annotated[
    str | None,
    typer.Option(help="The service's name, which keeps it apart from others on one Redis. Default: from the file."),
]
ClientVariables = Annotated[
    list[str] | None,
    typer.Option("--client-variable", metavar="NAME", help="A variable that clients may set. Repeatable."),
]
MaxStreams = Annotated[int, typer.Option(help="How many answers may run at once in each worker.", min=1)]
MaxPerUser = Annotated[
    int | None,
    typer.Option(
        help="How many answers of one user or address may run at once. Default: a quarter of --max-streams.", min=1
    ),
]
MaxInput = Annotated[int, typer.Option(help="The maximum number of characters of a message.", min=1)]
MaxSeconds = Annotated[float, typer.Option(help="Seconds after which a run is ended.", min=0.1)]
MaxTurns = Annotated[int, typer.Option(help="How many turns of a prompt's conversation are kept.", min=1)]
MaxItems = Annotated[int, typer.Option(help="The maximum number of items of a graph's map node.", min=1)]
MaxModelCalls = Annotated[int, typer.Option(help="The maximum number of model calls of one run of a graph.", min=1)]
MaxTokens = Annotated[int, typer.Option(help="The maximum number of tokens of one run, input and output.", min=1)]
MaxCost = Annotated[
    str | None,
    typer.Option(
        metavar="AMOUNT[/PERIOD]",
        help="The maximum cost of each user or address in US dollars, as 5/day; also minute, hour, week, month.",
    ),
]
AllowGet = Annotated[
    bool | None,
    typer.Option(
        "--allow-get/--no-allow-get",
        help="Whether GET /stream?prompt= may start a run. Default: for clients on this machine and own pages.",
    ),
]
TrustedProxies = Annotated[
    list[str] | None,
    typer.Option(
        "--trusted-proxy", metavar="ADDRESS", help="A proxy whose X-Forwarded-For names the client. Repeatable."
    ),
]
Relay = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The Redis in which several workers keep answers and conversations, as redis://host:6379/0; or nats://host:4222",
    ),
]
Threads = Annotated[
    str | None,
    typer.Option(
        "--checkpointer",
        metavar="URL",
        help="The store of conversations: sqlite:///threads.db, redis://host:6379/0 or postgresql://host/database",
    ),
]
Durable = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        help="The database in which runs of graphs outlive this process: sqlite:///runs.db or postgresql://host/database",
    ),
]
Work = Annotated[
    bool, typer.Option("--work/--no-work", help="Whether this process executes durable runs, beside other workers.")
]
RefuseChanged = Annotated[
    bool,
    typer.Option("--refuse-changed", help="Leave durable runs that began with other files to workers that have them."),
]
Endpoints = Annotated[
    list[str] | None,
    typer.Option(
        "--endpoint",
        "--endpoints",
        metavar="NAME",
        help="An endpoint to serve, as chat-completions or messages; default: all. Repeatable, or with commas.",
    ),
]
AllowModels = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-model",
        metavar="PATTERN",
        help="Models that clients of the endpoints may name, as 'openai/*'. Repeatable.",
    ),
]
ApiKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--api-key",
        metavar="KEY",
        help="A key that clients must send. Repeatable. Default: $STREAMCORE_API_KEYS, with commas between.",
    ),
]
Cors = Annotated[
    list[str] | None,
    typer.Option("--cors", metavar="ORIGIN", help="An origin whose pages may send requests. Repeatable."),
]
Targets = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[GRAPH_OR_PROMPT]...", help="A graph's file, or a prompt's file or name. The page shows the first."
    ),
]
Metrics = Annotated[bool, typer.Option("--metrics", help="Serve metrics for Prometheus at /metrics.")]
Telemetry = Annotated[
    bool,
    typer.Option(
        "--telemetry", help="Send traces and metrics to OpenTelemetry, as `opentelemetry-instrument` configures it."
    ),
]
Grace = Annotated[float, typer.Option(help="Seconds without a reader after which an answer is cancelled.", min=0.1)]
Transport = Annotated[
    str | None,
    typer.Option(
        help="The HTTP library that requests are sent with: auto (default; aiohttp if installed), httpx2 or aiohttp."
    ),
]
Title = Annotated[str | None, typer.Option(help="The chat page's title. Default: the target's name.")]
Greeting = Annotated[str | None, typer.Option(help="The text of the chat page's empty conversation.")]
Logo = Annotated[Path | None, typer.Option(metavar="FILE", help="The chat page's logo: SVG, PNG, JPEG or WebP.")]
Color = Annotated[str | None, typer.Option(metavar="#RRGGBB", help="The color of the chat page's buttons and links.")]
AcceptFiles = Annotated[
    bool,
    typer.Option(
        "--accept-files",
        help="Let messages on the chat page have images, PDFs and texts, as far as the model's API does.",
    ),
]
MaxFileBytes = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="The maximum size of one file in bytes. Default: 5000000.")
]
ShowUsage = Annotated[
    bool, typer.Option("--show-usage", help="Show tokens, cost and times at the foot of each answer on the chat page.")
]
