//! `blind-trust`: what `[client] trusted_proxies` does to rules about addresses.
//!
//! - Everybody is trusted (`0.0.0.0/0`): each client chooses the address that rules judge. Certain: a finding.
//! - A rule lets addresses pass that are themselves trusted, and these are more than a network of proxies ([`WIDE_V4`]): there
//!   are clients among those who are believed, and each of them can claim any address. A finding. A smaller network is taken for
//!   the proxies themselves, which ask for `/health`.
//! - Every listener is on loopback and nobody is trusted: rules see one address, that of this machine. Certain too, but how
//!   one begins: a note.
//!
//! `[[accept]]` names this finding `rule = "trusted_proxies"`.

use ipnet::IpNet;

use super::Scene;
use super::leak::list;
use crate::config::compile::sets;
use crate::config::node::Node;
use crate::config::{Context, Diagnostic, Witness};
use crate::policy::RuleId;
use crate::policy::condition::{Condition, Matcher};
use crate::policy::draft::{Allow, Deny, Grant};
use crate::value::cidr::Class;

/// Reports trust that blinds rules.
pub(super) fn find(scene: &Scene<'_>, cx: &mut Context) {
    let rules = Reading::of(scene);
    let Some(first) = rules.any.first() else {
        return;
    };
    let client = scene.root.table("client");
    let trusted = client.and_then(|client| client.get("trusted_proxies"));
    let mut nobody = true;
    for node in trusted.into_iter().flat_map(Node::many) {
        // What is wrong with an entry was said when it was loaded.
        let known = cx.report.diagnostics.len();
        let networks = sets::networks(scene.root, node, cx);
        cx.report.diagnostics.truncate(known);
        nobody &= networks.is_empty();
        if networks.iter().any(|network| network.prefix_len() == 0) {
            everybody(scene, node, &rules, cx);
        } else if let Some((rule, network)) = rules.among(&networks) {
            some(scene, node, rule, network, cx);
        }
    }
    if nobody && alone(scene) {
        let named = scene.name(*first);
        let message = format!(
            "every listener is on loopback and no proxy is trusted: rules about addresses, such as `{named}`, see this machine only"
        );
        let span = trusted.map_or_else(|| scene.span(*first), |node| node.span);
        let note = Diagnostic::note(CODE, span, message).about(NAME);
        cx.say(note.help(
            "behind a proxy on this machine write `trusted_proxies = [\"127.0.0.1\"]`; else let a listener face the world",
        ));
    }
}

fn everybody(scene: &Scene<'_>, node: &Node, rules: &Reading, cx: &mut Context) {
    let names: Vec<String> = rules
        .any
        .iter()
        .take(NAMES_MAX)
        .map(|rule| format!("`{}`", scene.name(*rule)))
        .collect();
    let more = rules.any.len().saturating_sub(names.len());
    let more = if more > 0 {
        format!(" and {more} more")
    } else {
        String::new()
    };
    let message = format!(
        "everybody is trusted: clients choose the address that {}{more} judge",
        list(&names)
    );
    let finding = Diagnostic::finding(CODE, node.span, message).about(NAME);
    let witness = forged("198.51.100.7", "203.0.113.1");
    cx.say(
        finding
            .proven(Some(witness))
            .help("name the networks of your load balancers only"),
    );
}

fn some(scene: &Scene<'_>, node: &Node, rule: RuleId, network: IpNet, cx: &mut Context) {
    let name = scene.name(rule);
    let message = format!(
        "`{name}` lets clients in `{network}` pass, and whoever is there is believed about the client: each can claim any address"
    );
    let finding = Diagnostic::finding(CODE, node.span, message).about(NAME);
    let finding = finding.related(scene.span(rule), "lets them pass");
    let witness = forged(
        &network.hosts().next().unwrap_or(network.addr()).to_string(),
        "203.0.113.1",
    );
    cx.say(
        finding
            .proven(Some(witness))
            .help("trust the addresses of your proxies, not the network in which they run"),
    );
}

/// A request whose sender chooses the address that is judged.
fn forged(peer: &str, claimed: &str) -> Witness {
    Witness {
        words: format!("a request from {peer} with `X-Forwarded-For: {claimed}`"),
        outcome: format!("is judged as {claimed}"),
        request: serde_json::json!({ "peer": peer, "header": { "x-forwarded-for": claimed } }),
    }
}

/// Whether only this machine can connect, and no protocol tells of another client.
fn alone(scene: &Scene<'_>) -> bool {
    let mut listeners = scene.root.tables("listener").peekable();
    listeners.peek().is_some()
        && listeners.all(|listener| {
            let address = listener
                .str("address")
                .and_then(|text| text.parse::<std::net::SocketAddr>().ok());
            let told = matches!(listener.str("proxy_protocol"), Some("required"));
            address.is_some_and(|address| address.ip().to_canonical().is_loopback()) && !told
        })
}

/// The rules that read the client address, or what geography says of it.
struct Reading {
    any: Vec<RuleId>,
    /// Those that let addresses pass, and the networks that they name.
    helping: Vec<(RuleId, Vec<IpNet>)>,
}

impl Reading {
    fn of(scene: &Scene<'_>) -> Self {
        let mut reading = Self {
            any: Vec::new(),
            helping: Vec::new(),
        };
        let draft = scene.draft;
        let networks = |condition: &Condition| {
            let mut networks = Vec::new();
            for test in &condition.tests {
                if let Matcher::Client(test) = &test.matcher {
                    let set = usize::try_from(test.set.0)
                        .ok()
                        .and_then(|set| draft.addresses.get(set));
                    networks.extend(set.into_iter().flatten().copied());
                }
            }
            networks
        };
        let mut add = |rule: RuleId, whole: &Condition, helping: Vec<IpNet>| {
            if reads(whole) {
                reading.any.push(rule);
            }
            if !helping.is_empty() {
                reading.helping.push((rule, helping));
            }
        };
        let mut deny = |deny: &Deny| {
            let helping = deny.condition.unless.iter().flat_map(networks).collect();
            add(deny.rule, &deny.condition, helping);
        };
        draft.denies.iter().for_each(&mut deny);
        for site in &draft.sites {
            site.denies.iter().for_each(&mut deny);
            site.routes
                .iter()
                .flat_map(|route| &route.denies)
                .for_each(&mut deny);
        }
        for route in draft.sites.iter().flat_map(|site| &site.routes) {
            if let Grant::Rules(allows) = &route.grant {
                for Allow { rule, condition } in allows {
                    add(*rule, condition, networks(condition));
                }
            }
        }
        reading
    }

    /// A rule that lets more addresses among `trusted` pass than proxies have.
    fn among(&self, trusted: &[IpNet]) -> Option<(RuleId, IpNet)> {
        let loopback = Class::Loopback.networks();
        let trusted: Vec<&IpNet> = trusted
            .iter()
            .filter(|network| !loopback.iter().any(|own| own.contains(*network)))
            .collect();
        self.helping.iter().find_map(|(rule, networks)| {
            let mut both = networks.iter().flat_map(|network| {
                trusted.iter().filter_map(move |trusted| {
                    if trusted.contains(network) {
                        Some(*network)
                    } else {
                        network.contains(*trusted).then_some(**trusted)
                    }
                })
            });
            let wide = both.find(|network| match network {
                IpNet::V4(network) => network.prefix_len() < WIDE_V4,
                IpNet::V6(network) => network.prefix_len() < WIDE_V6,
            });
            wide.map(|network| (*rule, network))
        })
    }
}

fn reads(condition: &Condition) -> bool {
    let here = condition.tests.iter().any(|test| {
        matches!(test.matcher, Matcher::Client(_))
            || test.matcher.reads() != crate::value::region::GeoFacts::NONE
    });
    here || condition.unless.iter().any(reads)
}

const CODE: &str = "blind-trust";

/// What `[[accept]]` calls it.
const NAME: &str = "trusted_proxies";

/// Rules that a message names.
const NAMES_MAX: usize = 3;

/// A network with a shorter prefix than this holds more than proxies.
const WIDE_V4: u8 = 24;
/// The same of IPv6.
const WIDE_V6: u8 = 64;
