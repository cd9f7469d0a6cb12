//! `diatribe log`: shows, checks, repairs, exports and imports the log.
//!
//! Entry functions: [`run`], [`last_of`]. The rule they keep: reading writes nothing and is possible while a node runs;
//! writing locks the data directory.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp, ZonedDateTime};
use libp2p::PeerId;

use super::args::{LogCommand, LogShowArgs, WhichArgs};
use super::config::{self, ArgSources, IdentityConfig, Source};
use super::escape::{Escaped, Quoted};
use super::failure::Failure;
use super::folder::{self, Lock};
use super::output::{self, JsonLines, People};
use super::{identity, timestamp::TimestampFormatter};
use crate::identity::{self as keys, NetworkId};
use crate::model::RoomName;
use crate::node::{self, HistoryQuery, Message};
use crate::store::{self, Archive, LogError, Report, RetentionPolicy};

/// Maximum number of bytes of all lines that a node shows at its start: 64 MiB. Older lines are left out.
const MAX_LAST_BYTES: usize = 64 << 20;

/// Runs the command.
pub(crate) fn run(command: LogCommand, given: &ArgSources) -> Result<ExitCode, Failure> {
    match command {
        LogCommand::Show(args) => show(args, given),
        LogCommand::Check { data } => check(&folder::resolve(data.data_dir)?),
        LogCommand::Repair {
            data,
            keep,
            network_key,
        } => repair(
            &folder::resolve(data.data_dir)?,
            config::keep_of_log(&keep)?,
            network(network_key.as_deref())?,
        ),
        LogCommand::Export {
            file,
            data,
            which,
            force,
        } => export(
            &folder::resolve(data.data_dir)?,
            &file,
            &query(&which)?,
            force,
        ),
        LogCommand::Import {
            file,
            data,
            keep,
            network_key,
        } => import(
            &folder::resolve(data.data_dir)?,
            &file,
            config::keep_of_log(&keep)?,
            network(network_key.as_deref())?,
        ),
    }
}

/// Returns the network of the key in this file; none when there is no file.
fn network(key: Option<&Path>) -> Result<Option<NetworkId>, Failure> {
    let key = key.map(identity::network_key).transpose()?;
    Ok(key.map(|key| NetworkId::of(Some(&key))))
}

/// Returns the last `last` events of each of `rooms` in the log of `folder`, if there is one.
pub(crate) fn last_of(
    folder: &Path,
    rooms: &[RoomName],
    last: usize,
) -> Result<Vec<Message>, Failure> {
    let mut found = VecDeque::new();
    let mut bytes = 0;
    for room in rooms.iter().filter(|_| last > 0) {
        let archive = match Archive::open(folder) {
            Ok(archive) => archive,
            Err(LogError::Absent { .. }) => break,
            Err(error) => return Err(Failure::new(error)),
        };
        let query = HistoryQuery {
            room: Some(room.clone()),
            last: Some(last),
            ..HistoryQuery::default()
        };
        for page in node::pages(archive, &query).map_err(Failure::new)? {
            for message in page.map_err(Failure::new)? {
                bytes += message.data.len();
                found.push_back(message);
            }
            while bytes > MAX_LAST_BYTES
                && let Some(oldest) = found.pop_front()
            {
                bytes -= oldest.data.len();
            }
        }
    }
    Ok(found.into())
}

fn show(args: LogShowArgs, given: &ArgSources) -> Result<ExitCode, Failure> {
    let query = query(&args.which)?;
    let config = IdentityConfig::read(args.identity, given)?;
    let archive = Archive::open(&config.folder).map_err(Failure::new)?;
    let own = match args.json {
        true => None,
        false => own(&config)?,
    };
    let (mut json, people) = (
        JsonLines::default(),
        People::new(output::on_terminal()).of(own),
    );
    let mut stdout = io::stdout().lock();
    let mut lines = Vec::new();
    for page in node::pages(archive, &query).map_err(Failure::new)? {
        for message in page.map_err(Failure::new)? {
            match args.json {
                true => json.message(&message, &mut lines),
                false => people.past(&message, &mut lines),
            }
        }
        match stdout.write_all(&lines).and_then(|()| stdout.flush()) {
            Ok(()) => lines.clear(),
            // A reader that has gone away has read enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => break,
            Err(error) => {
                return Err(Failure::new(format!(
                    "stdout cannot be written to: {error}"
                )));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the PeerId of the node of these options; none when it has no key yet. It creates no key.
fn own(config: &IdentityConfig) -> Result<Option<PeerId>, Failure> {
    let kept = matches!(config.source, Source::Kept);
    if kept && !keys::key_file_path(&config.folder).exists() {
        return Ok(None);
    }
    identity::open(config).map(|identity| Some(identity.peer_id()))
}

fn check(folder: &Path) -> Result<ExitCode, Failure> {
    let report = store::check(folder).map_err(Failure::new)?;
    output::print(told(&report).as_bytes());
    if report.is_sound() {
        return Ok(ExitCode::SUCCESS);
    }
    Err(Failure::new(format!(
        "the log {} is damaged: `diatribe log repair` saves what can be read and keeps the old file",
        report.path.display()
    )))
}

fn told(report: &Report) -> String {
    let mut stamp = TimestampFormatter::default();
    let mut at = |ms: u64| stamp.at(i64::try_from(ms).unwrap_or(i64::MAX)).to_owned();
    let mut text = format!("{}\n", report.path.display());
    for room in &report.rooms {
        let span = match room.span_ms {
            Some((first, last)) => format!(", sent from {} to {}", at(first), at(last)),
            None => String::new(),
        };
        text += &format!(
            "  {}  {} batches{span}\n",
            Quoted(room.room.as_str()),
            room.batches
        );
    }
    text += &format!("{} batches read and found whole\n", report.whole);
    if report.altered > 0 {
        text += &format!("{} batches are not what they were\n", report.altered);
    }
    for complaint in &report.complaints {
        text += &format!("SQLite: {}\n", Escaped(complaint));
    }
    text
}

fn repair(
    folder: &Path,
    keep: RetentionPolicy,
    named: Option<NetworkId>,
) -> Result<ExitCode, Failure> {
    let _lock = Lock::take(folder)?;
    let now_ms = unix_ms();
    let network = store::network_in(folder).or(named);
    let network = network.unwrap_or(NetworkId::OPEN);
    // Stored batches had a valid date when they arrived, independent of the clock today.
    let verify = |bytes: &[u8]| node::reopen(bytes, network, u64::MAX / 2);
    let repaired = store::repair(folder, keep, now_ms, verify).map_err(Failure::new)?;
    // A log without a readable network id belongs to the network that its batches were verified with.
    let log = store::Log::open(folder, keep).map_err(Failure::new)?;
    drop(log.of_network(network).map_err(Failure::new)?);
    let mut text = format!("{} batches were saved", repaired.saved);
    if repaired.lost > 0 {
        text += &format!(", {} are lost", repaired.lost);
    }
    if repaired.refused > 0 {
        text += &format!(", {} could not be verified", repaired.refused);
    }
    text += &format!("; the old file is kept: {}\n", repaired.kept.display());
    output::print(text.as_bytes());
    match repaired.is_whole() {
        true => Ok(ExitCode::SUCCESS),
        false => Err(Failure::new(not_whole(&repaired))),
    }
}

/// Returns the losses of a repair and the remedy.
fn not_whole(repaired: &store::Repaired) -> String {
    let lost = match (repaired.lost + repaired.refused, repaired.is_lost_known) {
        (0, _) => "some batches may be lost: too much is damaged to say how many".to_owned(),
        (lost, true) => format!("{lost} batches could not be saved"),
        (lost, false) => format!("{lost} batches could not be saved, and perhaps more"),
    };
    format!(
        "{lost}; a node that runs with this log fetches from its neighbours what they still hold"
    )
}

fn export(
    folder: &Path,
    file: &Path,
    query: &HistoryQuery,
    force: bool,
) -> Result<ExitCode, Failure> {
    let query = store::Query {
        // All that is held, so that a log that is made of it is the same.
        conflicts: true,
        ..query.to_log()
    };
    if file == Path::new("-") {
        let mut out = BufWriter::new(io::stdout().lock());
        return match store::export(folder, query, &mut out).map(|_| out.flush()) {
            Ok(_) => Ok(ExitCode::SUCCESS),
            Err(LogError::Io { source, .. }) if source.kind() == ErrorKind::BrokenPipe => {
                Ok(ExitCode::SUCCESS)
            }
            Err(error) => Err(Failure::new(error)),
        };
    }
    let failed = |error: io::Error| Failure::new(format!("{}: {error}", file.display()));
    // Without a log no file is made.
    Archive::open(folder).map_err(Failure::new)?;
    let mut out = BufWriter::new(create(file, force)?);
    let written = store::export(folder, query, &mut out).map_err(Failure::new)?;
    out.flush().map_err(failed)?;
    let text = format!(
        "{} holds {written} batches: whoever has it can read them\n",
        file.display()
    );
    output::print(text.as_bytes());
    Ok(ExitCode::SUCCESS)
}

/// Creates a file that only its owner may read.
fn create(file: &Path, force: bool) -> Result<File, Failure> {
    let mut options = OpenOptions::new();
    options.write(true);
    match force {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(file).map_err(|error| match error.kind() {
        ErrorKind::AlreadyExists => Failure::new(format!(
            "{} exists already; --force writes over it",
            file.display()
        )),
        _ => Failure::new(format!("{}: {error}", file.display())),
    })
}

fn import(
    folder: &Path,
    file: &Path,
    keep: RetentionPolicy,
    named: Option<NetworkId>,
) -> Result<ExitCode, Failure> {
    let mut input: Box<dyn BufRead> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        let input = File::open(file)
            .map_err(|error| Failure::new(format!("{}: {error}", file.display())))?;
        Box::new(BufReader::new(input))
    };
    let _lock = Lock::take(folder)?;
    let log = store::Log::open(folder, keep).map_err(Failure::new)?;
    // A log belongs to the network that it was made in; a new one to the one that is named.
    let network = match named {
        Some(network) => network,
        None => log.network().map_err(Failure::new)?,
    };
    let log = log.of_network(network).map_err(Failure::new)?;
    let now_ms = unix_ms();
    let verify = |bytes: &[u8]| node::reopen(bytes, network, now_ms);
    let imported = store::import(log, now_ms, &mut input, verify).map_err(Failure::new)?;
    let mut text = format!(
        "{} batches were taken in, {} were there already",
        imported.stored, imported.held
    );
    if imported.too_old > 0 {
        text += &format!(", {} are older than what is kept", imported.too_old);
    }
    if imported.refused > 0 {
        text += &format!(", {} were refused", imported.refused);
    }
    output::print(format!("{text}\n").as_bytes());
    match refused(&imported, network) {
        None => Ok(ExitCode::SUCCESS),
        Some(why) => Err(Failure::new(why)),
    }
}

/// Returns the batches that an import refused and the remedy, if there are any.
fn refused(imported: &store::Imported, network: NetworkId) -> Option<String> {
    let (line, other) = imported.first_refused?;
    let of = match other.filter(|other| *other != network) {
        Some(other) => format!("the first, in line {line}, was said in {other}"),
        None => format!("the first is in line {line}"),
    };
    Some(format!(
        "{} batches were refused: they are not their authors' in {network}, to which this log belongs ({of}); \
         import them into a log of their own network: another --data-dir, with its --network-key",
        imported.refused
    ))
}

fn query(which: &WhichArgs) -> Result<HistoryQuery, Failure> {
    let room = which.room.as_deref().map(|name| {
        name.parse()
            .map_err(|error| Failure::usage(format!("--room {name:?}: {error}")))
    });
    let author = which.author.as_deref().map(|id| {
        id.parse().map_err(|_| {
            Failure::usage(format!(
                "--author {id:?}: that is no PeerId; `diatribe id` prints one"
            ))
        })
    });
    let since = which
        .since
        .as_deref()
        .map(|text| since(text, &ZonedDateTime::now()));
    Ok(HistoryQuery {
        room: room.transpose()?,
        author: author.transpose()?,
        since_ms: since.transpose()?,
        last: which.last,
    })
}

/// Parses a time, a day or a duration ago into Unix milliseconds.
fn since(text: &str, now: &ZonedDateTime) -> Result<u64, Failure> {
    let zone = || TimeZone::system();
    let moment = (text.parse::<Timestamp>().ok())
        // Without a zone it is this machine's.
        .or_else(|| {
            let civil = text.parse::<DateTime>().ok()?;
            Some(civil.to_zoned_datetime(zone()).ok()?.timestamp())
        })
        .or_else(|| {
            let span = text.parse::<Span>().ok()?;
            Some(now.checked_sub(span.abs()).ok()?.timestamp())
        })
        .ok_or_else(|| {
            Failure::usage(format!(
                "--since {text:?}: that is no time; write for example 2026-01-02T03:04:05Z, \
                 2026-01-02, 30m, 2h or 3d"
            ))
        })?;
    // A time before 1970 selects everything.
    Ok(u64::try_from(moment.as_millisecond()).unwrap_or(0))
}

fn unix_ms() -> u64 {
    u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_a_day_and_how_long_ago_are_understood() {
        let now: ZonedDateTime = "2026-03-04T05:06:07Z[UTC]".parse().unwrap();
        let ago = |text: &str| now.timestamp().as_millisecond() as u64 - since(text, &now).unwrap();
        assert_eq!(ago("2h"), 2 * 3_600_000);
        assert_eq!(ago("3d"), 3 * 86_400_000);
        assert_eq!(ago("90s"), 90_000);
        assert_eq!(ago("1h 30m"), 5_400_000);
        assert_eq!(ago("2026-03-04T05:06:06Z"), 1000);
        assert_eq!(ago("2026-03-04T06:06:06+01:00"), 1000);
        assert!(since("2026-03-04", &now).is_ok());
        assert!(since("yesterday", &now).is_err());
        assert!(since("", &now).is_err());
    }
}
