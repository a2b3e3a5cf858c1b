"""An HTTP/1.1 response, read from bytes as they come: status, headers, and the body without its framing.

Knows no socket, so that a hub callback and a blocking loop share it. Strict where leniency would mix two answers up: a
body ends exactly where its framing says, and a connection is kept only after such an end.
"""

import re

HEAD_BYTES = 65_536
LINE_BYTES = 1024
_STATUS = re.compile(rb"(HTTP/1\.[01]) ([1-9][0-9]{2})(?: |$)")
_LENGTH = re.compile(rb"[0-9]{1,18}")
# Python's own int() also takes signs, underscores and 0x: what one reader takes for 5 another takes for nothing.
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;|$)")


class BadResponse(Exception):
    """The server did not speak HTTP/1.1 as it should, or hung up in the middle."""


class ResponseReader:
    """Feed it what arrives; it gives the body's bytes."""

    __slots__ = ("_chunked", "_head", "_left", "_part", "ended", "headers", "keep_alive", "status")

    def __init__(self) -> None:
        self.status = 0
        """0 until the head is complete."""
        self.headers: dict[bytes, bytes] = {}
        self.ended = False
        self.keep_alive = False
        self._head = b""
        self._part = b""
        self._left = 0
        self._chunked = False

    def feed(self, data: bytes) -> bytes:
        """The body's bytes in `data`. Raises BadResponse."""
        if not self.status:
            data = self._read_head(self._head + data)
            if not self.status:
                return b""
        if self._chunked:
            return self._dechunk(data)
        if self._left >= 0:
            if len(data) > self._left:
                raise BadResponse("more than Content-Length")
            self._left -= len(data)
            self.ended = self._left == 0
        return data

    def eof(self) -> None:
        """The server closed the connection. Raises BadResponse unless that is how this body ends."""
        if self.ended:
            return
        if not self.status or self._chunked or self._left >= 0:
            raise BadResponse("closed in the middle of the response")
        self.ended = True

    def _read_head(self, data: bytes) -> bytes:
        end = data.find(b"\r\n\r\n")
        if end < 0:
            if len(data) > HEAD_BYTES:
                raise BadResponse("a head without an end")
            self._head = data
            return b""
        lines = data[:end].split(b"\r\n")
        begin = _STATUS.match(lines[0])
        if begin is None:
            raise BadResponse("no HTTP/1.1 status line")
        version, status = begin[1], int(begin[2])
        rest_of_data = data[end + 4 :]
        self._head = b""
        if 100 <= status < 200:
            return self._read_head(rest_of_data)
        headers: dict[bytes, bytes] = {}
        for line in lines[1:]:
            name, _, value = line.partition(b":")
            name, value = name.strip().lower(), value.strip()
            if name == b"content-length" and headers.get(name, value) != value:
                raise BadResponse("two lengths")
            headers[name] = value
        self.status, self.headers = status, headers
        connection = headers.get(b"connection", b"").lower()
        self.keep_alive = b"close" not in connection and (version == b"HTTP/1.1" or b"keep-alive" in connection)
        encoding = headers.get(b"transfer-encoding")
        if encoding is not None:
            if encoding.lower() != b"chunked":
                raise BadResponse("a transfer encoding nobody asked for")
            self._chunked = True
        elif b"content-length" in headers:
            length = headers[b"content-length"]
            if _LENGTH.fullmatch(length) is None:
                raise BadResponse("Content-Length is no number")
            self._left = int(length)
            self.ended = self._left == 0
        elif status in (204, 304):
            self.ended = True
        else:
            self._left, self.keep_alive = -1, False
        return rest_of_data

    def _dechunk(self, data: bytes) -> bytes:
        if self.ended:
            if data:
                raise BadResponse("bytes after the last chunk")
            return b""
        out = []
        position, size = 0, len(data)
        if self._part:
            data = self._part + data
            size, self._part = len(data), b""
        while position < size:
            if self._left:  # inside a chunk: its bytes, then CRLF
                piece = data[position : position + self._left]
                position += len(piece)
                self._left -= len(piece)
                if self._left < 2:
                    if not self._left and data[position - 1] != 10:
                        raise BadResponse("a chunk longer than its size")
                    piece = piece[: len(piece) - 2 + self._left]
                out.append(piece)
                continue
            end = data.find(b"\r\n", position)
            if end < 0:
                if size - position > LINE_BYTES:
                    raise BadResponse("a chunk's size without an end")
                self._part = data[position:]
                break
            found = _CHUNK_SIZE.match(data, position, end)
            if found is None:
                raise BadResponse("a chunk's size is no number")
            length = int(found[1], 16)
            if length == 0:
                stop = data.find(b"\r\n\r\n", end)  # trailers, if there are any, are skipped up to the empty line
                if stop < 0:
                    if size - position > HEAD_BYTES:
                        raise BadResponse("trailers without an end")
                    self._part = data[position:]
                elif stop + 4 != size:
                    raise BadResponse("bytes after the last chunk")
                else:
                    self.ended = True
                break
            position = end + 2
            self._left = length + 2
        return out[0] if len(out) == 1 else b"".join(out)
