//! Lists of peers: `--trust` and `--deny`.
//!
//! Entry function: [`read`]. The rule it keeps: a line that is no PeerId is an error with its
//! number, because a list that is half understood protects nobody.

use std::path::Path;

use libp2p::PeerId;

use super::failure::Failure;

/// Maximum size of a list's file in bytes: 100,000 peers.
const MAX_FILE: u64 = 8 << 20;

/// Returns the peers that `values` name: PeerIds, or files as `@FILE`.
pub(crate) fn read(values: &[String], option: &str) -> Result<Vec<PeerId>, Failure> {
    let mut peers = Vec::new();
    for value in values {
        match value.strip_prefix('@') {
            Some(file) => read_file(Path::new(file), option, &mut peers)?,
            None => peers.push(parse(value).map_err(|e| Failure::usage(format!("{option}: {e}")))?),
        }
    }
    Ok(peers)
}

fn read_file(path: &Path, option: &str, peers: &mut Vec<PeerId>) -> Result<(), Failure> {
    let failed = |reason: &dyn std::fmt::Display| {
        Failure::new(format!("{option} @{}: {reason}", path.display()))
    };
    let size = std::fs::metadata(path).map_err(|e| failed(&e))?.len();
    if size > MAX_FILE {
        return Err(failed(&"larger than 8 MiB: is it the right file?"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| failed(&e))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let before = peers.len();
    for (number, line) in (1..).zip(text.lines()) {
        let id = line.split('#').next().unwrap_or("").trim();
        if !id.is_empty() {
            peers.push(parse(id).map_err(|e| failed(&format!("line {number}: {e}")))?);
        }
    }
    if peers.len() == before {
        // An empty allow-list would let everybody in.
        return Err(failed(&"no PeerId in it"));
    }
    Ok(())
}

fn parse(text: &str) -> Result<PeerId, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is no PeerId; one looks like 12D3KooW… (`diatribe id` prints a node's)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_id_a_line_and_comments() {
        let (a, b) = (PeerId::random(), PeerId::random());
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            format!("\u{feff}# friends\n{a} # alice\n\n  {b}\n"),
        )
        .unwrap();
        let value = format!("@{}", file.path().display());
        assert_eq!(read(&[value], "--trust").unwrap(), [a, b]);
    }

    #[test]
    fn a_line_that_is_no_id_is_named_with_its_number() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# friends\nalice\n").unwrap();
        let value = format!("@{}", file.path().display());
        let error = read(&[value], "--trust").unwrap_err().to_string();
        assert!(
            error.contains("line 2") && error.contains("alice"),
            "{error}"
        );
    }

    #[test]
    fn an_empty_list_is_not_everybody() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# nobody yet\n").unwrap();
        let value = format!("@{}", file.path().display());
        assert!(read(&[value], "--trust").is_err());
    }
}
