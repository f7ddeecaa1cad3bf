//! The outcome for people, in 80 columns.

use std::fmt::Write as _;

use super::tally::{Group, Key, Sort, Tally, top};

/// The whole text.
pub(super) fn of(tally: &Tally, policy: &str, masked: bool) -> String {
    let mut text = format!("{} lines under {policy}\n", tally.lines);
    let unreplayable: u64 = tally.not_replayable.values().map(|seen| seen.count).sum();
    for (word, count) in [
        ("unchanged", tally.unchanged),
        ("would allow", tally.count(Sort::WouldAllow)),
        ("would deny", tally.count(Sort::WouldDeny)),
        ("changed answer", tally.count(Sort::Changed)),
        ("not replayable", unreplayable),
        ("unreadable", tally.unreadable.count),
    ] {
        let share = share(count, tally.lines);
        line(&mut text, &format!("  {word:<14} {count:>10}  {share}"));
    }
    if tally.unreadable.count > 0 {
        let first = tally.unreadable.first;
        line(
            &mut text,
            &format!("  the first unreadable line is {first}"),
        );
    }
    for (sort, title) in [
        (Sort::WouldAllow, "Would allow what was refused"),
        (Sort::WouldDeny, "Would refuse what passed"),
        (Sort::Changed, "Would refuse with another answer"),
    ] {
        let mut groups: Vec<(&Key, &Group)> = tally.groups.iter().collect();
        groups.retain(|(key, _)| key.sort == sort);
        groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.seen.count));
        if groups.is_empty() {
            continue;
        }
        line(&mut text, "");
        line(&mut text, title);
        for (key, group) in groups.iter().take(GROUPS) {
            self::group(&mut text, key, group);
        }
        let more = groups.len().saturating_sub(GROUPS);
        if more > 0 {
            line(
                &mut text,
                &format!("  and {more} more groups (`--format json` has all)"),
            );
        }
    }
    if !tally.not_replayable.is_empty() {
        line(&mut text, "");
        line(&mut text, "Not replayable, because");
        let mut all: Vec<_> = tally.not_replayable.iter().collect();
        all.sort_by_key(|(_, seen)| std::cmp::Reverse(seen.count));
        for (why, seen) in all {
            let head = format!("{:>10}  ", seen.count);
            hanging(
                &mut text,
                &head,
                &format!("{why} (first: line {})", seen.first),
            );
        }
    }
    if masked {
        line(&mut text, "");
        line(
            &mut text,
            "The policy's access log masks addresses; if this log was so written, rules\non addresses judge the masked ones.",
        );
    }
    text
}

fn group(text: &mut String, key: &Key, group: &Group) {
    let head = format!("{:>10}  ", group.seen.count);
    hanging(text, &head, &format!("{} -> {}", key.old, key.new));
    for (word, counts) in [("route", &group.routes), ("country", &group.countries)] {
        let (most, rest) = top(counts, NAMES);
        if matches!(most.as_slice(), [("-", _)]) {
            continue;
        }
        let mut parts: Vec<String> = most
            .iter()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        if rest > 0 {
            parts.push(format!("others {rest}"));
        }
        hanging(text, &format!("{:12}{word:<8} ", ""), &parts.join(", "));
    }
    let mut example = format!("line {}", group.seen.first);
    if let Some(id) = &group.example {
        example.push_str(&format!(", request {id}"));
    }
    hanging(
        text,
        &format!("{:12}example  ", ""),
        &format!("{}, {example}", group.request),
    );
}

/// `12.3 %`, and never 0 or 100 where it is not quite.
fn share(count: u64, of: u64) -> String {
    if of == 0 {
        return String::new();
    }
    let tenths = count.saturating_mul(1000) / of;
    match (count, tenths) {
        (0, _) => String::new(),
        (_, 0) => "< 0.1 %".to_owned(),
        (_, tenths) => format!("{}.{} %", tenths / 10, tenths % 10),
    }
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    writeln!(text, "{}", line.trim_end()).unwrap_or_default();
}

/// A text behind a head, its further lines under its first. What a client sent is shown and not obeyed.
fn hanging(text: &mut String, head: &str, body: &str) {
    let pad = " ".repeat(head.len());
    let room = WIDTH.saturating_sub(head.len());
    let mut current = head.to_owned();
    let mut used = 0;
    for word in body.split(' ') {
        let word: String = word
            .chars()
            .flat_map(|c| {
                let escaped = c.is_control().then(|| c.escape_default().to_string());
                escaped
                    .unwrap_or_else(|| c.to_string())
                    .chars()
                    .collect::<Vec<_>>()
            })
            .collect();
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            line(text, &current);
            (current, used) = (pad.clone(), 0);
        }
        if used > 0 {
            current.push(' ');
            used += 1;
        }
        current.push_str(&word);
        used += length;
    }
    line(text, current.trim_end());
}

const WIDTH: usize = 80;
/// Groups of a sort that are shown.
const GROUPS: usize = 20;
/// Routes, and countries, of a group that are shown.
const NAMES: usize = 4;
