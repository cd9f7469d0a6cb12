//! A bot that answers `!ping` with `pong` in a room, through the member of the network at ADDR.
//!
//! ```sh
//! cargo run --example bot -- ADDR [ROOM]         # such as localhost:9000, and a room other than `lobby`
//! ```

use diatribe::{Address, DEFAULT_ROOM, Event, Node, RoomName};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let address: Address = arguments.next().ok_or("usage: bot ADDR [ROOM]")?.parse()?;
    let room: RoomName = arguments
        .next()
        .as_deref()
        .unwrap_or(DEFAULT_ROOM)
        .parse()?;

    // The bot only dials: it listens on no port. It dials again whenever the link is lost.
    let node = Node::builder().listen([]).rooms([room]).dial([address]);
    let node = node.start().await?;
    eprintln!("the bot is {}", node.peer_id());

    let mut events = node.events();
    while let Some(event) = events.next().await {
        match event {
            // A message that arrives late (`backfill`) was meant for a bot of an earlier time.
            Event::Message(m) if &m.data[..] == b"!ping" && !m.backfill => {
                println!("{} asks in {}", m.author, m.room);
                if let Err(error) = node.broadcast(m.room.as_str(), &m.name, "pong").await {
                    eprintln!("{error}");
                }
            }
            Event::LinkUp { peer_id, .. } => eprintln!("linked with {peer_id}"),
            Event::Refused { address, error, .. } => eprintln!("{address}: {error}"),
            _ => {}
        }
    }
    Ok(())
}
