//! The signed feed: three kinds of record that together say what exists.
//!
//! A [`Session`] says which renditions there are and how numbering goes on, a [`Part`] names one
//! CMAF part with the hash of each of its pieces, an [`End`] closes a broadcast. Each is signed
//! with the broadcaster's Ed25519 key, so bytes that match a record can come from anywhere.
//! The layout, byte by byte, is in docs/PROTOCOL.md.

mod bytes;
mod part;
mod session;

use std::fmt;

pub use part::{Flags, PIECE_HASH_BYTES, Part, PieceHash, hash_piece, piece_len};
pub use session::{Rendition, Session};

use bytes::{Reader, Writer};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};

use crate::id::{Msn, SessionNumber, StreamName};

/// The feed's version, first byte of every record.
pub const VERSION: u8 = 1;

/// What is signed starts with this, so that a feed signature can never pass as another kind.
const CONTEXT: &[u8] = b"shoal feed 1\0";

const SIGNATURE_BYTES: usize = 64;
const KIND_SESSION: u8 = 1;
const KIND_PART: u8 = 2;
const KIND_END: u8 = 3;

/// One record of the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// What a session, or its part after a change of encoder, consists of.
    Session(Session),
    /// One part exists.
    Part(Part),
    /// A broadcast is over.
    End(End),
}

/// The end of a broadcast: nothing follows until a new [`Session`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The stream.
    pub stream: StreamName,
    /// The broadcast that is over.
    pub broadcast: u32,
    /// Its last session.
    pub session: SessionNumber,
    /// The first media sequence number that no rendition has.
    pub next_msn: Msn,
}

/// Why bytes are not a record of this feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// Fewer bytes than the layout needs, or bytes left over.
    #[error("the record's length does not fit its layout")]
    Length,
    /// A version this code does not know.
    #[error("feed version {0} is not known")]
    Version(u8),
    /// A kind of record this code does not know; to be skipped.
    #[error("record kind {0} is not known")]
    Kind(u8),
    /// A field with a value that no honest broadcaster writes.
    #[error("bad value of {0}")]
    Value(&'static str),
    /// Not signed by the key that was asked for.
    #[error("the signature is not the broadcaster's")]
    Signature,
}

/// Signs records. One per broadcaster.
pub struct Signer(SigningKey);

/// Checks records against one broadcaster's public key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Verifier(VerifyingKey);

impl Signer {
    /// A signer for the given Ed25519 seed, which must be random and secret.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// The matching verifier.
    pub fn verifier(&self) -> Verifier {
        Verifier(self.0.verifying_key())
    }

    /// The record as signed bytes.
    pub fn sign(&self, record: &Record) -> Vec<u8> {
        let mut out = Writer::with_prefix(CONTEXT);
        record.write(&mut out);
        let signature = self.0.sign(out.all());
        let mut bytes = out.after(CONTEXT.len());
        bytes.extend_from_slice(&signature.to_bytes());
        bytes
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(…)")
    }
}

impl Verifier {
    /// A verifier for a public key of 32 bytes.
    ///
    /// # Errors
    /// [`FeedError::Value`] when the bytes are not a usable Ed25519 key.
    pub fn from_bytes(key: &[u8; 32]) -> Result<Self, FeedError> {
        match VerifyingKey::from_bytes(key) {
            Ok(key) if !key.is_weak() => Ok(Self(key)),
            _ => Err(FeedError::Value("public key")),
        }
    }

    /// The public key.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Reads signed bytes and checks every rule and the signature.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn open(&self, bytes: &[u8]) -> Result<Record, FeedError> {
        let split = bytes.len().checked_sub(SIGNATURE_BYTES).ok_or(FeedError::Length)?;
        let (body, signature) = bytes.split_at(split);
        let record = Record::read(body)?;
        let signature = Signature::from_slice(signature).map_err(|_| FeedError::Signature)?;
        let mut signed = Vec::with_capacity(CONTEXT.len() + body.len());
        signed.extend_from_slice(CONTEXT);
        signed.extend_from_slice(body);
        self.0.verify_strict(&signed, &signature).map_err(|_| FeedError::Signature)?;
        Ok(record)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier(…)")
    }
}

impl Record {
    fn write(&self, out: &mut Writer) {
        out.u8(VERSION);
        match self {
            Self::Session(session) => {
                out.u8(KIND_SESSION);
                session.write(out);
            }
            Self::Part(part) => {
                out.u8(KIND_PART);
                part.write(out);
            }
            Self::End(end) => {
                out.u8(KIND_END);
                end.write(out);
            }
        }
    }

    fn read(body: &[u8]) -> Result<Self, FeedError> {
        let mut input = Reader::new(body);
        match input.u8()? {
            VERSION => {}
            other => return Err(FeedError::Version(other)),
        }
        let record = match input.u8()? {
            KIND_SESSION => Self::Session(Session::read(&mut input)?),
            KIND_PART => Self::Part(Part::read(&mut input)?),
            KIND_END => Self::End(End::read(&mut input)?),
            other => return Err(FeedError::Kind(other)),
        };
        input.finish()?;
        Ok(record)
    }

    /// The stream this record belongs to.
    pub fn stream(&self) -> &StreamName {
        match self {
            Self::Session(session) => &session.stream,
            Self::Part(part) => &part.stream,
            Self::End(end) => &end.stream,
        }
    }
}

impl End {
    fn write(&self, out: &mut Writer) {
        out.text(self.stream.as_str());
        out.u32(self.broadcast);
        out.u32(self.session.0);
        out.u64(self.next_msn.0);
    }

    fn read(input: &mut Reader<'_>) -> Result<Self, FeedError> {
        Ok(Self {
            stream: input.name("stream")?,
            broadcast: input.u32()?,
            session: SessionNumber(input.u32()?),
            next_msn: Msn(input.u64()?),
        })
    }
}

#[cfg(test)]
mod tests;
