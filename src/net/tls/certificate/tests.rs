//! Tests of the node's own certificate: its dates, its reload, and unusable files.

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;

/// Times in 2024, 2025 and 2026, in seconds of Unix time: before, within and after the validity of the certificates.
const BEFORE: u64 = 1_717_200_000;
const WITHIN: u64 = 1_748_736_000;
const AFTER: u64 = 1_780_272_000;

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Files {
        let folder = tempfile::tempdir().expect("a folder");
        Files { folder }
    }

    fn paths(&self) -> (PathBuf, PathBuf) {
        (
            self.folder.path().join("cert"),
            self.folder.path().join("key"),
        )
    }

    /// Returns a certificate that is valid between the beginnings of the two years, and its key.
    fn make(years: (i32, i32)) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.not_before = date_time_ymd(years.0, 1, 1);
        params.not_after = date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    fn write(&self, certificate: &str, key: &str) {
        let (chain, at) = self.paths();
        std::fs::write(chain, certificate).expect("a file");
        std::fs::write(at, key).expect("a file");
    }

    fn read(&self) -> Result<OwnCertificate, String> {
        let (chain, key) = self.paths();
        OwnCertificate::read(&chain, &key)
    }
}

#[test]
fn a_certificate_outside_of_its_dates_is_named_once() {
    let files = Files::new();
    let (certificate, key) = Files::make((2025, 2026));
    files.write(&certificate, &key);
    let certificate = files.read().expect("it can be read");
    let mut watch = CertificateWatch::default();
    let said = watch.check(&certificate, BEFORE);
    assert!(said[0].contains("not valid before 2025-01-01"), "{said:?}");
    assert!(watch.check(&certificate, BEFORE).is_empty());
    assert!(watch.check(&certificate, WITHIN).is_empty());
    let said = watch.check(&certificate, AFTER);
    assert!(said[0].contains("has expired on 2026-01-01"), "{said:?}");
    assert!(watch.check(&certificate, AFTER).is_empty());
}

#[test]
fn a_renewed_certificate_is_taken_over_and_half_of_one_is_not() {
    let files = Files::new();
    let (old, old_key) = Files::make((2025, 2026));
    files.write(&old, &old_key);
    let certificate = files.read().expect("it can be read");
    let mut watch = CertificateWatch::default();
    assert!(watch.check(&certificate, WITHIN).is_empty());
    let (new, new_key) = Files::make((2025, 2046));
    // The key has not been written yet: at first that is no fault.
    files.write(&(new.clone() + "\n"), &old_key);
    assert!(watch.check(&certificate, WITHIN).is_empty());
    let said = watch.check(&certificate, WITHIN);
    assert!(
        said[0].contains("is not that of the certificate"),
        "{said:?}"
    );
    assert!(watch.check(&certificate, WITHIN).is_empty(), "told once");
    assert_eq!(
        certificate.validity(AFTER),
        Validity::Expired(1_767_225_600)
    );
    files.write(&(new + "\n\n"), &(new_key + "\n"));
    assert!(watch.check(&certificate, WITHIN).is_empty());
    assert_eq!(certificate.validity(AFTER), Validity::Valid);
}

#[test]
fn files_that_cannot_be_used_are_named_with_what_is_wrong() {
    let files = Files::new();
    let (chain, key_file) = files.paths();
    let (certificate, key) = Files::make((2025, 2026));
    for (certificate, key, named, said) in [
        ("", key.as_str(), &chain, "no certificate"),
        (&certificate, "", &key_file, "no private key"),
        (
            &certificate,
            &Files::make((2025, 2026)).1,
            &key_file,
            "is not that of",
        ),
    ] {
        files.write(certificate, key);
        let error = files.read().expect_err("it is refused");
        assert!(error.contains(said), "{error}");
        assert!(error.contains(&named.display().to_string()), "{error}");
    }
    std::fs::remove_file(&chain).expect("the file is there");
    let error = files.read().expect_err("it is refused");
    assert!(error.contains("No such file"), "{error}");
}
