//! A chat in the room `lobby`: each line of stdin is sent, and each message is printed.
//!
//! ```sh
//! cargo run --example chat                       # prints the addresses at which it can be dialled
//! cargo run --example chat -- localhost:PORT     # in another terminal, with the port of the first
//! ```

use diatribe::{Address, DEFAULT_ROOM, Event, Node};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let any_port = ["/ip4/0.0.0.0/tcp/0/ws".parse()?];
    let node = Node::builder().listen(any_port).start().await?;
    let mut events = node.events();
    node.addresses().iter().for_each(|a| eprintln!("at {a}"));
    if let Some(address) = std::env::args().nth(1) {
        node.keep_dialing(address.parse::<Address>()?).await;
    }
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            line = lines.next_line() => match line? {
                Some(line) => if let Err(error) = node.broadcast(DEFAULT_ROOM, "chat", line).await {
                    eprintln!("{error}");
                },
                None => break,
            },
            event = events.next() => match event {
                Some(Event::Message(m)) => println!("{}: {}", m.author, String::from_utf8_lossy(&m.data)),
                Some(Event::LinkUp { peer_id, .. }) => eprintln!("linked with {peer_id}"),
                Some(_) => {}
                None => break,
            },
        }
    }
    node.shutdown().await;
    Ok(())
}
