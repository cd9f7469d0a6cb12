//! The overlay with many nodes, in virtual time: the very state machine of the node, and the goals
//! that it must meet.

mod goals;
mod measure;
mod model;
mod schedules;
mod traffic;
mod world;
