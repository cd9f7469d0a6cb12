//! Frames by hand: as they travel, and what is wrong with one that came.
//!
//! Entry: [`framed`], `read`. The rule they keep: no more is read than the limit, and one frame is
//! all that a stream carries in a direction.

use futures::{AsyncRead, AsyncReadExt};

/// A frame as it travels.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(body.len() as u64, &mut bytes);
    bytes.extend_from_slice(body);
    bytes
}

/// What came instead of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// The stream ended, or was reset, before there was anything.
    Ended,
    /// Bytes that the contract does not allow.
    Malformed(String),
}

/// Reads one frame's body; the half-close is not waited for.
pub(crate) async fn read(
    stream: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<Vec<u8>, FrameError> {
    let wrong = |what: String| Err(FrameError::Malformed(what));
    let (mut length, mut size) = (0_usize, 0_usize);
    loop {
        let mut byte = [0];
        match stream.read(&mut byte).await {
            Ok(1) => {}
            _ if size == 0 => return Err(FrameError::Ended),
            _ => return wrong("the stream ended within a frame's length".to_owned()),
        }
        let [byte] = byte;
        length |= usize::from(byte & 0x7f) << (7 * size);
        size += 1;
        if byte < 0x80 {
            if byte == 0 {
                return wrong("a frame's length is 0, or its varint is not minimal".to_owned());
            }
            break;
        }
        if length > limit || size > 3 {
            return wrong(format!("a frame is over the limit of {limit} bytes"));
        }
    }
    if length > limit {
        return wrong(format!(
            "a frame of {length} bytes is over the limit of {limit}"
        ));
    }
    let mut body = vec![0; length];
    match stream.read_exact(&mut body).await {
        Ok(()) => Ok(body),
        Err(_) => wrong(format!("the stream ended within a frame of {length} bytes")),
    }
}
