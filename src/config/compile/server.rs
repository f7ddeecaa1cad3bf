//! `[server]`, `[server.limits]` and `[admin]`.

use std::net::SocketAddr;

use super::{duration, listener, number, size};
use crate::config::node::{Node, Table};
use crate::config::{Context, Diagnostic, defaults};
use crate::snapshot::{Admin, Limits, Server, Token};

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
pub(super) fn admin(table: Option<&Table>, cx: &mut Context) -> Admin {
    let written = table.and_then(|table| table.get("socket"));
    let socket = written.and_then(|node| Some(cx.path(node.span, node.as_str()?)));
    Admin {
        socket_written: socket.is_some(),
        socket: socket.unwrap_or_else(defaults::admin_socket),
        address: address(table, cx),
        token: table
            .and_then(|table| table.get("token"))
            .and_then(|node| token(node, cx)),
    }
}

/// The TCP address. Where no token is asked, only this machine may reach it.
fn address(table: Option<&Table>, cx: &mut Context) -> Option<SocketAddr> {
    let table = table?;
    let node = table.get("address")?;
    let address = listener::address(node, cx)?;
    if table.get("token").is_none() && !address.ip().to_canonical().is_loopback() {
        let message = format!("without a `token` anybody who reaches `{address}` is an operator");
        let finding = Diagnostic::error("admin-without-token", node.span, message);
        cx.say(finding.help(
            "write `token = \"${file:admin.token}\"` beside it, or an address such as `127.0.0.1:9403`",
        ));
    }
    Some(address)
}

/// A token that can be sent and not be guessed. It is never repeated in a finding.
fn token(node: &Node, cx: &mut Context) -> Option<Token> {
    let text = node.as_str()?;
    if text.len() >= TOKEN_BYTES_MIN && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Some(Token::new(text));
    }
    let message = format!(
        "`token` must have at least {TOKEN_BYTES_MIN} characters, letters, digits and signs only"
    );
    let finding = Diagnostic::error("invalid-value", node.span, message);
    cx.say(finding.help("`openssl rand -hex 32` makes a good one"));
    None
}

/// 16 random hex digits are 64 bits: out of reach for guessing over a network.
const TOKEN_BYTES_MIN: usize = 16;
