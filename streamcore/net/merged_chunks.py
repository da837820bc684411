"""Merge the HTTP chunks that arrived together into one, before an HTTP library parses them.

A vendor sends each event as a chunk of HTTP/1.1's chunked encoding (RFC 9112, section 7.1). h11 and httpx2 spend more
on a chunk than we on the event in it, though nobody asks where a chunk ended. Only whole chunks are merged; every other
byte is passed on as it came, so that the library reports what is wrong with it. A compressed body is not merged: what
decompresses one chunk after the other keeps those before a broken one.
"""

from __future__ import annotations

import re

_CRLF = b"\r\n"
_HEAD_END = b"\r\n\r\n"
_LONGEST_HEAD = 1 << 16
_LONGEST_SIZE_LINE = 10  # eight digits and CRLF
_CHUNKED_HEAD = re.compile(
    rb"HTTP/1\.1 (?!204|304)[2-5].*\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n", re.IGNORECASE | re.DOTALL
)
_ENCODED_HEAD = re.compile(rb"\r\ncontent-encoding:", re.IGNORECASE)
_INTERIM_HEAD = re.compile(rb"HTTP/1\.1 1")


class _Sizes(dict[bytes, int]):
    """The size of a chunk by its line; 0 for the last chunk, and for a line with anything but eight digits at most."""

    def __missing__(self, line: bytes) -> int:
        if re.fullmatch(rb"[0-9A-Fa-f]{1,8}", line) is None:
            return 0
        size = int(line, 16)
        if len(self) < 4096:
            self[line] = size
        return size


_sizes = _Sizes()


class ChunkMerger:
    """Merge the chunks of the responses on one connection: what goes in are reads, what comes out are fewer chunks.

    The body that a parser finds in the output is the one in the input, and what is wrong with the input is wrong with
    the output. At most one line with a chunk's size is held until its rest arrives.
    """

    __slots__ = ("_expecting", "_head", "_left", "_line", "_merging")

    def __init__(self) -> None:
        self._expecting = True  # a head
        self._head = b""
        self._merging = False
        self._line = b""
        self._left = 0  # bytes of a chunk, with the CRLF at its end, that are passed on as they come

    def expect_head(self) -> None:
        """Note that a request is sent, whose response begins with the next read unless another is still arriving."""
        if not self._merging:
            self._expecting, self._head = True, b""

    def feed(self, data: bytes) -> bytes:
        """Return what to parse in place of a read; b"" if the read was the beginning of a line only."""
        if self._merging:
            return self._merged(data)
        if self._expecting:
            return self._after_heads(data)
        return data

    def _after_heads(self, data: bytes) -> bytes:
        before = len(self._head)
        heads = self._head + data
        begin, search = 0, max(0, before - 3)
        while self._expecting:
            end = heads.find(_HEAD_END, search) + len(_HEAD_END)
            if end < len(_HEAD_END):
                self._head = heads[begin:]
                self._expecting = len(self._head) < _LONGEST_HEAD
                return data
            self._note_head(heads[begin:end])
            begin = search = end
        self._head, at = b"", begin - before
        return data[:at] + self._merged(data[at:]) if self._merging else data

    def _note_head(self, head: bytes) -> None:
        self._expecting = _INTERIM_HEAD.match(head) is not None
        self._merging = _CHUNKED_HEAD.match(head) is not None and _ENCODED_HEAD.search(head) is None
        if head.count(b"\n") != head.count(_CRLF):  # a parser may take a lone LF for the end of a line
            self._expecting = self._merging = False

    def _merged(self, data: bytes) -> bytes:
        if self._line:
            data, self._line = self._line + data, b""
        begin, end = self._left, len(data)
        if begin >= end:
            self._left = begin - end
            return data
        chunks: list[bytes] = []
        at = begin
        self._left = 0
        while at < end:
            line_end = data.find(_CRLF, at, at + _LONGEST_SIZE_LINE)
            if line_end < 0 and end - at < _LONGEST_SIZE_LINE:
                self._line, end = data[at:], at
                break
            size = _sizes[data[at:line_end]] if line_end > 0 else 0
            first = line_end + 2
            last = first + size
            if size and last + 2 > end:
                self._left = last + 2 - end
                break
            if not size or data[last : last + 2] != _CRLF:
                self._merging = False  # the last chunk, or nothing that is merged
                break
            chunks.append(data[first:last])
            at = last + 2
        if len(chunks) < 2:
            return data[:end]
        body = b"".join(chunks)
        return b"%b%x\r\n%b\r\n%b" % (data[:begin], len(body), body, data[at:end])
