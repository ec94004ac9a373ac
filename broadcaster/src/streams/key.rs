//! Stream keys: who has one may publish the stream.
//!
//! A key is 128 random bits, shown once when it is made. Only a keyed hash of it is stored, so
//! neither the list of streams nor a backup of it lets anyone publish without the secret beside
//! it. A [`StreamKey`] never appears in logs: its `Debug` form hides it and it has no `Display`.

use std::fmt;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::secret::{self, SecretError};

/// The file's name in the data directory that holds the secret.
pub const SECRET_FILE: &str = "secret";

/// What is read of a presented key at most, in bytes; real ones have 32.
const PRESENTED_BYTES_MAX: usize = 256;

/// RFC 4648 base32 in lower case: no 0, 1, 8 or 9 to confuse with letters.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// A stream key, ours or what a publisher claims to be one.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamKey(String);

/// A key as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyHash([u8; 32]);

/// What makes hashes of keys: 256 random bits that never leave this machine.
#[derive(Clone)]
pub struct KeySecret([u8; 32]);

impl StreamKey {
    /// A new key of 128 random bits, in groups of four: `abcd-efgh-…`.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bits = [0; 16];
        getrandom::fill(&mut bits)?;
        Ok(Self::from_bits(u128::from_be_bytes(bits)))
    }

    /// What a publisher shows, which may be anything.
    pub fn presented(mut text: String) -> Self {
        if text.len() > PRESENTED_BYTES_MAX {
            // Too long for any key: what is left must not be one by chance.
            text = String::new();
        }
        Self(text)
    }

    /// The key itself, to be shown to its owner and nobody else.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn from_bits(bits: u128) -> Self {
        let mut text = String::with_capacity(32);
        // 26 digits of 5 bits hold 130: the first has 3 bits of the key.
        for digit in 0..26 {
            if digit > 0 && digit % 4 == 0 {
                text.push('-');
            }
            let index = (bits >> (5 * (25 - digit))) as usize & 31;
            text.push(char::from(ALPHABET[index]));
        }
        Self(text)
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamKey(…)")
    }
}

impl KeySecret {
    /// Reads the secret in `data_dir`, or makes it there on the first start.
    ///
    /// # Errors
    /// When it cannot be read or written, is damaged, or others may read it.
    pub fn load_or_create(data_dir: &Path) -> Result<Self, SecretError> {
        Ok(Self(secret::bytes32(&data_dir.join(SECRET_FILE))?))
    }

    /// The form of `key` that is stored. Case, hyphens and surrounding blanks do not count, so
    /// that a key can be typed on a phone.
    pub fn hash(&self, key: &StreamKey) -> KeyHash {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) else {
            unreachable!("HMAC takes keys of every length")
        };
        mac.update(b"shoal stream key\0");
        for byte in key.0.trim().bytes().filter(|byte| *byte != b'-') {
            mac.update(&[byte.to_ascii_lowercase()]);
        }
        KeyHash(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for KeySecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySecret(…)")
    }
}

impl KeyHash {
    /// Whether both are of the same key, in a time that does not depend on where they differ.
    pub fn matches(&self, other: &KeyHash) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl From<KeyHash> for String {
    fn from(hash: KeyHash) -> Self {
        hex(&hash.0)
    }
}

impl TryFrom<String> for KeyHash {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        unhex(&text).map(Self).ok_or("a key hash has 64 hexadecimal digits")
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = (digit(*pair.first()?)? * 16 + digit(*pair.get(1)?)?) as u8;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_has_the_documented_form_and_all_its_bits() {
        assert_eq!(StreamKey::from_bits(0).reveal(), "aaaa-aaaa-aaaa-aaaa-aaaa-aaaa-aa");
        assert_eq!(StreamKey::from_bits(u128::MAX).reveal(), "h777-7777-7777-7777-7777-7777-77");
        let (a, b) = (StreamKey::random().expect("random"), StreamKey::random().expect("random"));
        assert_ne!(a, b);
        assert_eq!(a.reveal().len(), 32);
    }

    #[test]
    fn a_key_never_shows_in_debug_output() {
        let key = StreamKey::from_bits(12345);
        assert_eq!(format!("{key:?}"), "StreamKey(…)");
        let event = crate::ingest::rtmp::connection::Event::Publish(key.clone());
        assert!(!format!("{event:?}").contains(key.reveal()));
    }

    #[test]
    fn keys_are_recognised_after_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let key = StreamKey::from_bits(1);
        let hash = || KeySecret::load_or_create(dir.path()).expect("a secret").hash(&key);
        assert!(hash().matches(&hash()));
    }

    #[test]
    fn a_key_is_recognised_as_typed_on_a_phone_and_nothing_else_is() {
        let secret = KeySecret([7; 32]);
        let key = StreamKey::from_bits(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        let stored = secret.hash(&key);
        let typed = format!(" {} ", key.reveal().replace('-', "").to_uppercase());
        assert!(stored.matches(&secret.hash(&StreamKey::presented(typed))));
        let mut other = key.reveal().to_owned();
        other.replace_range(31..32, if other.ends_with('a') { "b" } else { "a" });
        assert!(!stored.matches(&secret.hash(&StreamKey::presented(other))));
        assert!(!stored.matches(&KeySecret([8; 32]).hash(&key)), "another machine's secret");
    }

    proptest! {
        #[test]
        fn a_stored_hash_reads_back(bits: u128) {
            let hash = KeySecret([1; 32]).hash(&StreamKey::from_bits(bits));
            let text = serde_json::to_string(&hash).expect("text");
            prop_assert_eq!(serde_json::from_str::<KeyHash>(&text).expect("read"), hash);
        }
    }
}
