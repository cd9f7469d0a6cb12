//! One node as users run it, on loopback.
//!
//! Entry type: [`NodePlan`], which is the same for a node in this process and for one in a process of
//! its own.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::failure::Failure;
use super::args::LoadArgs;
use super::as_text;
use crate::identity::Identity;
use crate::model::RoomName;
use crate::net::Address;
use crate::node::{Events, Node};

/// A node with fewer links looks for more at once: the default.
const MIN_LINKS: usize = 2;

/// How a node is to be.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct NodePlan {
    #[serde(with = "as_text")]
    pub(crate) rooms: Vec<RoomName>,
    /// Where its log is; in memory without.
    pub(crate) folder: Option<PathBuf>,
    /// Maximum number of links that the node makes by itself; none: it links only on order.
    pub(crate) links: Option<usize>,
    /// Where it enters.
    #[serde(with = "as_text")]
    pub(crate) entry: Vec<Address>,
}

impl NodePlan {
    /// Node `n` of those that were asked for, with a new folder in `folders`.
    pub(crate) fn of(
        args: &LoadArgs,
        rooms: &[RoomName],
        folders: Option<&Path>,
        n: usize,
        entry: Option<Address>,
    ) -> Result<NodePlan, Failure> {
        Ok(NodePlan {
            rooms: rooms.to_vec(),
            folder: folders.map(|parent| new_folder(parent, n)).transpose()?,
            links: (!args.fixed_links).then_some(args.links.get()),
            entry: entry.filter(|_| !args.fixed_links).into_iter().collect(),
        })
    }

    /// Starts it on a free port.
    pub(crate) async fn start(self) -> Result<(Node, Events), Failure> {
        let loopback = "/ip4/127.0.0.1/tcp/0/ws".parse().map_err(Failure::new)?;
        let mut builder = Node::builder()
            .identity(Identity::generate())
            .listen([loopback])
            .rooms(self.rooms)
            .exempt_loopback(true)
            .dial(self.entry);
        builder = match self.links {
            Some(most) => builder.links(most, MIN_LINKS.min(most)),
            None => builder.fixed_links(true),
        };
        if let Some(folder) = self.folder {
            builder = builder.data_dir(folder);
        }
        builder.start_with_events().await.map_err(Failure::new)
    }
}

/// Starts a node that links only on order, with its log in `folder` if there is one.
pub(crate) async fn start_one(
    rooms: &[RoomName],
    folder: Option<&Path>,
) -> Result<(Node, Events), Failure> {
    let plan = NodePlan {
        rooms: rooms.to_vec(),
        folder: folder.map(Path::to_owned),
        links: None,
        entry: Vec::new(),
    };
    plan.start().await
}

pub(crate) fn address_of(node: &Node) -> Result<Address, Failure> {
    let first = node.addresses().first();
    let first = first.ok_or_else(|| Failure::new("the node listens nowhere"))?;
    first.clone().try_into().map_err(Failure::new)
}

fn new_folder(parent: &Path, n: usize) -> Result<PathBuf, Failure> {
    let folder = parent.join(n.to_string());
    std::fs::create_dir(&folder).map_err(Failure::new)?;
    Ok(folder)
}
