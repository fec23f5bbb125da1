//! What is in the cache, which of it a project's lock needs, and how the rest is removed.
//!
//! [`Survey::of`] lists it, [`Needs`] says what a project's lock needs, [`Rules::choose`] chooses what to remove, and [`remove`] removes it
//! under [`Hold::exclusive`], which no build shares.

mod hold;
mod needs;
mod prune;
mod size;
mod survey;
mod units;

pub use hold::Hold;
pub use needs::Needs;
pub use prune::{Rules, Selection, remove};
pub use survey::{Item, Kind, Survey};
pub use units::{parse_age, parse_size, show_size};
