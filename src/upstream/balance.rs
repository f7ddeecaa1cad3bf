//! Which of the endpoints that can be used is next. No clock, no sockets: a table of candidates in, a place in it out.

use std::net::IpAddr;

/// One endpoint as balancing sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    /// Its share, in hundredths.
    pub(super) weight: u32,
    /// What it is owed, in hundredths, by turns.
    pub(super) owed: i64,
    /// The same in every process: what rendezvous goes by.
    pub(super) identity: u64,
}

/// The next by turns, smoothly: of weights 5, 1, 1 the turns are a a b a c a a (nginx's way). Only `may` are asked.
pub(super) fn turn(candidates: &mut [Candidate], may: impl Fn(usize) -> bool) -> Option<usize> {
    let mut total = 0;
    let mut best: Option<(usize, i64)> = None;
    for (place, one) in candidates.iter_mut().enumerate() {
        if !may(place) {
            continue;
        }
        let weight = i64::from(one.weight);
        total += weight;
        one.owed += weight;
        if best.is_none_or(|(_, most)| one.owed > most) {
            best = Some((place, one.owed));
        }
    }
    let (place, _) = best?;
    if let Some(chosen) = candidates.get_mut(place) {
        chosen.owed -= total;
    }
    Some(place)
}

/// The one whose claim on this key is the strongest (weighted rendezvous). When one leaves, only its keys move, and they come
/// back with it.
pub(super) fn rendezvous(
    candidates: &[Candidate],
    key: u64,
    may: impl Fn(usize) -> bool,
) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (place, one) in candidates.iter().enumerate() {
        if !may(place) {
            continue;
        }
        // -w / ln(u) with u in (0, 1) gives each its share by weight.
        let bits = mix(one.identity ^ mix(key)) >> 11;
        let unit = (to_float(bits) + 0.5) / TWO_TO_53;
        let claim = -f64::from(one.weight) / unit.ln();
        if best.is_none_or(|(_, most)| claim > most) {
            best = Some((place, claim));
        }
    }
    best.map(|(place, _)| place)
}

/// The less busy of two drawn by lot, by weight. `load` is how many requests an endpoint has.
pub(super) fn less_busy(
    candidates: &[Candidate],
    lot: u64,
    may: impl Fn(usize) -> bool,
    load: impl Fn(usize) -> i64,
) -> Option<usize> {
    let able = candidates.iter().enumerate();
    let able = able.filter(|(place, _)| may(*place));
    let count = u64::try_from(able.clone().count()).ok()?;
    if count == 0 {
        return None;
    }
    let first = lot % count;
    // Another than the first.
    let second = (first + 1 + (lot >> 32) % count.saturating_sub(1).max(1)) % count;
    let nth = |nth: u64| able.clone().nth(usize::try_from(nth).ok()?);
    let (one, one_weight) = nth(first).map(|(place, one)| (place, one.weight))?;
    let (other, other_weight) = nth(second).map(|(place, one)| (place, one.weight))?;
    let busy = |place, weight: u32| (load(place) + 1).saturating_mul(i64::from(weight));
    // Cross-multiplied: load / weight without a fraction.
    if busy(one, other_weight) <= busy(other, one_weight) {
        Some(one)
    } else {
        Some(other)
    }
}

/// A hash that is the same in every process and version (FNV-1a, mixed).
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    mix(hash)
}

/// The hash of an address.
pub(super) fn hash_address(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => hash(&address.octets()),
        IpAddr::V6(address) => hash(&address.octets()),
    }
}

/// Every bit of the input moves every bit of the output (SplitMix64's end).
pub(super) const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Exact for what 53 bits hold.
fn to_float(bits: u64) -> f64 {
    let high = u32::try_from(bits >> 32).unwrap_or(u32::MAX);
    let low = u32::try_from(bits & 0xffff_ffff).unwrap_or(u32::MAX);
    f64::from(high) * 4_294_967_296.0 + f64::from(low)
}

const TWO_TO_53: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "tests may stop at the first surprise"
    )]
    use super::*;

    fn candidates(weights: &[u32]) -> Vec<Candidate> {
        let one = |(place, weight): (usize, &u32)| Candidate {
            weight: weight * 100,
            owed: 0,
            identity: hash(&place.to_be_bytes()),
        };
        weights.iter().enumerate().map(one).collect()
    }

    #[test]
    fn turns_are_smooth_and_by_weight() {
        for (weights, full, want, why) in [
            (&[1][..], None, "aaa", "one"),
            (&[1, 1, 1], None, "abcabc", "equal shares"),
            (&[5, 1, 1], None, "aabacaaaabacaa", "never five in a row"),
            (&[2, 1], None, "abaaba", "two to one"),
            (&[1, 1, 1], Some(1), "acac", "one is full"),
        ] {
            let mut all = candidates(weights);
            let turns: String = (0..want.len())
                .map(|_| turn(&mut all, |place| Some(place) != full).unwrap())
                .map(|place| char::from(b'a' + u8::try_from(place).unwrap()))
                .collect();
            assert_eq!(turns, want, "{why}");
        }
        assert_eq!(turn(&mut candidates(&[1]), |_| false), None);
    }

    #[test]
    fn keys_stay_when_another_endpoint_leaves() {
        let all = candidates(&[1, 1, 1, 1]);
        let mut moved = 0;
        for key in 0..4000 {
            let before = rendezvous(&all, key, |_| true).unwrap();
            let after = rendezvous(&all, key, |place| place != 2).unwrap();
            if before == 2 {
                moved += 1;
                assert_ne!(after, 2);
            } else {
                assert_eq!(after, before, "key {key}");
            }
        }
        assert!((850..1150).contains(&moved), "a quarter moves: {moved}");
    }

    #[test]
    fn keys_are_spread_by_weight() {
        let all = candidates(&[3, 1]);
        let first = (0..8000).filter(|key| rendezvous(&all, *key, |_| true) == Some(0));
        let first = first.count();
        assert!((5700..6300).contains(&first), "three quarters: {first}");
    }

    #[test]
    fn the_less_busy_of_two_is_taken() {
        for (weights, loads, lot, want, why) in [
            (&[1, 1][..], &[3, 1][..], 0, 1, "the other is less busy"),
            (&[1, 1], &[1, 3], 1, 0, "whichever is drawn first"),
            (&[1, 1], &[2, 2], 1, 1, "equally busy: as drawn"),
            (&[4, 1], &[2, 0], 1, 0, "a large one may have more"),
            (&[1], &[9], 7, 0, "only one"),
        ] {
            let got = less_busy(&candidates(weights), lot, |_| true, |place| loads[place]);
            assert_eq!(got, Some(want), "{why}");
        }
        assert_eq!(less_busy(&candidates(&[1]), 0, |_| false, |_| 0), None);
        for lot in 0..64_u64 {
            // Of three, two different ones are drawn: the busiest never wins.
            let lot = mix(lot);
            let got = less_busy(
                &candidates(&[1, 1, 1]),
                lot,
                |_| true,
                |place| [0, 9, 0][place],
            );
            assert_ne!(got, Some(1), "{lot}");
        }
    }
}
