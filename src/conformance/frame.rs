//! Length-prefixed frames, written and read by hand, with a description of a malformed one.
//!
//! Entry: [`framed`], `read`. The rule they keep: no more than the limit is read, and a stream carries one frame in
//! each direction.

use futures::{AsyncRead, AsyncReadExt};

/// The number of round 1's Hello among the frames of a handshake.
pub const HELLO_1: usize = 0;
/// The number of round 1's Challenge among the frames of a handshake.
pub const CHALLENGE_1: usize = 1;
/// The number of round 1's Answer among the frames of a handshake.
pub const ANSWER_1: usize = 2;
/// The number of round 1's Pass among the frames of a handshake.
pub const PASS_1: usize = 3;
/// The number of round 2's Hello among the frames of a handshake.
pub const HELLO_2: usize = 4;
/// The number of round 2's Challenge among the frames of a handshake.
pub const CHALLENGE_2: usize = 5;
/// The number of round 2's Answer among the frames of a handshake.
pub const ANSWER_2: usize = 6;
/// The number of round 2's Pass among the frames of a handshake.
pub const PASS_2: usize = 7;

/// Returns a frame as it is sent: its length as a varint, then its body.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_varint(body.len() as u64, &mut bytes);
    bytes.extend_from_slice(body);
    bytes
}

/// The reason why no frame was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The stream ended or was reset before the first byte.
    Ended,
    /// The bytes break the contract.
    Malformed(String),
}

/// Reads one frame's body and does not wait for the half-close.
///
/// # Errors
///
/// If the stream ends before a whole frame, or the frame is empty, malformed or over `limit`.
pub async fn read(
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
