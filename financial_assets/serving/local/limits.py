"""Limits of the plane, and its messages to requests beyond them.

Every size follows from the largest batch that this package sends, so that no legitimate request meets a limit and no
other one fills the memory.
"""

from __future__ import annotations

MAX_ROWS = 2048
"""Tickers in one request: the runtime's ``max_batch``, four times what ``signals.BATCH_ROWS`` sends."""

# Sessions and channels; literals, because their home imports torch. Covariates make rows longer, so fewer fit into a
# request: with all sixteen 623, and this package sends 155.
_VALUES_OF_ROW = 256 * 7
_DIGITS = 12  # on average: nine digits of a float32, point, comma and space; a price rarely needs all of them
_AROUND = 64 * 2**10  # names, shapes, parameters

REST_BODY_BYTES = MAX_ROWS * _VALUES_OF_ROW * _DIGITS + _AROUND
GRPC_MESSAGE_BYTES = MAX_ROWS * _VALUES_OF_ROW * 4 + _AROUND

KEPT_BYTES = 2 * GRPC_MESSAGE_BYTES
"""Freed memory at the end of MLServer's heap that stays for the next request. One over gRPC is copied four times, so
that half of the largest one fits. More would not: glibc limits the size of a buffer in the heap to 32 MiB."""

LARGE_BODY_BYTES = 256 * 2**10
"""Bodies from this size on (12 rows as JSON, 36 as raw tensors; this package sends one) are passed on in a stream and
parsed one at a time: parsing holds the interpreter, and its lists hold memory. Smaller ones are collected by the
gateway first, so that a slow sender takes no place in the server."""

BUFFER_BYTES = 256 * 2**10
"""Bytes that one connection of the gateway buffers before it makes its sender wait."""

INSIDE, WAITING = 32, 2048
"""Requests inside MLServer for one model, and queued in front of it; further ones get 503. Models have places of their
own, so that one that is flooded does not hold up the others."""

LARGE_INSIDE, LARGE_WAITING = 2, 6
"""The same for those with large bodies."""

GRPC_INSIDE = 16
"""Requests over gRPC inside MLServer for one model; ``WAITING`` more are queued in front of it."""

CONNECTIONS = 2048
"""Connections of clients to the gateway: a thousand requests in flight at once, each on its own, are no overload."""

STREAMS = 256
"""Requests at once on one HTTP/2 connection."""

HEAP_BYTES = 512 * 2**20
"""Envoy's heap; it answers new requests with 503 when three quarters are in use."""

HEADERS_S, REQUEST_S, IDLE_S = 5, 60, 60
"""Longest time for a request's headers, for all of it (which includes a large body's wait for its turn), and between
two requests of a connection."""

TOO_LARGE = (
    f"the body exceeds {REST_BODY_BYTES} bytes, which is this gateway's limit: {MAX_ROWS} rows of 256 sessions x 7 "
    f"channels as JSON (or {LARGE_BODY_BYTES} bytes in chunks, without Content-Length); send fewer rows per request"
)
TOO_MANY = (
    f"overloaded: this gateway answers {INSIDE} requests for a model at a time and lets {WAITING} wait ({LARGE_INSIDE} "
    f"and {LARGE_WAITING} of those with bodies of {LARGE_BODY_BYTES} bytes or more); send this one again later"
)
TOO_SLOW = f"the request did not arrive in time: {HEADERS_S} s for its headers, {REQUEST_S} s for all of it"
