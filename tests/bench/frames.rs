//! A request of 1 KiB through the frame codec, there and back.

use criterion::{Criterion, Throughput};
use diatribe::wire::{FrameCodec, Limits};
use futures::executor::block_on;
use futures::io::Cursor;
use libp2p::StreamProtocol;
use libp2p::request_response::Codec;

const SIZE: usize = 1024;

pub(crate) fn codec(c: &mut Criterion) {
    let protocol = StreamProtocol::new("/bench");
    let mut codec = FrameCodec::new(Limits {
        request: SIZE,
        response: SIZE,
    });
    let mut group = c.benchmark_group("wire/frame");
    group.throughput(Throughput::Bytes(SIZE as u64));
    group.bench_function("written and read", |b| {
        b.iter(|| {
            block_on(async {
                let mut wire = Cursor::new(Vec::new());
                let body = Ok(vec![7; SIZE]);
                codec
                    .write_request(&protocol, &mut wire, body)
                    .await
                    .expect("it is written");
                wire.set_position(0);
                codec
                    .read_request(&protocol, &mut wire)
                    .await
                    .expect("it is read")
            })
        });
    });
}
