//! Tests of a client's first request.

use super::*;

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nuPGRADE: WebSocket\r\n\r\n";

#[test]
fn who_asks_for_websocket_is_told_apart_from_everybody_else() {
    for (said, knock) in [
        (UPGRADE, FirstRequest::Upgrade),
        (&UPGRADE[..UPGRADE.len() - 1], FirstRequest::Unfinished),
        (b"GE", FirstRequest::Unfinished),
        (
            b"GET / HTTP/1.0\r\n\r\n",
            FirstRequest::Page { is_head: false },
        ),
        (
            b"HEAD /x HTTP/1.1\r\nUpgrade: h2c\r\n\r\n",
            FirstRequest::Page { is_head: true },
        ),
        (b"\x16\x03\x01\x02\x00\x01", FirstRequest::Tls),
        (b"SSH-2.0-OpenSSH_9.2\r\n", FirstRequest::NotHttp),
        (b"\x00\x01\x02", FirstRequest::NotHttp),
    ] {
        assert_eq!(classify(said), knock, "{:?}", String::from_utf8_lossy(said));
    }
    let many = "a: b\r\n".repeat(MAX_HEADERS + 1);
    let many = format!("GET / HTTP/1.1\r\n{many}\r\n");
    assert_eq!(
        classify(many.as_bytes()),
        FirstRequest::Page { is_head: false }
    );
}

#[tokio::test]
async fn what_was_read_is_read_again_and_what_never_ends_is_not_held() {
    let whole = [UPGRADE, b"and more"].concat();
    let stream = futures::io::Cursor::new(whole.clone());
    let mut knocked = read_upgrade_request(stream)
        .await
        .map_err(|e| e.to_string())
        .expect("it asks");
    let mut again = Vec::new();
    knocked.read_to_end(&mut again).await.expect("all of it");
    assert_eq!(again, whole);
    let endless = [b"GET / HTTP/1.1\r\na: ".to_vec(), vec![b'a'; 2 * MAX_HEAD]].concat();
    let refused = read_upgrade_request(futures::io::Cursor::new(endless)).await;
    let reason = refused.map(|_| ()).expect_err("it does not end").reason;
    assert!(reason.contains("does not end"), "{reason}");
}
