//! The node's own TLS certificate, with reload from its files while the node runs.
//!
//! Entry types: [`OwnCertificate`], [`Validity`]. The rules they keep: a reload leaves links open, since the
//! certificate matters only while a connection is set up; unusable files replace nothing; and the operator gets one
//! warning for a certificate outside of its dates.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

/// Interval between checks of the files: a renewed certificate is in use long before the old one expires, at no
/// noticeable cost.
const POLL_INTERVAL: Duration = Duration::from_secs(10);

/// A certificate chain and its key, as last read from their files.
#[derive(Debug)]
pub(crate) struct OwnCertificate {
    chain: PathBuf,
    key: PathBuf,
    current: RwLock<Current>,
}

#[derive(Clone, Debug)]
struct Current {
    certified: Arc<CertifiedKey>,
    dates: Option<Dates>,
    stamp: Stamp,
}

/// Modification times and sizes of the two files; none for a file without readable metadata.
type Stamp = [Option<(SystemTime, u64)>; 2];

/// The validity period of a certificate, in seconds of Unix time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dates {
    pub(super) not_before: u64,
    pub(super) not_after: u64,
}

/// The validity of a certificate at a given time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Validity {
    Valid,
    /// Not valid before this time, in seconds of Unix time.
    NotYet(u64),
    /// Expired at this time, in seconds of Unix time.
    Expired(u64),
}

impl Dates {
    /// Returns the validity at `now`, in seconds of Unix time.
    pub(super) fn at(&self, now: u64) -> Validity {
        if now < self.not_before {
            Validity::NotYet(self.not_before)
        } else if now > self.not_after {
            Validity::Expired(self.not_after)
        } else {
            Validity::Valid
        }
    }
}

impl OwnCertificate {
    /// Reads the chain and the key from these PEM files.
    ///
    /// # Errors
    ///
    /// The name of the file and its fault.
    pub(super) fn read(chain: &Path, key: &Path) -> Result<OwnCertificate, String> {
        Ok(OwnCertificate {
            current: RwLock::new(read(chain, key)?),
            chain: chain.into(),
            key: key.into(),
        })
    }

    /// Reads the files again and uses them for every new connection. Returns the end of the validity, for people.
    ///
    /// # Errors
    ///
    /// The fault of the files: the old certificate stays in use.
    pub(crate) fn reload(&self) -> Result<String, String> {
        let read = read(&self.chain, &self.key)?;
        let until = match read.dates {
            Some(dates) => format!("valid until {}", date(dates.not_after)),
            None => "valid for a time that cannot be read".to_owned(),
        };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = read;
        Ok(until)
    }

    fn current(&self) -> Current {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn validity(&self, now: u64) -> Validity {
        let dates = self.current().dates;
        dates.map_or(Validity::Valid, |dates| dates.at(now))
    }

    /// Returns a warning for a certificate that is not valid.
    fn warning(&self, validity: Validity) -> Option<String> {
        let file = self.chain.display();
        match validity {
            Validity::Valid => None,
            Validity::NotYet(from) => Some(format!(
                "the TLS certificate in {file} is not valid before {}: nobody who checks it connects until then; is this \
                 machine's clock right?",
                date(from)
            )),
            Validity::Expired(since) => Some(format!(
                "the TLS certificate in {file} has expired on {}: nobody who checks it connects any more; renew it, the node \
                 takes the new one over by itself",
                date(since)
            )),
        }
    }
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current().certified)
    }
}

/// Watches the files and the dates while anything uses the certificate: reloads renewed files, and passes each warning
/// to `report`.
pub(crate) async fn watch(certificate: Weak<OwnCertificate>, report: impl Fn(String)) {
    let mut watch = CertificateWatch::default();
    while let Some(certificate) = certificate.upgrade() {
        for reason in watch.check(&certificate, unix_seconds(SystemTime::now())) {
            report(reason);
        }
        drop(certificate);
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// The warnings that were given for a certificate.
#[derive(Default)]
struct CertificateWatch {
    told: Option<Validity>,
    /// The stamp of unusable files, and whether a warning was given for them.
    unusable: Option<(Stamp, bool)>,
}

impl CertificateWatch {
    /// Checks the files and the dates. Returns the warnings to give.
    fn check(&mut self, certificate: &OwnCertificate, now: u64) -> Vec<String> {
        let mut told = Vec::new();
        let stamp = stamp(&certificate.chain, &certificate.key);
        if stamp == certificate.current().stamp {
            self.unusable = None;
        } else {
            told.extend(self.renew(certificate, stamp));
        }
        let validity = certificate.validity(now);
        if self.told != Some(validity) {
            told.extend(certificate.warning(validity));
            self.told = Some(validity);
        }
        told
    }

    fn renew(&mut self, certificate: &OwnCertificate, stamp: Stamp) -> Option<String> {
        match certificate.reload() {
            Ok(until) => {
                tracing::info!(file = %certificate.chain.display(), "a renewed TLS certificate is in use: {until}");
                self.unusable = None;
                None
            }
            // One of the two files may be written before the other: the warning is given only if the fault lasts.
            Err(reason) => match self.unusable {
                Some((known, told)) if known == stamp => {
                    self.unusable = Some((stamp, true));
                    (!told).then(|| {
                        format!("the renewed TLS certificate cannot be used, and the old one stays in use: {reason}")
                    })
                }
                _ => {
                    self.unusable = Some((stamp, false));
                    None
                }
            },
        }
    }
}

fn read(chain: &Path, key: &Path) -> Result<Current, String> {
    // The stamp is taken before the read, so that a write in between causes another reload.
    let stamp = stamp(chain, key);
    let certificates = certificates(chain)?;
    let dates = certificates.first().and_then(dates_of);
    let certified =
        CertifiedKey::from_der(certificates, private_key(key)?, &ring::default_provider());
    let certified = certified.map_err(|error| {
        let (chain, key) = (chain.display(), key.display());
        match error {
            rustls::Error::InconsistentKeys(_) => {
                format!("the key in {key} is not that of the certificate in {chain}")
            }
            error => format!("{chain} and {key} cannot be used for TLS: {error}"),
        }
    })?;
    Ok(Current {
        certified: Arc::new(certified),
        dates,
        stamp,
    })
}

fn stamp(chain: &Path, key: &Path) -> Stamp {
    [chain, key].map(|path| {
        let metadata = std::fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    })
}

/// Reads all certificates of a PEM file, at least one.
///
/// # Errors
///
/// The name of the file and its fault.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("{}: {}", path.display(), of_pem(&error)))?;
    match certificates.is_empty() {
        true => Err(format!("{} has no certificate in PEM form", path.display())),
        false => Ok(certificates),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| {
        let path = path.display();
        match error {
            rustls_pki_types::pem::Error::NoItemsFound => {
                format!("{path} has no private key in PEM form")
            }
            error => format!("{path}: {}", of_pem(&error)),
        }
    })
}

fn of_pem(error: &rustls_pki_types::pem::Error) -> String {
    match error {
        rustls_pki_types::pem::Error::Io(error) => error.to_string(),
        error => format!("it is no file in PEM form ({error})"),
    }
}

/// Returns the dates of a certificate; none when it cannot be read. The verifier reports each date in its error for a
/// check at the beginning and at the end of time.
fn dates_of(certificate: &CertificateDer<'_>) -> Option<Dates> {
    let roots = RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .ok()?;
    let name = ServerName::try_from("localhost").ok()?;
    let at = |seconds: u64| {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        verifier.verify_server_cert(certificate, &[], &name, &[], now)
    };
    let not_after = match at(u64::MAX) {
        Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext {
            not_after,
            ..
        })) => not_after.as_secs(),
        _ => return None,
    };
    let not_before = match at(0) {
        Err(rustls::Error::InvalidCertificate(CertificateError::NotValidYetContext {
            not_before,
            ..
        })) => not_before.as_secs(),
        // It is valid since the beginning of Unix time, or earlier.
        _ => 0,
    };
    Some(Dates {
        not_before,
        not_after,
    })
}

/// Formats a time in seconds of Unix time for people.
pub(in crate::net) fn date(seconds: u64) -> impl fmt::Display {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_second(seconds) {
        Ok(at) => at.strftime("%Y-%m-%d %H:%M UTC").to_string(),
        Err(_) => "a day that no calendar has".to_owned(),
    }
}

fn unix_seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
