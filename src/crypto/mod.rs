//! What proves a file: its hash, the keys, and the signatures in forms that other tools can check.
//!
//! Layer 1. Formats are written out here byte by byte, since all that is signed is short and fixed, and what is
//! read is checked to the last byte; the arithmetic is `sha2`'s and `ed25519-dalek`'s. No network, no clock; the
//! only files touched are key files ([`SigningKey::read`], [`SigningKey::write_new`]).
//!
//! | file | format | source |
//! | --- | --- | --- |
//! | `hash` | SHA-256 | FIPS 180-4 |
//! | `key`, `openssh` | Ed25519 private keys, OpenSSH key files | RFC 8032, OpenSSH PROTOCOL.key |
//! | `public` | public keys: OpenSSH line, fingerprint, PEM | RFC 8709, RFC 8410 |
//! | `sshsig` | `F.seal` | OpenSSH PROTOCOL.sshsig |
//! | `signers` | `allowed_signers` | ssh-keygen(1), ALLOWED SIGNERS |
//! | `dsse` | lines of `F.seal.jsonl` | DSSE v1 protocol and envelope |
//! | `note` | signed notes | C2SP signed-note |
//! | `jcs` | canonical JSON | RFC 8785 |
//! | `armor`, `wire` | PEM-like armor, strict base64; SSH strings | RFC 7468, RFC 4648, RFC 4251 |

mod armor;
pub mod dsse;
mod hash;
pub mod jcs;
mod key;
pub mod note;
mod openssh;
mod public;
pub mod signers;
pub mod sshsig;
#[cfg(test)]
mod testing;
mod wire;

pub use armor::{base64 as to_base64, from_base64};
pub use hash::{Hasher, sha256};
pub use key::{KeyError, SigningKey};
pub use public::{BadSignature, PublicKey, PublicKeyError};
