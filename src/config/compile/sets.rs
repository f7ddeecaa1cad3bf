//! (being built)

use ipnet::IpNet;

use crate::config::{Context, Node, Table};

/// (being built)
pub(crate) fn networks(_root: &Table, node: &Node, cx: &mut Context) -> Vec<IpNet> {
    let Some(text) = node.as_str() else {
        return Vec::new();
    };
    let network = text.parse::<IpNet>().ok();
    let address = || text.parse::<std::net::IpAddr>().ok().map(IpNet::from);
    let Some(network) = network.or_else(address) else {
        cx.error("bad-network", node.span, format!("`{text}` is no network"));
        return Vec::new();
    };
    vec![network]
}
