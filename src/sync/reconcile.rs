//! Range-based set reconciliation, the negentropy protocol in version 1: two nodes that hold nearly the same set find
//! out the difference, with bytes that grow with the difference.
//!
//! Entry points: [`opening`], [`answer`], [`advance`]. The rules they keep: bytes from a neighbour never panic, and
//! each range of a frame costs a few steps per level of the tree of items, whatever its length; an output is never
//! longer than its limit; no state is kept between frames.
//!
//! <https://github.com/hoytech/negentropy/blob/master/docs/negentropy-protocol-v1.md>. The crate of that name opens
//! with 16 fingerprints or 31 ids where one fingerprint says "we agree" in 20 bytes, and its storage cannot answer with
//! sums it already has; the tests compare with it.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::held::Held;
#[cfg(test)]
use super::items::Items;
use crate::model::{Id, Item};

/// The first byte of each frame: version 1.
const VERSION: u8 = 0x61;

/// Number of parts into which a range that differs is divided. The protocol leaves it open; 16 is usual.
const PARTS: usize = 16;

/// Number of items below which a range is sent as ids.
const LISTED: usize = 2 * PARTS;

/// Number of our items that are visited for a list of a neighbour's ids, besides as many again for each id in it. If we
/// hold more than that in the range, the response has the fingerprints of its parts, as for a fingerprint: a list of
/// few bytes must not make us visit a whole room.
const LOOKED_THROUGH: usize = 64;
const LOOKED_THROUGH_AN_ID: usize = 32;

/// Space left in a frame, in bytes, below which it counts as full: a skipped range and a list without ids, each with a
/// full bound (43 bytes) and a kind, and [`LAST_RANGE`].
const RESERVE: usize = 128;

/// Size of the range that ends an incomplete frame, in bytes: the end, a kind, a fingerprint.
const LAST_RANGE: usize = 19;

/// Minimum limit of a frame, in bytes: the parts or ids of one range, and the last range.
pub(super) const LEAST_LIMIT: usize = 4096;

type Fingerprint = [u8; 16];

/// The window of a room that is compared: batches sent from `since_ms` up to but not including `until_ms`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// The first Unix millisecond of the window.
    pub since_ms: u64,
    /// The first Unix millisecond after the window; `u64::MAX` for no end.
    pub until_ms: u64,
}

/// Error of a frame that does not parse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// The frame ends too early.
    #[error("the frame ends too early")]
    Truncated,
    /// The frame has another version.
    #[error("the frame is of version {0:#04x}")]
    Version(u8),
    /// A number takes more than 64 bits.
    #[error("a number in the frame is too large")]
    Number,
    /// A bound's id has more than 32 bytes.
    #[error("an id in the frame is too long")]
    Id,
    /// The ranges are not in order.
    #[error("the frame's ranges are not in order")]
    Order,
    /// A range is of an unknown kind.
    #[error("a range in the frame is of the unknown kind {0}")]
    Kind(u64),
}

/// The differences that a comparison has found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Ids that the neighbour holds and we lack, in its order.
    pub lacking: Vec<Id>,
    /// Number of items that the neighbour lacks.
    pub ahead: u64,
}

/// Returns the first frame: one fingerprint of the whole window.
pub fn opening<'a>(held: impl Into<Held<'a>>, window: Window) -> Vec<u8> {
    let items = &held.into();
    let (lower, upper) = indices(items, window);
    let mut out = Out::new(usize::MAX);
    out.fingerprint(Bound::END, &fingerprint(items, lower, upper));
    out.frame
}

/// Returns the response to a neighbour's frame, at most `limit` bytes.
///
/// # Errors
///
/// Returns [`BadFrame`] if the frame does not parse.
pub fn answer<'a>(
    held: impl Into<Held<'a>>,
    window: Window,
    frame: &[u8],
    limit: usize,
) -> Result<Vec<u8>, BadFrame> {
    walk(&held.into(), window, frame, limit, None)
}

/// Adds the findings of a neighbour's response to `difference`. Returns the next frame, at most `limit` bytes, or none
/// when the comparison is over.
///
/// # Errors
///
/// Returns [`BadFrame`] if the frame does not parse.
pub fn advance<'a>(
    held: impl Into<Held<'a>>,
    window: Window,
    frame: &[u8],
    limit: usize,
    difference: &mut Difference,
) -> Result<Option<Vec<u8>>, BadFrame> {
    let next = walk(&held.into(), window, frame, limit, Some(difference))?;
    Ok((next.len() > 1).then_some(next))
}

/// Returns the number of ranges in a frame.
///
/// # Errors
///
/// Returns [`BadFrame`] if the frame does not parse.
pub(super) fn count_ranges(frame: &[u8]) -> Result<u32, BadFrame> {
    let mut input = Input::new(frame)?;
    let mut count = 0;
    while input.range()?.is_some() {
        count += 1;
    }
    Ok(count)
}

/// Processes the ranges of a frame. With a `difference` to fill in, this is the opener's side, which closes each range
/// whose ids it receives, unless it holds far more there. Without one, it is the responder's side, which answers ids
/// with ids.
fn walk(
    items: &Held<'_>,
    window: Window,
    frame: &[u8],
    limit: usize,
    mut difference: Option<&mut Difference>,
) -> Result<Vec<u8>, BadFrame> {
    let mut input = Input::new(frame)?;
    let mut out = Out::new(limit.max(LEAST_LIMIT));
    let (mut lower, end) = indices(items, window);
    // Index of the first item that the output does not cover yet.
    let mut covered = lower;
    let mut skipped = false;
    let mut from = Bound::START;

    while let Some((to, range)) = input.range()? {
        if to.item < from.item {
            return Err(BadFrame::Order);
        }
        let upper = items.index_of(&to.item).clamp(lower, end);
        let detail = match range {
            Range::Skip => None,
            Range::Fingerprint(theirs) => {
                (theirs != fingerprint(items, lower, upper)).then_some(Detail::Split)
            }
            Range::Ids(theirs) => match difference.as_deref_mut() {
                Some(difference) => {
                    let is_learnt = difference.learn(items, lower, upper, theirs);
                    (!is_learnt).then_some(Detail::Split)
                }
                None => Some(Detail::List),
            },
        };
        if let Some(detail) = detail {
            let before = out.mark();
            if skipped {
                out.skip(from);
                skipped = false;
            }
            let said = match detail {
                Detail::Split => out.split(items, lower, upper, to),
                Detail::List => out.list(items, lower, upper, to),
            };
            if out.is_over() {
                // This happens only after the frame's first range: the rest waits for it.
                out.back_to(before);
                out.fingerprint(Bound::END, &fingerprint(items, covered, end));
                return Ok(out.frame);
            }
            covered = said;
            if said < upper || out.is_full() {
                out.fingerprint(Bound::END, &fingerprint(items, covered, end));
                return Ok(out.frame);
            }
        } else {
            skipped = true;
        }
        lower = upper;
        from = to;
    }
    Ok(out.frame)
}

/// Kind of answer to a range that differs.
enum Detail {
    /// The fingerprints of its parts, or its ids when they are few.
    Split,
    /// Its ids.
    List,
}

impl Difference {
    /// Adds the ids that the neighbour holds in a range. Returns false, and adds nothing, when we hold far more items
    /// there than it names.
    fn learn(&mut self, items: &Held<'_>, lower: usize, upper: usize, theirs: &[u8]) -> bool {
        let (ids, _) = theirs.as_chunks::<32>();
        if ids.is_empty() {
            self.ahead += (upper - lower) as u64;
            return true;
        }
        if upper - lower > LOOKED_THROUGH + LOOKED_THROUGH_AN_ID * ids.len() {
            return false;
        }
        let mut unmatched: HashSet<&Id> = ids.iter().collect();
        for item in items.iter_from(lower).take(upper - lower) {
            if !unmatched.remove(&item.id) {
                self.ahead += 1;
            }
        }
        self.lacking
            .extend(ids.iter().filter(|id| unmatched.remove(*id)));
        true
    }
}

fn indices(items: &Held<'_>, window: Window) -> (usize, usize) {
    let lower = items.index_of(&Item::at(window.since_ms));
    let upper = match window.until_ms {
        u64::MAX => items.len(),
        until_ms => items.index_of(&Item::at(until_ms)),
    };
    (lower, upper.max(lower))
}

fn fingerprint(items: &Held<'_>, lower: usize, upper: usize) -> Fingerprint {
    let sum = items.sum(lower, upper);
    let mut count = Vec::with_capacity(10);
    put_number(&mut count, sum.count());
    let hash: [u8; 32] = Sha256::new()
        .chain_update(sum.to_bytes())
        .chain_update(count)
        .finalize()
        .into();
    let (half, _) = hash.split_at(16);
    // Half of 32 bytes is 16.
    half.try_into().unwrap_or_default()
}

/// The end of a range: before this item. Only the first `len` bytes of its id are sent.
#[derive(Clone, Copy, Debug)]
struct Bound {
    item: Item,
    len: usize,
}

impl Bound {
    const START: Bound = Bound {
        item: Item::at(0),
        len: 0,
    };
    /// The bound after every item.
    const END: Bound = Bound {
        item: Item::at(u64::MAX),
        len: 0,
    };

    fn whole(item: Item) -> Bound {
        Bound { item, len: 32 }
    }

    /// Returns the shortest bound after `before` and not after `item`.
    fn between(before: &Item, item: &Item) -> Bound {
        if before.sent_at_ms != item.sent_at_ms {
            return Bound {
                item: Item::at(item.sent_at_ms),
                len: 0,
            };
        }
        let same = before
            .id
            .iter()
            .zip(&item.id)
            .take_while(|(a, b)| a == b)
            .count();
        let len = (same + 1).min(32);
        let mut id = [0; 32];
        id[..len].copy_from_slice(&item.id[..len]);
        Bound {
            item: Item {
                sent_at_ms: item.sent_at_ms,
                id,
            },
            len,
        }
    }
}

/// The content of a range in a frame.
enum Range<'a> {
    /// The range needs no answer.
    Skip,
    /// The fingerprint of the sender's items in the range.
    Fingerprint(Fingerprint),
    /// All ids of the sender's items in the range.
    Ids(&'a [u8]),
}

/// Reader of a frame.
struct Input<'a> {
    rest: &'a [u8],
    last_ms: u64,
}

impl<'a> Input<'a> {
    fn new(frame: &'a [u8]) -> Result<Input<'a>, BadFrame> {
        match frame.split_first() {
            None => Err(BadFrame::Truncated),
            Some((&VERSION, rest)) => Ok(Input { rest, last_ms: 0 }),
            Some((version, _)) => Err(BadFrame::Version(*version)),
        }
    }

    fn range(&mut self) -> Result<Option<(Bound, Range<'a>)>, BadFrame> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let to = self.bound()?;
        let range = match self.number()? {
            0 => Range::Skip,
            1 => {
                let fingerprint = self.bytes(16)?;
                Range::Fingerprint(fingerprint.try_into().map_err(|_| BadFrame::Truncated)?)
            }
            2 => {
                let count = self.number()?;
                // `bytes` rejects a length past the end of the frame.
                let len = usize::try_from(count)
                    .unwrap_or(usize::MAX)
                    .saturating_mul(32);
                Range::Ids(self.bytes(len)?)
            }
            kind => return Err(BadFrame::Kind(kind)),
        };
        Ok(Some((to, range)))
    }

    fn bound(&mut self) -> Result<Bound, BadFrame> {
        let sent_at_ms = match self.number()? {
            0 => u64::MAX,
            delta => self.last_ms.saturating_add(delta - 1),
        };
        self.last_ms = sent_at_ms;
        let len = self.number()?;
        if len > 32 {
            return Err(BadFrame::Id);
        }
        let len = len as usize;
        let mut id = [0; 32];
        id[..len].copy_from_slice(self.bytes(len)?);
        Ok(Bound {
            item: Item { sent_at_ms, id },
            len,
        })
    }

    fn number(&mut self) -> Result<u64, BadFrame> {
        let mut value: u64 = 0;
        loop {
            let (byte, rest) = self.rest.split_first().ok_or(BadFrame::Truncated)?;
            self.rest = rest;
            if value >> 57 != 0 {
                return Err(BadFrame::Number);
            }
            value = value << 7 | u64::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], BadFrame> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(BadFrame::Truncated)?;
        self.rest = rest;
        Ok(bytes)
    }
}

/// A frame that is written.
struct Out {
    frame: Vec<u8>,
    last_ms: u64,
    limit: usize,
}

impl Out {
    fn new(limit: usize) -> Out {
        Out {
            frame: vec![VERSION],
            last_ms: 0,
            limit,
        }
    }

    /// Whether another range might not fit.
    fn is_full(&self) -> bool {
        self.frame.len().saturating_add(RESERVE) > self.limit
    }

    /// Whether not even the last range fits any more.
    fn is_over(&self) -> bool {
        self.frame.len().saturating_add(LAST_RANGE) > self.limit
    }

    fn mark(&self) -> (usize, u64) {
        (self.frame.len(), self.last_ms)
    }

    fn back_to(&mut self, (len, last_ms): (usize, u64)) {
        self.frame.truncate(len);
        self.last_ms = last_ms;
    }

    fn skip(&mut self, to: Bound) {
        self.bound(to);
        self.frame.push(0);
    }

    fn fingerprint(&mut self, to: Bound, fingerprint: &Fingerprint) {
        self.bound(to);
        self.frame.push(1);
        self.frame.extend_from_slice(fingerprint);
    }

    /// Describes a range in more detail, with the fingerprints of its parts or its ids. This and [`Out::list`] return
    /// the index up to which they did.
    fn split(&mut self, items: &Held<'_>, lower: usize, upper: usize, to: Bound) -> usize {
        let count = upper - lower;
        if count < LISTED {
            self.bound(to);
            self.ids(items, lower, count);
            return upper;
        }
        let mut from = lower;
        for part in 0..PARTS {
            let next = from + count / PARTS + usize::from(part < count % PARTS);
            let mut around = items.iter_from(next - 1);
            let bound = match (around.next(), around.next()) {
                (Some(before), Some(item)) if next < upper => Bound::between(before, item),
                _ => to,
            };
            self.fingerprint(bound, &fingerprint(items, from, next));
            from = next;
        }
        upper
    }

    /// The ids of a range, as many as fit.
    fn list(&mut self, items: &Held<'_>, lower: usize, upper: usize, to: Bound) -> usize {
        let fitting = self.limit.saturating_sub(self.frame.len() + RESERVE) / 32;
        if upper - lower <= fitting {
            self.bound(to);
            self.ids(items, lower, upper - lower);
            return upper;
        }
        let next = lower + fitting;
        // There is an item at `next`, which is before `upper`.
        let bound = items
            .iter_from(next)
            .next()
            .map_or(to, |item| Bound::whole(*item));
        self.bound(bound);
        self.ids(items, lower, fitting);
        next
    }

    fn ids(&mut self, items: &Held<'_>, lower: usize, count: usize) {
        self.frame.push(2);
        put_number(&mut self.frame, count as u64);
        for item in items.iter_from(lower).take(count) {
            self.frame.extend_from_slice(&item.id);
        }
    }

    fn bound(&mut self, bound: Bound) {
        let ms = bound.item.sent_at_ms;
        if ms == u64::MAX {
            self.frame.push(0);
        } else {
            put_number(
                &mut self.frame,
                ms.saturating_sub(self.last_ms).saturating_add(1),
            );
        }
        self.last_ms = ms;
        put_number(&mut self.frame, bound.len as u64);
        self.frame.extend_from_slice(&bound.item.id[..bound.len]);
    }
}

/// Seven bits a byte, the highest first, as the protocol has it.
fn put_number(out: &mut Vec<u8>, value: u64) {
    let groups = (64 - (value | 1).leading_zeros()).div_ceil(7);
    for group in (0..groups).rev() {
        let more = if group > 0 { 0x80 } else { 0 };
        out.push((value >> (7 * group)) as u8 & 0x7f | more);
    }
}

#[cfg(test)]
mod vectors;
