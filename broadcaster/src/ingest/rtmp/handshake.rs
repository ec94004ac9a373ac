//! The plain RTMP handshake, server side: version 3, no digest, no encryption.
//!
//! The client sends C0 (version), C1 (1536 bytes); the server answers S0, S1, S2 at once; the
//! client's C2 is read and not judged, since several encoders fill it wrongly. S1 needs no
//! randomness: over TCP nothing can be confused with another connection's answer.

use bytes::{Buf, BufMut, BytesMut};

use super::ProtocolError;

/// Length of C1, C2, S1 and S2, in bytes (RTMP 1.0, section 5.2.3).
const BLOCK: usize = 1536;

/// The only version in use.
const VERSION: u8 = 3;

/// How far the handshake has come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Handshake {
    /// Waiting for C0 and C1.
    #[default]
    Hello,
    /// Answered, waiting for C2.
    Answered,
    /// Everything that follows is chunks.
    Done,
}

impl Handshake {
    /// Takes what it can from `input` and writes answers to `output`; true when done.
    pub(super) fn advance(
        &mut self,
        input: &mut BytesMut,
        output: &mut BytesMut,
    ) -> Result<bool, ProtocolError> {
        if *self == Self::Hello {
            match input.first() {
                None => return Ok(false),
                Some(&VERSION) => {}
                // Known from its first byte, so that a web browser or a scanner is let go at once.
                Some(&other) => return Err(ProtocolError::NotRtmp(other)),
            }
            if input.len() < 1 + BLOCK {
                return Ok(false);
            }
            input.advance(1);
            let c1 = input.split_to(BLOCK);
            output.put_u8(VERSION);
            output.put_bytes(0, 8); // S1: time 0; zero says that no digest is used.
            output.extend((8..BLOCK).map(|i| (i * 7) as u8));
            output.put_slice(&c1); // S2 is C1, byte for byte: librtmp compares them.
            *self = Self::Answered;
        }
        if *self == Self::Answered {
            if input.len() < BLOCK {
                return Ok(false);
            }
            input.advance(BLOCK);
            *self = Self::Done;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_its_own_block_echoed() {
        let (mut handshake, mut out) = (Handshake::default(), BytesMut::new());
        let mut input = BytesMut::from(&[VERSION][..]);
        assert_eq!(handshake.advance(&mut input, &mut out), Ok(false));
        input.extend((0..BLOCK).map(|i| i as u8));
        assert_eq!(handshake.advance(&mut input, &mut out), Ok(false));
        assert_eq!(out.len(), 1 + 2 * BLOCK);
        assert_eq!(out[0], VERSION);
        assert!(out[1 + BLOCK..].iter().copied().eq((0..BLOCK).map(|i| i as u8)));
        input.extend([0xaa; BLOCK]);
        input.extend([1, 2, 3]);
        assert_eq!(handshake.advance(&mut input, &mut out), Ok(true));
        assert_eq!(&input[..], [1, 2, 3], "what follows C2 stays");
    }

    #[test]
    fn a_web_browser_is_refused_by_its_first_byte() {
        let mut input = BytesMut::from("G");
        let refused = Handshake::default().advance(&mut input, &mut BytesMut::new());
        assert_eq!(refused, Err(ProtocolError::NotRtmp(b'G')));
    }
}
