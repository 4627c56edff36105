//! The Merkle log's formats: pure functions from bytes to bytes.
//!
//! | file | format | source |
//! | --- | --- | --- |
//! | `merkle` | tree hashes, inclusion and consistency proofs | RFC 9162, section 2.1 (as RFC 6962) |
//! | `edge` | the right edge of a growing tree | |
//! | `tile` | names of tiles and bundles | C2SP tlog-tiles |
//! | `bundle` | entry bundles | C2SP tlog-tiles |
//! | `checkpoint` | what is signed of a tree | C2SP tlog-checkpoint |
//! | `proof` | an inclusion proof that stands alone | C2SP tlog-proof |

pub mod bundle;
mod checkpoint;
mod edge;
mod merkle;
mod proof;
mod tile;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use edge::Edge;
pub use merkle::{
    Hashes, ProofError, consistency_proof, empty_root, inclusion_proof, leaf_hash, node_hash, root,
    subtree_root, verify_consistency, verify_inclusion,
};
pub use proof::{InclusionProof, InclusionProofError};
pub use tile::{Level, TILE_WIDTH, Tile, TileError, tiles_between};
