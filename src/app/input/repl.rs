//! The commands and lines that people type.
//!
//! Entry type: [`Repl`]. The rule it keeps: a line goes to one room, and a person always learns when it was not sent.

use std::time::Duration;

use tokio::sync::mpsc;

use super::lines::{End, Line};
use super::sender::Sender;
use crate::app::escape::{Escaped, Quoted};
use crate::app::output::{CHAT, Output, SHORT, describe_crowding, short};
use crate::model::RoomName;
use crate::node::{ClockStatus, Direction, LinkInfo, RoomStatus};

const HELP: &str = "\
a line that you type is sent to the current room
  /join ROOM    join a room, or switch to one that you have joined
  /leave [ROOM] leave a room (default: the current one)
  /rooms        list the rooms that you have joined
  /peers        list the nodes that you are linked with
  /status       show the stored messages of each room, and whether your neighbours have the same
  /quit         end the program (also Ctrl-D)
  //text        send /text";

/// A parsed line.
#[derive(Debug, PartialEq, Eq)]
enum ReplCommand<'a> {
    Nothing,
    Say(&'a str),
    Help,
    Peers,
    Rooms,
    Status,
    Join(&'a str),
    Leave(Option<&'a str>),
    Quit,
    Unknown(&'a str),
}

impl ReplCommand<'_> {
    fn read(line: &str) -> ReplCommand<'_> {
        if line.trim().is_empty() {
            return ReplCommand::Nothing;
        }
        let Some(command) = line.strip_prefix('/') else {
            return ReplCommand::Say(line);
        };
        if command.starts_with('/') {
            return ReplCommand::Say(command);
        }
        let (word, rest) = command
            .split_once(char::is_whitespace)
            .unwrap_or((command, ""));
        let rest = rest.trim();
        match word {
            "help" | "h" | "?" => ReplCommand::Help,
            "peers" => ReplCommand::Peers,
            "rooms" => ReplCommand::Rooms,
            "status" => ReplCommand::Status,
            "join" | "room" => ReplCommand::Join(rest),
            "leave" => ReplCommand::Leave((!rest.is_empty()).then_some(rest)),
            "quit" | "exit" | "q" => ReplCommand::Quit,
            _ => ReplCommand::Unknown(word),
        }
    }
}

/// Reads and carries out the lines of the person at the terminal.
pub(super) struct Repl<'a> {
    sender: &'a Sender,
    output: Output,
    /// Rooms in the order of joining: lines go to the last.
    rooms: Vec<RoomName>,
}

impl<'a> Repl<'a> {
    pub(super) fn new(sender: &'a Sender, output: Output, rooms: Vec<RoomName>) -> Repl<'a> {
        Repl {
            sender,
            output,
            // With several rooms at the start, the first one is current.
            rooms: rooms.into_iter().rev().collect(),
        }
    }

    fn current(&self) -> Option<&RoomName> {
        self.rooms.last()
    }

    pub(super) async fn serve(mut self, lines: &mut mpsc::Receiver<Vec<Line>>) -> End {
        while let Some(chunk) = lines.recv().await {
            for line in chunk {
                let Line::Text(bytes) = &line else {
                    self.output.error(line.trouble()).await;
                    continue;
                };
                let Ok(text) = std::str::from_utf8(bytes) else {
                    self.output
                        .error("not sent: the line is not UTF-8 text")
                        .await;
                    continue;
                };
                if self.on_line(text).await == Some(End::Quit) {
                    return End::Quit;
                }
            }
        }
        End::Closed
    }

    async fn on_line(&mut self, line: &str) -> Option<End> {
        match ReplCommand::read(line) {
            ReplCommand::Nothing => {}
            ReplCommand::Say(text) => self.on_say(text).await,
            ReplCommand::Help => self.output.notice(HELP).await,
            ReplCommand::Peers => self.on_peers().await,
            ReplCommand::Rooms => self.on_rooms().await,
            ReplCommand::Status => self.on_status().await,
            ReplCommand::Join(name) => self.on_join(name).await,
            ReplCommand::Leave(name) => self.on_leave(name).await,
            ReplCommand::Quit => return Some(End::Quit),
            ReplCommand::Unknown(word) => {
                let word = Escaped(word);
                let hint = format!(
                    "unknown command /{word}: /help lists the commands; //{word} sends it as text"
                );
                self.output.error(hint).await;
            }
        }
        None
    }

    async fn on_say(&self, text: &str) {
        match self.current() {
            Some(room) => self.sender.send(room.clone(), CHAT, text.into()).await,
            None => {
                self.output
                    .error("not sent: you are in no room; /join ROOM first")
                    .await
            }
        }
    }

    async fn on_peers(&self) {
        let peers = self.sender.node().peers().await;
        if peers.is_empty() {
            return self.output.notice("you have no links").await;
        }
        self.output.notice(table(&peers)).await;
    }

    async fn on_rooms(&self) {
        let rooms = self.sender.node().rooms().await;
        if rooms.is_empty() {
            return self.output.notice("you are in no room").await;
        }
        let mark = |room: &RoomName| match Some(room) == self.current() {
            true => format!("* {room}"),
            false => format!("  {room}"),
        };
        let lines: Vec<String> = rooms.iter().map(mark).collect();
        self.output.notice(lines.join("\n")).await;
    }

    async fn on_status(&self) {
        let rooms = self.sender.node().status().await;
        if rooms.is_empty() {
            return self.output.notice("you are in no room").await;
        }
        let crowding = self.sender.node().crowding();
        let crowding = crowding
            .iter()
            .map(|crowding| format!("  ! {}", describe_crowding(crowding)));
        let clocks = clock_status(&self.sender.node().clocks().await);
        let rooms = rooms.iter().map(room_status);
        let lines: Vec<String> = rooms.chain(crowding).chain(clocks).collect();
        self.output.notice(lines.join("\n")).await;
    }

    async fn on_join(&mut self, name: &str) {
        let room: RoomName = match name.parse() {
            Ok(room) => room,
            Err(error) => return self.output.error(format!("/join: {error}")).await,
        };
        match self.sender.node().join(room.clone()).await {
            Ok(()) => {
                self.output.notice(format!("current room: {room}")).await;
                self.rooms.retain(|known| *known != room);
                self.rooms.push(room);
            }
            Err(error) => self.output.error(format!("/join: {error}")).await,
        }
    }

    async fn on_leave(&mut self, name: Option<&str>) {
        let room = match (name.map(str::parse::<RoomName>), self.current()) {
            (Some(Ok(room)), _) => room,
            (None, Some(current)) => current.clone(),
            (Some(Err(error)), _) => return self.output.error(format!("/leave: {error}")).await,
            (None, None) => return self.output.error("you are in no room").await,
        };
        if !self.sender.node().leave(room.clone()).await {
            return self.output.error(format!("you are not in {room}")).await;
        }
        self.rooms.retain(|known| *known != room);
        let now = match self.current() {
            Some(room) => format!("current room: {room}"),
            None => "you are in no room".to_owned(),
        };
        self.output.notice(format!("left {room}; {now}")).await;
    }
}

/// Returns the links as a table.
fn table(links: &[LinkInfo]) -> String {
    let width = SHORT.max("peer".len());
    let row = |peer: &str, how: &str, rtt: &str, age: &str, address: &str| {
        format!("  {peer:<width$}  {how:<7}  {rtt:>10}  {age:>8}  {address}")
    };
    let mut lines = vec![row("peer", "dialled", "round trip", "age", "address")];
    for link in links {
        let how = match link.direction {
            Direction::Dialer => "by you",
            Direction::Listener => "by them",
        };
        let rtt = match link.rtt {
            Some(rtt) => format!("{:.1} ms", rtt.as_secs_f64() * 1e3),
            None => "-".to_owned(),
        };
        let (peer, address) = (short(&link.peer_id), link.address.to_string());
        lines.push(row(&peer, how, &rtt, &age(link.age), &address));
    }
    lines.join("\n")
}

/// Returns a duration as text: "12 s", "3 min", "2 h 5 m", "3 d 4 h".
fn age(age: Duration) -> String {
    let (minutes, hours, days) = (
        age.as_secs() / 60,
        age.as_secs() / 3600,
        age.as_secs() / 86400,
    );
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{} s", age.as_secs()),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {} m", minutes % 60),
        (days, hours, _) => format!("{days} d {} h", hours % 24),
    }
}

/// Returns the line of a room in `/status`.
fn room_status(room: &RoomStatus) -> String {
    let agreement = match (room.neighbours, room.agreed, room.agreed_for) {
        (0, ..) => "no neighbour to compare with".to_owned(),
        (all, 0, _) => format!("in sync with 0 of {} yet", neighbours(all)),
        (all, some, since) => {
            let since = since.map_or(0, |since| since.as_secs());
            format!("in sync with {some} of {} ({since} s)", neighbours(all))
        }
    };
    let repaired = match room.repaired {
        0 => String::new(),
        n => format!("; {n} of them fetched from neighbours"),
    };
    format!(
        "  {}: {} stored, {agreement}{repaired}",
        Quoted(&room.room),
        match room.batches {
            1 => "1 message".to_owned(),
            n => format!("{n} messages"),
        }
    )
}

/// Returns the lines about this machine's clock in `/status`.
fn clock_status(status: &ClockStatus) -> Vec<String> {
    let reports = status.in_doubt.iter().chain(&status.differing);
    let lines = reports.map(|report| format!("  ! {}", report.text(short)));
    let agreeing = status.neighbours.saturating_sub(status.differing.len());
    let agreement = match (agreeing, status.neighbours) {
        (_, 0) => None,
        (agreeing, n) => Some(format!(
            "  this machine's clock agrees with {agreeing} of {}",
            neighbours(n)
        )),
    };
    agreement.into_iter().chain(lines).collect()
}

fn neighbours(n: usize) -> String {
    match n {
        1 => "1 neighbour".to_owned(),
        n => format!("{n} neighbours"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_shown_in_columns() {
        let link = |direction, rtt, age| LinkInfo {
            peer_id: libp2p::PeerId::random(),
            address: "/ip4/127.0.0.1/tcp/9000/ws".parse().expect("an address"),
            direction,
            rtt,
            age: Duration::from_secs(age),
            clock_offset_ms: 0,
        };
        let rtt = Some(Duration::from_micros(12_340));
        let links = [
            link(Direction::Dialer, rtt, 7),
            link(Direction::Listener, None, 100_000),
        ];
        let table = table(&links);
        let columns = |line: &str| line.chars().skip(SHORT + 2).collect::<String>();
        let lines: Vec<String> = table.lines().map(columns).collect();
        assert_eq!(
            lines,
            [
                "  dialled  round trip       age  address",
                "  by you      12.3 ms       7 s  /ip4/127.0.0.1/tcp/9000/ws",
                "  by them           -   1 d 3 h  /ip4/127.0.0.1/tcp/9000/ws",
            ]
        );
    }

    #[test]
    fn a_typed_line_is_sent_unless_it_is_a_command() {
        assert_eq!(
            ReplCommand::read("hello there"),
            ReplCommand::Say("hello there")
        );
        assert_eq!(ReplCommand::read("//quit"), ReplCommand::Say("/quit"));
        assert_eq!(ReplCommand::read("/quit"), ReplCommand::Quit);
        assert_eq!(
            ReplCommand::read("/join  the kitchen "),
            ReplCommand::Join("the kitchen")
        );
        assert_eq!(ReplCommand::read("/leave"), ReplCommand::Leave(None));
        assert_eq!(
            ReplCommand::read("/frobnicate x"),
            ReplCommand::Unknown("frobnicate")
        );
        assert_eq!(ReplCommand::read("  "), ReplCommand::Nothing);
    }
}
