//! What people type: lines to say, and commands that begin with a slash.
//!
//! Entry type: [`Desk`]. The rule it keeps: a line is said in one room, and whoever types always
//! learns when it was not.

use tokio::sync::mpsc;

use super::lines::Line;
use super::{End, Sender};
use crate::app::escape::Shown;
use crate::app::output::{CHAT, Output, short};
use crate::gossip::RoomName;
use crate::node::{Direction, LinkInfo};

const HELP: &str = "\
a line that you type is said in the current room
  /join ROOM    enter a room and speak there; also to come back to one
  /leave [ROOM] leave a room, or the current one
  /rooms        the rooms you are in
  /peers        the nodes you are linked with
  /quit         leave; so does Ctrl-D
  //text        say /text";

/// What a line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Typed<'a> {
    Nothing,
    Say(&'a str),
    Help,
    Peers,
    Rooms,
    Join(&'a str),
    Leave(Option<&'a str>),
    Quit,
    Unknown(&'a str),
}

impl Typed<'_> {
    fn read(line: &str) -> Typed<'_> {
        if line.trim().is_empty() {
            return Typed::Nothing;
        }
        let Some(command) = line.strip_prefix('/') else {
            return Typed::Say(line);
        };
        if command.starts_with('/') {
            return Typed::Say(command);
        }
        let (word, rest) = command
            .split_once(char::is_whitespace)
            .unwrap_or((command, ""));
        let rest = rest.trim();
        match word {
            "help" | "h" | "?" => Typed::Help,
            "peers" => Typed::Peers,
            "rooms" => Typed::Rooms,
            "join" | "room" => Typed::Join(rest),
            "leave" => Typed::Leave((!rest.is_empty()).then_some(rest)),
            "quit" | "exit" | "q" => Typed::Quit,
            _ => Typed::Unknown(word),
        }
    }
}

/// Serves whoever sits at the terminal.
pub(super) struct Desk<'a> {
    sender: &'a Sender,
    output: Output,
    /// The rooms in the order in which they were entered: lines are said in the last.
    rooms: Vec<RoomName>,
}

impl<'a> Desk<'a> {
    pub(super) fn new(sender: &'a Sender, output: Output, rooms: Vec<RoomName>) -> Desk<'a> {
        Desk {
            sender,
            output,
            // Who begins with several begins in the first.
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
                        .error("that line is not UTF-8 text and was not sent")
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
        match Typed::read(line) {
            Typed::Nothing => {}
            Typed::Say(text) => self.on_say(text).await,
            Typed::Help => self.output.notice(HELP).await,
            Typed::Peers => self.on_peers().await,
            Typed::Rooms => self.on_rooms().await,
            Typed::Join(name) => self.on_join(name).await,
            Typed::Leave(name) => self.on_leave(name).await,
            Typed::Quit => return Some(End::Quit),
            Typed::Unknown(word) => {
                let word = Shown(word);
                let hint =
                    format!("there is no command /{word}: /help lists them; //{word} says it");
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
                    .error("you are in no room: /join ROOM first")
                    .await
            }
        }
    }

    async fn on_peers(&self) {
        let peers = self.sender.node.peers().await;
        if peers.is_empty() {
            return self.output.notice("linked with nobody").await;
        }
        let lines: Vec<String> = peers.iter().map(describe).collect();
        self.output.notice(lines.join("\n")).await;
    }

    async fn on_rooms(&self) {
        let rooms = self.sender.node.rooms().await;
        if rooms.is_empty() {
            return self.output.notice("in no room").await;
        }
        let mark = |room: &RoomName| match Some(room) == self.current() {
            true => format!("* {room}"),
            false => format!("  {room}"),
        };
        let lines: Vec<String> = rooms.iter().map(mark).collect();
        self.output.notice(lines.join("\n")).await;
    }

    async fn on_join(&mut self, name: &str) {
        let room: RoomName = match name.parse() {
            Ok(room) => room,
            Err(error) => return self.output.error(format!("/join: {error}")).await,
        };
        match self.sender.node.join(room.clone()).await {
            Ok(()) => {
                self.output.notice(format!("you speak in {room} now")).await;
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
        if !self.sender.node.leave(room.clone()).await {
            return self.output.error(format!("you are not in {room}")).await;
        }
        self.rooms.retain(|known| *known != room);
        let now = match self.current() {
            Some(room) => format!("you speak in {room} now"),
            None => "you are in no room now".to_owned(),
        };
        self.output.notice(format!("left {room}; {now}")).await;
    }
}

fn describe(link: &LinkInfo) -> String {
    let how = match link.direction {
        Direction::Dialer => "dialled",
        Direction::Listener => "from",
    };
    let rtt = match link.rtt {
        Some(rtt) => format!("{:.1} ms", rtt.as_secs_f64() * 1e3),
        None => "not measured yet".to_owned(),
    };
    format!(
        "  {}  {how} {}  round trip {rtt}  for {} s",
        short(&link.peer_id),
        link.address,
        link.age.as_secs()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_said_unless_it_is_a_command() {
        assert_eq!(Typed::read("hello there"), Typed::Say("hello there"));
        assert_eq!(Typed::read("//quit"), Typed::Say("/quit"));
        assert_eq!(Typed::read("/quit"), Typed::Quit);
        assert_eq!(
            Typed::read("/join  the kitchen "),
            Typed::Join("the kitchen")
        );
        assert_eq!(Typed::read("/leave"), Typed::Leave(None));
        assert_eq!(Typed::read("/frobnicate x"), Typed::Unknown("frobnicate"));
        assert_eq!(Typed::read("  "), Typed::Nothing);
    }
}
