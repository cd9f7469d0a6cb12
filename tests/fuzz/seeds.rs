//! Seeds of the inputs: every byte string in `proto/vectors`.

use serde_json::Value;

/// Returns all byte strings of a file of vectors, and an empty one.
pub(crate) fn of(file: &str) -> Vec<Vec<u8>> {
    let path = format!("{}/proto/vectors/{file}.json", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect("the vectors are there");
    let mut found = vec![Vec::new()];
    collect(&serde_json::from_str(&text).expect("JSON"), &mut found);
    found.sort();
    found.dedup();
    assert!(found.len() > 10, "{file} holds bytes");
    found
}

fn collect(value: &Value, found: &mut Vec<Vec<u8>>) {
    match value {
        Value::String(text) => match hex::decode(text) {
            Ok(bytes) => found.push(bytes),
            Err(_) => found.push(text.clone().into_bytes()),
        },
        Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
        Value::Object(fields) => fields.values().for_each(|value| collect(value, found)),
        _ => {}
    }
}
