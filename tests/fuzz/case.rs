//! Inputs of the fuzz targets: a seed, and edits of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bolero::generator::*;

/// Number of runs of a target as an ordinary test: of a quick one, and of one that takes most of a millisecond.
pub(crate) const QUICK: usize = 4000;
pub(crate) const SLOW: usize = 200;

/// Maximum size of an input in bytes: somewhat more than the largest request.
const MAX_LEN: usize = 128 << 10;

/// A seed, by its number among a target's, and edits of it.
#[derive(Clone, Debug, TypeGenerator)]
pub(crate) struct Case {
    seed: u16,
    #[generator(produce::<Vec<Edit>>().with().len(0usize..10))]
    edits: Vec<Edit>,
}

/// Places are taken modulo the length.
#[derive(Clone, Debug, TypeGenerator)]
enum Edit {
    Flip {
        at: u16,
        bit: u8,
    },
    Set {
        at: u16,
        byte: u8,
    },
    Insert {
        at: u16,
        bytes: [u8; 3],
    },
    Remove {
        at: u16,
        count: u8,
    },
    Repeat {
        at: u16,
        count: u8,
        times: u8,
    },
    Truncate {
        at: u16,
    },
    /// A number as protocol buffers and frames write it, in place of one byte.
    Varint {
        at: u16,
        value: Number,
        longer: bool,
    },
    /// A new field: its number, its wire type, and a length that may be wrong.
    Field {
        at: u16,
        number: Number,
        wire: u8,
        len: u8,
    },
    Splice {
        at: u16,
        seed: u16,
    },
    Append {
        bytes: [u8; 4],
    },
}

/// Numbers at which something begins or ends.
#[derive(Clone, Copy, Debug, TypeGenerator)]
enum Number {
    Small(u8),
    Any(u64),
    PowerOfTwo { exponent: u8, less: u8 },
}

impl Number {
    fn value(self) -> u64 {
        match self {
            Number::Small(value) => value.into(),
            Number::Any(value) => value,
            Number::PowerOfTwo { exponent, less } => {
                (1u64 << (exponent % 64)).wrapping_sub(u64::from(less % 3))
            }
        }
    }
}

impl Case {
    /// Returns the input.
    pub(crate) fn bytes(&self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let seed = |n: u16| &seeds[usize::from(n) % seeds.len()];
        let mut bytes = seed(self.seed).clone();
        for edit in &self.edits {
            edit.apply(&mut bytes, seed);
            bytes.truncate(MAX_LEN);
        }
        bytes
    }

    /// Applies the edits to bytes that are not a seed.
    pub(crate) fn of(&self, mut bytes: Vec<u8>, seeds: &[Vec<u8>]) -> Vec<u8> {
        for edit in &self.edits {
            edit.apply(&mut bytes, |n| &seeds[usize::from(n) % seeds.len()]);
        }
        bytes
    }

    /// Derives the `n`th other case from this one, with some of the edits and another seed.
    pub(crate) fn nth(&self, n: u16) -> Case {
        let skip = usize::from(n) % (self.edits.len() + 1);
        Case {
            seed: self.seed.wrapping_mul(31).wrapping_add(n.wrapping_mul(977)),
            edits: self.edits.iter().skip(skip).take(2).cloned().collect(),
        }
    }

    /// Returns the number of the seed, for targets without seeds.
    pub(crate) fn choice(&self, most: usize) -> usize {
        usize::from(self.seed) % most
    }
}

impl Edit {
    fn apply<'s>(&self, bytes: &mut Vec<u8>, seed: impl Fn(u16) -> &'s Vec<u8>) {
        let len = bytes.len();
        let within = |at: u16| usize::from(at) % (len + 1);
        match *self {
            Edit::Flip { at, bit } => {
                if let Some(byte) = bytes.get_mut(within(at)) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Edit::Set { at, byte } => {
                if let Some(place) = bytes.get_mut(within(at)) {
                    *place = byte;
                }
            }
            Edit::Insert { at, bytes: new } => insert(bytes, within(at), &new),
            Edit::Remove { at, count } => {
                let at = within(at);
                bytes.drain(at..(at + usize::from(count)).min(len));
            }
            Edit::Repeat { at, count, times } => {
                let at = within(at);
                let piece = bytes[at..(at + usize::from(count)).min(len)].to_vec();
                insert(bytes, at, &piece.repeat(usize::from(times)));
            }
            Edit::Truncate { at } => bytes.truncate(within(at)),
            Edit::Varint { at, value, longer } => {
                let at = within(at);
                bytes.drain(at..(at + 1).min(len));
                insert(bytes, at, &varint(value.value(), longer));
            }
            Edit::Field {
                at,
                number,
                wire,
                len,
            } => {
                let key = number.value() << 3 | u64::from(wire % 8);
                let mut field = varint(key, false);
                field.extend(varint(len.into(), false));
                field.extend(std::iter::repeat_n(0x0a, usize::from(len)));
                insert(bytes, within(at), &field);
            }
            Edit::Splice { at, seed: other } => {
                let other = seed(other);
                insert(bytes, within(at), &other[..other.len().min(4096)]);
            }
            Edit::Append { bytes: new } => bytes.extend(new),
        }
    }
}

fn insert(bytes: &mut Vec<u8>, at: usize, new: &[u8]) {
    bytes.splice(at..at, new.iter().copied());
}

fn varint(mut value: u64, longer: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    if longer {
        *bytes.last_mut().expect("one") |= 0x80;
        bytes.push(0);
    }
    bytes
}

/// Counts the runs of a target, and prints the number at its end.
pub(crate) struct Runs {
    target: &'static str,
    begun: Instant,
    count: AtomicU64,
}

impl Runs {
    pub(crate) fn of(target: &'static str) -> Runs {
        Runs {
            target,
            begun: Instant::now(),
            count: AtomicU64::new(0),
        }
    }

    pub(crate) fn one(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Runs {
    fn drop(&mut self) {
        let (count, took) = (self.count.load(Ordering::Relaxed), self.begun.elapsed());
        println!(
            "{}: {count} runs in {:.1} s",
            self.target,
            took.as_secs_f64()
        );
    }
}

/// Runs a target with a name, a number of runs, seeds, and a function for each input.
macro_rules! fuzz {
    ($target:literal, $times:expr, $seeds:expr, |$case:ident, $seeds_name:ident| $run:expr) => {
        let seeds: &'static [Vec<u8>] = Vec::leak($seeds);
        let runs = crate::case::Runs::of($target);
        bolero::check!()
            .with_iterations($times)
            .with_type::<crate::case::Case>()
            .for_each(|$case| {
                runs.one();
                let $seeds_name = seeds;
                $run
            });
    };
}
pub(crate) use fuzz;
