"""How Envoy holds the plane's limits: documents made from the numbers of ``limits.py``."""

from __future__ import annotations

import json

from financial_assets.serving.local import limits
from financial_assets.serving.local.envoy.documents import Document, at_status, extension
from financial_assets.serving.local.envoy.routes import LARGE_CLUSTER, PROTOCOLS

__all__ = [
    "circuit_breakers",
    "http2_options",
    "http_protections",
    "local_replies",
    "memory_protections",
    "request_filter",
]

_RETRIES = 5  # as in the cluster
# The path's model goes into the header only if the client sent neither header: one that did has already chosen.
# Calling body() buffers a body. A gRPC message is never buffered: MLServer refuses a long one by the length in its
# first bytes, with RESOURCE_EXHAUSTED; the gateway's own refusal would reach the client as UNKNOWN.
_REQUEST_FILTER = """
function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path") or ""
  if headers:get("seldon-model") == nil and headers:get("x-seldon-route") == nil then
    local model = string.match(path, "^/v2/models/([^/?]+)")
    if model ~= nil then
      headers:add("seldon-model", model)
    end
  end
  if string.sub(path, 1, #GRPC) == GRPC then
    return
  end
  local length = headers:get("content-length")
  length = length ~= nil and tonumber(length) or nil
  if length ~= nil and length > LIMIT then
    handle:respond({[":status"] = "413", ["content-type"] = "application/json"}, TOO_LARGE)
  elseif length == nil or length < LARGE then
    handle:body()
  end
end
"""


def request_filter() -> str:
    """The public listener's Lua filter: names the model, refuses long bodies unread, collects short ones."""
    values = {
        "GRPC": json.dumps(PROTOCOLS["grpc"]),
        "LIMIT": str(limits.REST_BODY_BYTES),
        "LARGE": str(limits.LARGE_BODY_BYTES),
        "TOO_LARGE": json.dumps(json.dumps({"error": limits.TOO_LARGE})),
    }
    return "".join(f"local {name} = {value}\n" for name, value in values.items()) + _REQUEST_FILTER


def circuit_breakers(cluster: str) -> Document:
    """Thresholds of a cluster: the retries of all, and for MLServer's own clusters how many may be inside and wait."""
    servers = {
        "mlserver_http": (limits.INSIDE, limits.WAITING),
        LARGE_CLUSTER: (limits.LARGE_INSIDE, limits.LARGE_WAITING),
        "mlserver_grpc": (limits.GRPC_INSIDE, limits.GRPC_INSIDE),
    }
    thresholds: Document = {"max_retries": _RETRIES}
    if cluster in servers:
        inside, waiting = servers[cluster]
        thresholds |= {"max_connections": inside, "max_pending_requests": waiting, "max_requests": inside}
    return {"thresholds": [thresholds]}


def http_protections() -> Document:
    """Time limits of public connections, and HTTP/1.0, which some probes and scripts still speak.

    A client that sends slowly is cut off; one that waits for its answer is not, because a restart may be under way.
    """
    return {
        "request_headers_timeout": f"{limits.HEADERS_S}s",
        "request_timeout": f"{limits.REQUEST_S}s",
        "common_http_protocol_options": {"idle_timeout": f"{limits.IDLE_S}s"},
        "http_protocol_options": {"accept_http_10": True, "default_host_for_http_10": "localhost"},
    }


def http2_options() -> Document:
    """Flow control of every listener's HTTP/2: by default a stream may fill 16 MiB before anybody reads it."""
    return {
        "max_concurrent_streams": limits.STREAMS,
        "initial_stream_window_size": limits.BUFFER_BYTES,
        "initial_connection_window_size": 4 * limits.BUFFER_BYTES,
    }


def memory_protections() -> Document:
    """Of the bootstrap: connections that clients may open, and the heap beyond which new requests get a 503."""
    heap = "envoy.resource_monitors.fixed_heap"
    connections = "envoy.resource_monitors.global_downstream_max_connections"
    monitors = [
        extension(heap, "resource_monitors.fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=limits.HEAP_BYTES),
        extension(
            connections,
            "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            max_active_downstream_connections=limits.CONNECTIONS,
        ),
    ]
    actions = [
        {
            "name": f"envoy.overload_actions.{action}",
            "triggers": [{"name": heap, "threshold": {"value": share}}],
        }
        for action, share in (("shrink_heap", 0.5), ("stop_accepting_requests", 0.75))
    ]
    return {"overload_manager": {"refresh_interval": "0.05s", "resource_monitors": monitors, "actions": actions}}


def local_replies() -> Document:
    """The gateway's own refusals in the protocol's shape: a V2 error over REST, a plain message over gRPC."""
    body = "%LOCAL_REPLY_BODY%"
    overflow = {"response_flag_filter": {"flags": ["UO"]}}
    # Envoy applies the first mapper that fits, so the specific ones come first.
    mappers = [
        _reply(413, limits.TOO_LARGE),
        _reply(408, limits.TOO_SLOW),
        _reply(503, limits.TOO_MANY, overflow),
        # Envoy answers 507 when it would have to retry a large body, which it does not keep.
        {**_reply(507, limits.TOO_MANY), "status_code": 503},
        _reply(503, "unavailable: %LOCAL_REPLY_BODY%"),
        _reply(504, "no answer in time: %LOCAL_REPLY_BODY%"),
        {
            "filter": {"header_filter": {"header": _GRPC_CONTENT}},
            "body_format_override": {"text_format_source": {"inline_string": body}},
        },
        {"filter": at_status("GE", 400, "v2_error"), "body_format_override": {"json_format": {"error": body}}},
    ]
    return {"local_reply_config": {"mappers": mappers}}


_GRPC_CONTENT = {"name": "content-type", "string_match": {"prefix": "application/grpc"}}


def _reply(status: int, error: str, *also: Document) -> Document:
    code = at_status("EQ", status, f"local_reply_{status}")
    rest = {**_GRPC_CONTENT, "invert_match": True, "treat_missing_header_as_empty": True}
    return {
        "filter": {"and_filter": {"filters": [code, {"header_filter": {"header": rest}}, *also]}},
        "body_format_override": {"json_format": {"error": error}},
    }
