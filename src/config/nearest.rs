//! The nearest name, for "did you mean".

/// The candidate that differs from `word` by the fewest edits, if few enough to be a slip of the hand: one edit in a short
/// word, two from six letters on, three from nine on. Case alone never separates two words.
#[must_use]
pub fn nearest<'n>(word: &str, candidates: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let folded = word.to_lowercase();
    let most = match folded.chars().count() {
        0..=2 => 0,
        3..=5 => 1,
        6..=8 => 2,
        _ => 3,
    };
    let scored = candidates
        .into_iter()
        .map(|name| (distance(&folded, &name.to_lowercase()), name));
    let best = scored.min_by_key(|(edits, _)| *edits)?;
    (best.0 <= most).then_some(best.1)
}

/// Edits between two words: insert, remove, replace, or swap two neighbours (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut previous_a = None;
    for (i, ca) in a.chars().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        let mut previous_b = None;
        for (j, cb) in b.iter().copied().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&last, j) + usize::from(ca != cb))
                .min(at(&last, j + 1) + 1)
                .min(at(&row, j) + 1);
            let swapped = previous_a == Some(cb) && previous_b == Some(ca);
            if let Some(j) = j.checked_sub(1).filter(|_| swapped) {
                best = best.min(at(&before, j) + 1);
            }
            row.push(best);
            previous_b = Some(cb);
        }
        before = std::mem::replace(&mut last, row);
        previous_a = Some(ca);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_hand_finds_its_word() {
        for (word, want) in [
            ("zzz", None),            // nothing near
            ("at", None),             // too short to guess
            ("allwo", Some("allow")), // two neighbours swapped are one edit
            ("Allow", Some("allow")), // case
            ("upstraem", Some("upstream")),
            ("response_timeuot", Some("response_timeout")),
            ("responze_tymout", Some("response_timeout")),
        ] {
            let names = ["allow", "upstream", "response_timeout", "path"];
            assert_eq!(nearest(word, names), want, "{word}");
        }
        assert_eq!(nearest("allow", []), None);
    }
}
