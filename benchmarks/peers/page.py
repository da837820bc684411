"""Define the text of docs/benchmarks.md around the figures of a run."""

PAGE = """\
<!-- Written by `make bench`; edit benchmarks/peers/page.py instead. -->
# Benchmarks

What a streamed token costs, compared with only reading the bytes, with the vendors' own SDKs, and with five other
libraries. All figures are from one run of `make bench`: {when}, on {machine}.

![CPU per streamed token]({picture})

## Burst: what a token costs

An answer of {tokens} tokens that arrives as fast as it is read. Microseconds of the reader's CPU per token: the median
of {rounds} rounds ({all_rounds} of streamcore, bare reading and the SDKs' raw bytes), and the range.

{burst}

## Setup: what a request costs

The same client requests an answer of one token repeatedly. Milliseconds of CPU per request.

{setup}

## A hundred streams, a token every 20 ms each

Openai chat; {windows} readings of a second each from a fresh process, of streamcore and bare reading from {crowds}.
Lag is how much later than planned a token arrived, relative to the most punctual token of its stream; the simulator's
own p99 was {server_p99} ms.

{paced}

## A thousand streams, 50,000 tokens a second offered

As above, but each stream's tokens begin {pause} s after its request, so that opening streams does not compete
with reading them. A measurement begins when every stream has delivered its first token, or after {cap} s without those
that have not; see `streams running` and `after`. A reader that is too slow falls further and further behind, so its
lag has no meaning; its tokens per second are what it can do.

{crowd}

Streamcore over aiohttp is also measured with twice as much: a token every 10 ms from each of the thousand streams.
So is a peer that delivered more than an eighth of the first load.

{rush}

## Start of a process

The import, with the construction of the objects for a call on openai chat; and the time from there to the end of a
first answer of one token, which includes lazy imports. Milliseconds of CPU, fresh processes.

{start}

## Targets

Each is a figure of this run or the median of its rounds' ratios. For bursts and setups, each value is first divided by
the time of a fixed piece of work right before and after it, since the speed of a shared machine changes within seconds.

{targets}

## How it is measured

- The server is `streamcore simulate`'s, in its own process, over loopback TCP: one HTTP chunk for each event,
  the events in the form of the vendors' public API references. Its own CPU per token of the bursts, in
  microseconds: {server}.
- Each contestant has its own process, and each peer its own environment with the versions below. They read in turns,
  round by round, so that other load on the machine affects all of them equally.
- A burst is a whole request, so it includes the cost of a request, spread over its tokens.
- Figures are CPU of the reading process, all threads, user and system; only lag and tokens per second are wall-clock
  time.
- Every burst's text is compared with what was sent, token by token in number; a contestant with a different text is
  left out.
- Streamcore sends over aiohttp by default where it is installed and asyncio runs, else over httpx2; here both are
  measured. The vendors' SDKs send over httpx2, and each peer over its own default.
- *Bare reading* is `aiter_bytes` of httpx2, or `iter_any` of aiohttp, and nothing else. aiohttp returns all that
  has arrived at once, httpx2 each HTTP chunk by itself: most of the difference between the two.

## What to keep in mind

- The peers do more than streamcore: callbacks, cost tables, tracing hooks, agents. If you need those, this page
  shows their price.
- Each is used by its documented asynchronous streaming API with a client that is made once, and with its default
  options. There are three exceptions, all in favor of the peer or of the comparison: pydantic-ai yields each token
  as it arrives (`debounce_by=None`), since by default it yields every tenth of a second; litellm uses its
  bundled list of prices (`LITELLM_LOCAL_MODEL_COST_MAP`) instead of fetching one at import; any-llm is
  used through one `AnyLLM` object.
- yamlgraph streams through LangChain's models; what it adds is the prompt file.
- Loopback has no TLS and no distance. Both cost the same for all, and a model is far slower than any of this: what
  matters in a service is how many streams a core can serve, and how late tokens are when it serves many.
- CPU times depend on the machine; ratios move by some ten percent between runs.

## Reproduce

    make bench          # everything, this page and its picture: about ten minutes
    make bench-quick    # without peers, printed only: under two minutes
    python -m benchmarks.peers --only litellm --wires openai --no-crowds

The environments are kept in `.bench/`, so a second run installs nothing. The figures are in `.bench/results.json`, the
versions in `benchmarks/peers/peers.toml`, the calls in `benchmarks/peers/readers/`, one file per library.

This run took {seconds}; the machine's load at its end was {load}.

## Versions

{versions}

## Left out

{left_out}
"""
