//! Simulation of the overlay with many nodes in virtual time: the node's own state machine, and the goals that it must meet.

mod conditions;
mod goals;
mod measure;
mod model;
mod schedules;
mod traffic;
mod world;
