//! The rows that refer to blob files.
//!
//! Entry points: [`live_by_file`], [`rows_of`].

use std::collections::{BTreeMap, BTreeSet};

use rusqlite::Connection;

use super::blob_ref::BlobRef;
use crate::model::Id;

/// Returns the numbers of the files that rows refer to.
pub(in crate::store) fn referenced(conn: &Connection) -> rusqlite::Result<BTreeSet<i64>> {
    Ok(live_by_file(conn)?.into_keys().collect())
}

/// Returns the referenced bytes of each file.
pub(in crate::store) fn live_by_file(conn: &Connection) -> rusqlite::Result<BTreeMap<i64, u64>> {
    conn.prepare_cached(
        "SELECT large_file, sum(large_bytes) FROM batch WHERE large_file IS NOT NULL GROUP BY large_file",
    )?
    .query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as u64)))?
    .collect()
}

/// Divisor of the referenced bytes that gives the maximum of unreferenced ones.
pub(in crate::store) const HOLES_DIVISOR: u64 = 4;

/// Returns the bytes charged for blob files, except for two incomplete ones: the referenced bytes and the unreferenced
/// ones that compaction leaves.
pub(in crate::store) fn used_bytes(conn: &Connection) -> rusqlite::Result<u64> {
    let live: u64 = live_by_file(conn)?.values().sum();
    Ok(live + live / HOLES_DIVISOR)
}

/// A row that refers to a file: row number, id, room and position.
pub(in crate::store) type Reference = (i64, Id, String, Option<BlobRef>);

/// Returns the rows that refer to `file`.
pub(in crate::store) fn rows_of(conn: &Connection, file: i64) -> rusqlite::Result<Vec<Reference>> {
    conn.prepare_cached(
        "SELECT batch.n, id, room.name, large_file, large_at, large_bytes
         FROM batch JOIN room ON room.n = batch.room WHERE large_file = ?1",
    )?
    .query_map([file], |row| {
        let place = BlobRef::of(row, 3)?;
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, place))
    })?
    .collect()
}
