//! Tests of the memory of a room's index.

use crate::model::Item;
use crate::sync::items::Items;

#[test]
fn an_item_added_in_order_takes_at_most_46_bytes() {
    let mut items = Items::new();
    let count = 1 << 16;
    for n in 0..count {
        let mut id = [7; 32];
        id[..8].copy_from_slice(&u64::to_le_bytes(n));
        items.insert(Item { sent_at_ms: n, id });
    }
    let each = items.bytes() as f64 / count as f64;
    assert!(each <= 46.0, "{each} bytes an item");
}
