//! The data section of a MaxMind database: a reader that trusts nothing.
//!
//! Format: <https://maxmind.github.io/MaxMind-DB/>, version 2.0. A value is a control byte (type and size), perhaps more size
//! bytes, and a payload; a pointer stands for the value elsewhere in the section and never points at a pointer.
//!
//! [`Checker`] visits every value that a record reaches, each shared value once, within a bounded amount of work and depth.
//! [`Data`] then reads single fields; it is bounded by itself as well, so that a mistake in the checker is not a hang.

use super::reader::Broken;

/// The data section, without the metadata and its marker.
#[derive(Debug, Clone, Copy)]
pub(super) struct Data<'d>(pub(super) &'d [u8]);

/// What kind of value a control byte announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pointer,
    Text,
    Double,
    Bytes,
    Unsigned { widest: usize },
    Map,
    Signed,
    Array,
    Boolean,
    Float,
}

/// A control byte with its size bytes; for a pointer, `size` is the target.
#[derive(Debug, Clone, Copy)]
struct Head {
    kind: Kind,
    size: usize,
    /// Where the payload begins.
    at: usize,
}

/// A value that a record field can have. Everything that rules never need is `Other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'d> {
    /// Text, not known to be UTF-8.
    Text(&'d [u8]),
    /// An unsigned integer that fits.
    Number(u64),
    /// True or false.
    Boolean(bool),
    /// A map: where its first key stands and how many pairs it has.
    Map(Items),
    /// An array: where its first element stands and how many it has.
    Array(Items),
    /// Bytes, floats and the like.
    Other,
}

/// The inside of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Items {
    at: usize,
    count: usize,
}

impl<'d> Data<'d> {
    /// The value at an offset, pointers followed.
    pub(super) fn value(self, at: usize) -> Result<Value<'d>, Broken> {
        Ok(self.value_and_end(at)?.0)
    }

    /// Calls `each` with the pairs of a map until it fails.
    pub(super) fn pairs(
        self,
        map: Items,
        mut each: impl FnMut(&'d [u8], Value<'d>) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        let mut at = map.at;
        for _ in 0..map.count {
            let (key, after) = self.value_and_end(at)?;
            let Value::Text(key) = key else {
                return Err(Broken::Key);
            };
            let (value, end) = self.value_and_end(after)?;
            each(key, value)?;
            at = end;
        }
        Ok(())
    }

    /// The value of a key of a map.
    pub(super) fn field(self, map: Items, wanted: &[u8]) -> Result<Option<Value<'d>>, Broken> {
        let mut found = None;
        self.pairs(map, |key, value| {
            if key == wanted {
                found = Some(value);
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The first elements of an array, as many as `into` holds.
    pub(super) fn elements(
        self,
        array: Items,
        into: &mut [Option<Value<'d>>],
    ) -> Result<(), Broken> {
        let mut at = array.at;
        for slot in into.iter_mut().take(array.count) {
            let (value, end) = self.value_and_end(at)?;
            *slot = Some(value);
            at = end;
        }
        Ok(())
    }

    fn value_and_end(self, at: usize) -> Result<(Value<'d>, usize), Broken> {
        let head = self.head(at)?;
        if head.kind == Kind::Pointer {
            let target = self.head(head.size)?;
            if target.kind == Kind::Pointer {
                return Err(Broken::PointerToPointer);
            }
            return Ok((self.payload(target)?, head.at));
        }
        Ok((self.payload(head)?, self.skip(head, 0)?))
    }

    fn payload(self, head: Head) -> Result<Value<'d>, Broken> {
        let items = Items {
            at: head.at,
            count: head.size,
        };
        Ok(match head.kind {
            Kind::Text => Value::Text(self.slice(head)?),
            Kind::Unsigned { .. } => {
                let digits = self.slice(head)?;
                let number = digits.iter().try_fold(0_u64, |sum, digit| {
                    Some(sum.checked_mul(256)? | u64::from(*digit))
                });
                number.map_or(Value::Other, Value::Number)
            }
            Kind::Boolean => Value::Boolean(head.size == 1),
            Kind::Map => Value::Map(items),
            Kind::Array => Value::Array(items),
            Kind::Pointer | Kind::Double | Kind::Bytes | Kind::Signed | Kind::Float => Value::Other,
        })
    }

    /// The end of a value whose pointers are not followed.
    fn skip(self, head: Head, depth: usize) -> Result<usize, Broken> {
        let values = match head.kind {
            Kind::Pointer | Kind::Boolean => return Ok(head.at),
            Kind::Map => head.size * 2,
            Kind::Array => head.size,
            Kind::Text
            | Kind::Double
            | Kind::Bytes
            | Kind::Unsigned { .. }
            | Kind::Signed
            | Kind::Float => {
                return self.end(head);
            }
        };
        if depth >= DEPTH_MAX {
            return Err(Broken::TooDeep);
        }
        let mut at = head.at;
        for _ in 0..values {
            at = self.skip(self.head(at)?, depth + 1)?;
        }
        Ok(at)
    }

    /// One past the payload of a value that is no container.
    fn end(self, head: Head) -> Result<usize, Broken> {
        let end = head.at.checked_add(head.size);
        end.filter(|end| *end <= self.0.len())
            .ok_or(Broken::Truncated)
    }

    fn slice(self, head: Head) -> Result<&'d [u8], Broken> {
        let end = self.end(head)?;
        self.0.get(head.at..end).ok_or(Broken::Truncated)
    }

    fn number(self, at: usize, length: usize) -> Result<usize, Broken> {
        let end = at.checked_add(length).ok_or(Broken::Truncated)?;
        let digits = self.0.get(at..end).ok_or(Broken::Truncated)?;
        Ok(digits
            .iter()
            .fold(0, |sum, digit| (sum << 8) | usize::from(*digit)))
    }

    fn head(self, at: usize) -> Result<Head, Broken> {
        let control = self.number(at, 1)?;
        let mut at = at + 1;
        let kind = match control >> 5 {
            0 => {
                let extended = self.number(at, 1)?;
                at += 1;
                match extended {
                    1 => Kind::Signed,
                    2 => Kind::Unsigned { widest: 8 },
                    3 => Kind::Unsigned { widest: 16 },
                    4 => Kind::Array,
                    7 => Kind::Boolean,
                    8 => Kind::Float,
                    // 5 and 6 are the cache container and the end marker: not in a data section.
                    _ => return Err(Broken::UnknownType),
                }
            }
            1 => return self.pointer(control, at),
            2 => Kind::Text,
            3 => Kind::Double,
            4 => Kind::Bytes,
            5 => Kind::Unsigned { widest: 2 },
            6 => Kind::Unsigned { widest: 4 },
            _ => Kind::Map,
        };
        let size = match control & 31 {
            29 => 29 + self.number(at, 1)?,
            30 => 285 + self.number(at, 2)?,
            31 => 65_821 + self.number(at, 3)?,
            size => size,
        };
        at += (control & 31).saturating_sub(28);
        let fits = match kind {
            Kind::Unsigned { widest } => size <= widest,
            Kind::Signed => size <= 4,
            Kind::Double => size == 8,
            Kind::Float => size == 4,
            Kind::Boolean => size <= 1,
            Kind::Pointer | Kind::Text | Kind::Bytes | Kind::Map | Kind::Array => true,
        };
        if !fits {
            return Err(Broken::WrongSize);
        }
        Ok(Head { kind, size, at })
    }

    fn pointer(self, control: usize, at: usize) -> Result<Head, Broken> {
        let length = ((control >> 3) & 3) + 1;
        let low = self.number(at, length)?;
        let high = control & 7;
        let target = match length {
            1 => (high << 8) | low,
            2 => ((high << 16) | low) + 2_048,
            3 => ((high << 24) | low) + 526_336,
            _ => low,
        };
        Ok(Head {
            kind: Kind::Pointer,
            size: target,
            at: at + length,
        })
    }
}

/// Visits every value that records reach, each shared one once.
#[derive(Debug)]
pub(super) struct Checker<'d> {
    data: Data<'d>,
    /// One bit per byte of the section: a value that is a record or a pointer's target begins here and has been visited.
    seen: Vec<u64>,
    /// The shared values that are being visited, outermost first; no more than [`DEPTH_MAX`].
    open: Vec<usize>,
    /// Steps left: values, and eighths of key bytes. A sound file needs about one per byte; overlapping values of a malicious
    /// one could need the square.
    steps: usize,
}

impl<'d> Checker<'d> {
    pub(super) fn new(data: Data<'d>) -> Self {
        Self {
            data,
            seen: vec![0; data.0.len() / 64 + 1],
            open: Vec::new(),
            steps: data.0.len().saturating_mul(8).saturating_add(1024),
        }
    }

    /// Checks the value at an offset and all that it holds or points at.
    pub(super) fn check(&mut self, at: usize) -> Result<(), Broken> {
        self.shared(at, 0)
    }

    fn shared(&mut self, at: usize, depth: usize) -> Result<(), Broken> {
        let word = self.seen.get_mut(at / 64).ok_or(Broken::Truncated)?;
        let bit = 1 << (at % 64);
        if *word & bit != 0 {
            // A value inside itself would hang a reader that expands whole records.
            return if self.open.contains(&at) {
                Err(Broken::Cycle)
            } else {
                Ok(())
            };
        }
        *word |= bit;
        self.open.push(at);
        self.inline(at, depth)?;
        self.open.pop();
        Ok(())
    }

    /// Checks a value and answers its end.
    fn inline(&mut self, at: usize, depth: usize) -> Result<usize, Broken> {
        if depth >= DEPTH_MAX {
            return Err(Broken::TooDeep);
        }
        self.spend(1)?;
        let head = self.data.head(at)?;
        match head.kind {
            Kind::Pointer => {
                if self.data.head(head.size)?.kind == Kind::Pointer {
                    return Err(Broken::PointerToPointer);
                }
                self.shared(head.size, depth + 1)?;
                Ok(head.at)
            }
            Kind::Map => {
                let mut at = head.at;
                for _ in 0..head.size {
                    self.key(at)?;
                    at = self.inline(at, depth + 1)?;
                    at = self.inline(at, depth + 1)?;
                }
                Ok(at)
            }
            Kind::Array => {
                let mut at = head.at;
                for _ in 0..head.size {
                    at = self.inline(at, depth + 1)?;
                }
                Ok(at)
            }
            Kind::Boolean => Ok(head.at),
            Kind::Text
            | Kind::Double
            | Kind::Bytes
            | Kind::Unsigned { .. }
            | Kind::Signed
            | Kind::Float => self.data.end(head),
        }
    }

    /// A key must be UTF-8 text. Other text is not read as such here: names in odd encodings harm nobody.
    fn key(&mut self, at: usize) -> Result<(), Broken> {
        let Value::Text(key) = self.data.value(at)? else {
            return Err(Broken::Key);
        };
        self.spend(key.len() / 8)?;
        std::str::from_utf8(key).map(drop).ok().ok_or(Broken::Key)
    }

    fn spend(&mut self, steps: usize) -> Result<(), Broken> {
        self.steps = self.steps.checked_sub(steps).ok_or(Broken::TooMuchWork)?;
        Ok(())
    }
}

/// How deep values may nest. Published databases need 5.
const DEPTH_MAX: usize = 48;
