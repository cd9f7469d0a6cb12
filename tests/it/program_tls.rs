//! TLS as it is in the world: certificates that are renewed, that are out of date or for another host, servers with old
//! versions of TLS.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;

use crate::cluster::EVENT_TIMEOUT;
use crate::program_check::{check, failure};
use crate::program_support::{Program, complaint, file, folder};

/// A certificate and its key, as files.
struct Pair {
    certificate: String,
    key: String,
}

/// The properties of a certificate for a test.
struct Wanted<'a> {
    host: &'a str,
    years: (i32, i32),
}

const USUAL: Wanted<'_> = Wanted {
    host: "localhost",
    years: (2020, 2099),
};

fn params(wanted: &Wanted<'_>) -> CertificateParams {
    let mut params = CertificateParams::new(vec![wanted.host.to_owned()]).expect("a host");
    params.not_before = date_time_ymd(wanted.years.0, 1, 1);
    params.not_after = date_time_ymd(wanted.years.1, 1, 1);
    params
}

/// Writes a self-signed certificate and its key below `name`.
fn self_signed(folder: &TempDir, name: &str, wanted: &Wanted<'_>) -> Pair {
    let key = KeyPair::generate().expect("a key");
    let certificate = params(wanted).self_signed(&key).expect("a certificate");
    write(folder, name, &certificate.pem(), &key.serialize_pem())
}

fn write(folder: &TempDir, name: &str, certificate: &str, key: &str) -> Pair {
    Pair {
        certificate: file(folder, &format!("{name}.pem"), certificate),
        key: file(folder, &format!("{name}.key"), key),
    }
}

/// A node with this certificate, and its port.
fn node(pair: &Pair) -> (Program, String) {
    let node = Program::node(&["--tls-cert", &pair.certificate, "--tls-key", &pair.key]);
    let address = node.address_with("/tls/ws");
    let port = address.split('/').nth(4).expect("a port").to_owned();
    (node, port)
}

fn address(port: &str) -> String {
    format!("/dns4/localhost/tcp/{port}/tls/ws")
}

#[test]
fn a_renewed_certificate_is_taken_over_while_links_stay() {
    let (folder, _path) = folder();
    let old = self_signed(&folder, "old", &USUAL);
    let new = self_signed(&folder, "new", &USUAL);
    let newest = self_signed(&folder, "newest", &USUAL);
    let read = |path: &str| std::fs::read_to_string(path).expect("a file");
    let used = write(&folder, "used", &read(&old.certificate), &read(&old.key));
    let (mut node, port) = node(&used);
    let dial = address(&port);
    let mut peer = Program::node(&["--tls-ca", &old.certificate, "--dial", &dial]);
    peer.next("link_up");
    node.next("link_up");
    let renew = |from: &Pair| {
        std::fs::write(&used.certificate, read(&from.certificate)).expect("a file");
        std::fs::write(&used.key, read(&from.key)).expect("a file");
    };
    let until_used = |pair: &Pair| {
        let begun = Instant::now();
        while check(&["--tls-ca", &pair.certificate, &dial]).1 != Some(0) {
            assert!(
                begun.elapsed() < EVENT_TIMEOUT,
                "the certificate is not used"
            );
        }
    };
    // The files alone are enough.
    renew(&new);
    until_used(&new);
    assert_eq!(failure(&["--tls-ca", &old.certificate, &dial]).0, "tls");
    peer.say("the link has stayed");
    assert_eq!(node.texts(1), ["the link has stayed"]);
    #[cfg(unix)]
    {
        // A file that cannot be used replaces nothing, and is reported.
        std::fs::write(&used.key, "no key").expect("a file");
        node.signal(rustix::process::Signal::HUP);
        let reason = node.next("error")["reason"].to_string();
        assert!(reason.contains("stays what it was"), "{reason}");
        assert!(reason.contains(&used.key), "{reason}");
        until_used(&new);
        renew(&newest);
        node.signal(rustix::process::Signal::HUP);
    }
    until_used(&newest);
    peer.say("and stays");
    assert_eq!(node.texts(1), ["and stays"]);
}

#[test]
fn a_certificate_of_ones_own_that_is_out_of_date_is_named_at_the_start() {
    let (folder, _path) = folder();
    for (years, said) in [
        ((2020, 2021), "has expired on 2021-01-01"),
        ((2090, 2099), "is not valid before 2090-01-01"),
    ] {
        let pair = self_signed(&folder, "own", &Wanted { years, ..USUAL });
        let (mut node, _) = node(&pair);
        let reason = node.next("error")["reason"].to_string();
        assert!(reason.contains(said), "{reason}");
        assert!(reason.contains(&pair.certificate), "{reason}");
    }
}

#[test]
fn every_certificate_that_is_refused_says_what_is_wrong_with_it() {
    let (folder, _path) = folder();
    for (wanted, said) in [
        (
            Wanted {
                years: (2020, 2021),
                ..USUAL
            },
            ["has expired on 2021-01-01", "clock"],
        ),
        (
            Wanted {
                years: (2090, 2099),
                ..USUAL
            },
            ["is not valid before 2090-01-01", "clock"],
        ),
        (
            Wanted {
                host: "other.example",
                ..USUAL
            },
            ["is for other.example, not for localhost", "dial the host"],
        ),
    ] {
        let pair = self_signed(&folder, "trusted", &wanted);
        let (_node, port) = node(&pair);
        let (stage, _, reason) = failure(&["--tls-ca", &pair.certificate, &address(&port)]);
        assert_eq!(stage, "tls");
        assert!(said.iter().all(|part| reason.contains(part)), "{reason}");
    }
    // Its authority is not trusted.
    let pair = self_signed(&folder, "unknown", &USUAL);
    let (_node, port) = node(&pair);
    let (_, _, reason) = failure(&[&address(&port)]);
    assert!(reason.contains("not signed by an authority"), "{reason}");
    assert!(reason.contains("--tls-ca"), "{reason}");
    // One of the same name, as after it was made anew.
    let other = self_signed(&folder, "other", &USUAL);
    let (_, _, reason) = failure(&["--tls-ca", &other.certificate, &address(&port)]);
    assert!(reason.contains("made anew under the same name"), "{reason}");
}

#[test]
fn an_authority_of_ones_own_is_trusted_when_it_is_named() {
    let (folder, _path) = folder();
    let key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root = authority.self_signed(&key).expect("a certificate");
    let root = file(&folder, "root.pem", &root.pem());
    let issuer = Issuer::new(authority, key);
    let key = KeyPair::generate().expect("a key");
    let signed = params(&USUAL)
        .signed_by(&key, &issuer)
        .expect("a certificate");
    let pair = write(&folder, "signed", &signed.pem(), &key.serialize_pem());
    let (_node, port) = node(&pair);
    let (lines, code) = check(&["--tls-ca", &root, &address(&port)]);
    assert_eq!(code, Some(0), "{lines:#?}");
    let (_, _, reason) = failure(&[&address(&port)]);
    assert!(
        reason.contains("name that certificate with --tls-ca"),
        "{reason}"
    );
}

/// `openssl req -x509` says of every certificate that it is an authority's, and gives it no host but a common name.
#[test]
fn a_certificate_as_openssl_makes_it_is_accepted_when_it_is_named() {
    let (folder, path) = folder();
    for (name, more) in [
        ("bare", &[][..]),
        ("named", &["-addext", "subjectAltName=DNS:localhost"]),
    ] {
        let pair = Pair {
            certificate: format!("{path}/{name}.pem"),
            key: format!("{path}/{name}.key"),
        };
        let made = Command::new("openssl")
            .args([
                "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30",
            ])
            .args([
                "-subj",
                "/CN=localhost",
                "-keyout",
                &pair.key,
                "-out",
                &pair.certificate,
            ])
            .args(more)
            .output()
            .expect("openssl is there");
        assert!(made.status.success(), "{made:?}");
        let (_node, port) = node(&pair);
        let (lines, code) = check(&["--tls-ca", &pair.certificate, &address(&port)]);
        assert_eq!(code, Some(0), "{lines:#?}");
        let (_, _, reason) = failure(&[&address(&port)]);
        assert!(reason.contains("--tls-ca"), "{reason}");
        if name == "named" {
            let by_ip = format!("/ip4/127.0.0.1/tcp/{port}/tls/ws");
            let (_, _, reason) = failure(&["--tls-ca", &pair.certificate, &by_ip]);
            assert!(
                reason.contains("is for localhost, not for 127.0.0.1"),
                "{reason}"
            );
        }
    }
    drop(folder);
}

/// A server that speaks TLS 1.2 alone, and answers every request with 404.
fn old_server(pair: &Pair) -> String {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificate = CertificateDer::from_pem_file(&pair.certificate).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(Path::new(&pair.key)).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .expect("the version is built in")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("they fit");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let session = rustls::ServerConnection::new(config.clone()).expect("a session");
            let mut stream = rustls::StreamOwned::new(session, stream);
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
        }
    });
    port.to_string()
}

#[test]
fn tls_1_2_is_spoken_and_what_is_older_is_named() {
    let (folder, _path) = folder();
    let pair = self_signed(&folder, "old", &USUAL);
    let port = old_server(&pair);
    // The connection gets as far as the web server behind TLS.
    let (stage, _, reason) = failure(&["--tls-ca", &pair.certificate, &address(&port)]);
    assert_eq!(stage, "websocket", "{reason}");
    assert!(reason.contains("HTTP 404"), "{reason}");
    let (_node, port) = node(&pair);
    let greeted = Command::new("openssl")
        .args(["s_client", "-tls1_2", "-brief", "-connect"])
        .arg(format!("localhost:{port}"))
        .stdin(std::process::Stdio::null())
        .output()
        .expect("openssl is there");
    let said = String::from_utf8_lossy(&greeted.stderr).into_owned();
    assert!(said.contains("Protocol version: TLSv1.2"), "{said}");

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 4096]);
            // A fatal alert: protocol_version.
            let _ = stream.write_all(&[0x15, 3, 1, 0, 2, 2, 70]);
        }
    });
    let (stage, _, reason) = failure(&[&address(&port.to_string())]);
    assert_eq!(stage, "tls");
    assert!(reason.contains("older than 1.2"), "{reason}");
}

#[test]
fn a_certificate_is_never_left_unused_without_a_word() {
    let (folder, data) = folder();
    let pair = self_signed(&folder, "own", &USUAL);
    // The short form speaks TLS.
    let (node, _) = node(&pair);
    assert!(node.address().contains("/tls/ws"), "{}", node.address());
    let listen = "/ip4/127.0.0.1/tcp/0/ws";
    let tls = ["--tls-cert", &pair.certificate, "--tls-key", &pair.key];
    let args = [&["node", "--data-dir", &data, "--listen", listen], &tls[..]].concat();
    let said = complaint(&args, 1);
    assert!(
        said.contains("--listen /ip4/127.0.0.1/tcp/0/tls/ws"),
        "{said}"
    );
}

#[test]
fn a_check_with_a_certificate_file_that_cannot_be_used_says_why() {
    let (folder, _path) = folder();
    let wrong = file(&folder, "wrong.pem", "no certificate\n");
    let (stage, _, reason) = failure(&["--tls-ca", &wrong, "127.0.0.1:9000"]);
    assert_eq!(stage, "tls");
    assert!(
        reason.contains(&wrong) && reason.contains("no certificate"),
        "{reason}"
    );
    let (_folder, data) = crate::program_support::folder();
    let args = [
        "check",
        "--data-dir",
        &data,
        "--tls-ca",
        &wrong,
        "127.0.0.1:9000",
    ];
    let output = crate::program_support::run(&args);
    let said = crate::program_support::text(&output.stdout);
    assert!(said.contains("has no certificate in PEM form"), "{said}");
}
