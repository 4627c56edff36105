//! The daemon's control socket: what may be asked, by whom, and how.
//!
//! Layer 4. A connection carries requests one after the other, each a frame of four bytes length (big
//! endian) and JSON; a request about a path carries an open descriptor of it (`SCM_RIGHTS`), so that nobody
//! asks about what they cannot reach. The answer to each is any number of `item` frames and one `end` or
//! `error` frame.

pub mod client;
mod evidence;
pub mod frame;
mod handle;
mod peer;
mod places;
pub mod protocol;
mod server;
mod view;

pub use peer::Peer;
pub use server::{About, Listener};
