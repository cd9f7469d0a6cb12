//! Fuzz target for the frames of every stream.

use diatribe::wire::{FrameCodec, Limits};
use futures::executor::block_on;
use futures::io::Cursor;
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;

use crate::case::{QUICK, fuzz};
use crate::seeds;

const LIMITS: Limits = Limits {
    request: 1024,
    response: 8192,
};

#[test]
fn a_frame_is_within_its_limit_or_none() {
    let framed = |body: Vec<u8>| {
        let mut frame = Vec::new();
        let mut len = body.len();
        while len >= 0x80 {
            frame.push(len as u8 | 0x80);
            len >>= 7;
        }
        frame.push(len as u8);
        frame.extend(body);
        frame
    };
    let seeds = seeds::of("handshake")
        .into_iter()
        .chain(seeds::of("overlay"));
    fuzz!(
        "frames",
        QUICK,
        seeds.map(framed).collect(),
        |case, seeds| {
            let bytes = case.bytes(seeds);
            let protocol = StreamProtocol::new("/fuzz");
            let mut codec = FrameCodec::new(LIMITS);
            block_on(async {
                let mut wire = Cursor::new(&bytes);
                if let Ok(Ok(body)) = codec.read_request(&protocol, &mut wire).await {
                    assert!((1..=LIMITS.request).contains(&body.len()));
                    assert!(body.capacity() <= LIMITS.request);
                    // Only the canonical encoding is a frame.
                    let mut again = Cursor::new(Vec::new());
                    let written = codec.write_request(&protocol, &mut again, Ok(body)).await;
                    written.expect("it is within the limit");
                    assert_eq!(again.into_inner(), bytes);
                }
                let mut wire = Cursor::new(&bytes);
                if let Ok(body) = codec.read_response(&protocol, &mut wire).await {
                    assert!((1..=LIMITS.response).contains(&body.len()));
                }
            });
        }
    );
}
