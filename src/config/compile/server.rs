//! `[server]`, `[server.limits]` and `[admin]`.

use super::{duration, number, size};
use crate::config::node::Table;
use crate::config::{Context, Diagnostic, defaults};
use crate::snapshot::{Admin, Limits, Server};

/// Compiles `[server]`.
pub(super) fn compile(table: Option<&Table>, cx: &mut Context) -> Server {
    let empty = Table::default();
    let table = table.unwrap_or(&empty);
    let limits = limits(table.table("limits").unwrap_or(&empty));
    if let Some(node) = table
        .table("limits")
        .and_then(|table| table.get("target_length"))
        && limits.target_length > limits.header_size
    {
        let message = "`target_length` is larger than `header_size`, which bounds the whole head";
        cx.say(Diagnostic::warning("pointless-limit", node.span, message));
    }
    Server {
        workers: number(table, "workers").unwrap_or_else(defaults::workers),
        drain_timeout: duration(table, "drain_timeout").unwrap_or(defaults::DRAIN_TIMEOUT),
        limits,
    }
}

fn limits(table: &Table) -> Limits {
    let by_default = defaults::LIMITS;
    let count = |key: &str, otherwise: usize| number(table, key).unwrap_or(otherwise);
    let wait = |key: &str, otherwise| duration(table, key).unwrap_or(otherwise);
    Limits {
        connections: count("connections", by_default.connections),
        connections_per_client: count("connections_per_client", by_default.connections_per_client),
        header_size: size(table, "header_size")
            .and_then(|bytes| usize::try_from(bytes).ok())
            .unwrap_or(by_default.header_size),
        header_count: count("header_count", by_default.header_count),
        target_length: count("target_length", by_default.target_length),
        header_timeout: wait("header_timeout", by_default.header_timeout),
        body_timeout: wait("body_timeout", by_default.body_timeout),
        body_size: size(table, "body_size").unwrap_or(by_default.body_size),
        idle_timeout: wait("idle_timeout", by_default.idle_timeout),
        stream_idle_timeout: wait("stream_idle_timeout", by_default.stream_idle_timeout),
        h2_streams: number(table, "h2_streams").unwrap_or(by_default.h2_streams),
    }
}

/// Compiles `[admin]`.
pub(super) fn admin(table: Option<&Table>, cx: &Context) -> Admin {
    let written = table.and_then(|table| table.get("socket"));
    let socket = written.and_then(|node| Some(cx.path(node.span, node.as_str()?)));
    Admin {
        socket_written: socket.is_some(),
        socket: socket.unwrap_or_else(defaults::admin_socket),
        address: None,
        token: None,
    }
}
