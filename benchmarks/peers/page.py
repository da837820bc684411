"""Hold the words of docs/benchmarks.md around the figures of a run."""

PAGE = """\
<!-- Written by `make bench`; edit benchmarks/peers/page.py instead. -->
# Benchmarks

What a streamed token costs, next to reading the bytes without doing anything, the vendors' own SDKs, and five other
libraries. All of it comes from one run of `make bench`: {when}, on {machine}.

![CPU per streamed token]({picture})

## Burst: what a token costs

An answer of {tokens} tokens that comes as fast as it is read. Microseconds of the reader's CPU per token: the median
of {rounds} rounds ({all_rounds} of streamcore, bare reading and the SDKs' raw bytes), and the range.

{burst}

## Setup: what a request costs

The same client asks again and again for an answer of one token. Milliseconds of CPU per request.

{setup}

## A hundred streams, a token every 20 ms each

Openai chat; {windows} readings of a second each from a fresh process, of streamcore and bare reading from {crowds}.
Lag is how much later than in its turn a token came, counted from the most punctual token of its stream; the
simulator's own p99 was {server_p99} ms.

{paced}

## A thousand streams, 50,000 tokens a second offered

As above, but each stream's tokens begin {pause} s after it was asked for, so that opening streams does not compete
with reading them. A reading begins when every stream has brought its first token, or after {cap} s without those that
have not; `streams running` and `after` tell. A reader that is too slow falls ever further behind, so its lag only
says that it did; its tokens a second are what it can do.

{crowd}

Streamcore over aiohttp is also asked for twice as much: a token every 10 ms from each of the thousand streams.
So is a peer that brought more than an eighth of the first offer.

{rush}

## Start of a process

Import, with making the objects that a call on openai chat is made on; and from there to the end of a first answer of
one token, which is when what was put off at import is loaded. Milliseconds of CPU, fresh processes.

{start}

## Targets

Each is a figure of this run or the median of its rounds' ratios. Of bursts and setups, each value is first divided by
what a fixed piece of work took right before and behind it: the speed of a shared machine changes within seconds.

{targets}

## How it is measured

- The server is `streamcore simulate`'s, in a process of its own, over loopback TCP: one HTTP chunk for each event,
  the events in the shapes of the vendors' public API references. Its own CPU per token of the bursts, in
  microseconds: {server}.
- Each contestant has its own process, and each peer its own environment with the versions below. They read in turns,
  round by round, so what else the machine does falls on all of them alike.
- A burst is a whole request, so what a request costs is in it, spread over its tokens.
- Figures are CPU of the reading process, all threads, user and system; only lag and tokens per second read the clock.
- Every burst's text is compared with what was sent, token by token in number; a contestant that brings another one is
  left out.
- *Bare reading* is `aiter_bytes` of httpx2, or `iter_any` of aiohttp, and nothing else. aiohttp hands out what has
  come in one piece, httpx2 each HTTP chunk by itself: most of the distance between the two.

## What to keep in mind

- The peers do more than streamcore: callbacks, cost tables, tracing hooks, agents. If you need those, the price is
  not for nothing; this page says what it is.
- Each is driven by its documented asynchronous streaming API with a client that is made once, with nothing switched
  on that it does not do by default. Three exceptions, all in favour of the peer or of the comparison: pydantic-ai is
  asked for each token as it comes (`debounce_by=None`), since by default it hands out tenths of a second; litellm is
  told to use its bundled list of prices (`LITELLM_LOCAL_MODEL_COST_MAP`) instead of fetching one at import; any-llm
  is used through one `AnyLLM` object.
- yamlgraph streams through LangChain's models; what it adds is the prompt file.
- Loopback has no TLS and no distance. Both cost the same for everybody, and a model is far slower than any of this:
  what counts in a service is how many streams a core can hold, and how late tokens come when it holds many.
- CPU times depend on the machine; ratios move by some ten percent between runs.

## Reproduce

    make bench          # everything, this page and its picture: about ten minutes
    make bench-quick    # without peers, printed only: under two minutes
    python -m benchmarks.peers --only litellm --wires openai --no-crowds

Environments are kept in `.bench/`, so a second run installs nothing; so are the figures, in `.bench/results.json`.
The pins are `benchmarks/peers/peers.toml`, what is called is in `benchmarks/peers/readers/`, one file a library.

This run took {seconds}; the machine's load at its end was {load}.

## Versions

{versions}

## Left out

{left_out}
"""
