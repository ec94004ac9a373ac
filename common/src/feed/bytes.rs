//! Reading and writing the primitive fields of records. All integers are little endian.

use std::str::FromStr;

use super::FeedError;

/// Appends fields.
pub(super) struct Writer(Vec<u8>);

/// Takes fields from the front; every read is checked.
pub(super) struct Reader<'a>(&'a [u8]);

impl Writer {
    pub(super) fn with_prefix(prefix: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(512);
        bytes.extend_from_slice(prefix);
        Self(bytes)
    }

    pub(super) fn all(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn after(mut self, prefix: usize) -> Vec<u8> {
        self.0.drain(..prefix);
        self.0
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    /// A length byte, then the text. What is longer than 255 bytes is cut at a character; the
    /// names and codec strings that come here are bounded well below.
    pub(super) fn text(&mut self, text: &str) {
        let mut len = text.len().min(255);
        while !text.is_char_boundary(len) {
            len -= 1;
        }
        self.0.push(len as u8);
        self.0.extend_from_slice(&text.as_bytes()[..len]);
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8], FeedError> {
        let (head, rest) = self.0.split_at_checked(len).ok_or(FeedError::Length)?;
        self.0 = rest;
        Ok(head)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FeedError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(FeedError::Length)?;
        self.0 = rest;
        Ok(*head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, FeedError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(super) fn u16(&mut self) -> Result<u16, FeedError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(super) fn u32(&mut self) -> Result<u32, FeedError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, FeedError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(super) fn i64(&mut self) -> Result<i64, FeedError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub(super) fn text(&mut self, what: &'static str) -> Result<&'a str, FeedError> {
        let len = self.u8()?;
        std::str::from_utf8(self.take(len.into())?).map_err(|_| FeedError::Value(what))
    }

    pub(super) fn name<T: FromStr>(&mut self, what: &'static str) -> Result<T, FeedError> {
        self.text(what)?.parse().map_err(|_| FeedError::Value(what))
    }

    pub(super) fn finish(&self) -> Result<(), FeedError> {
        if self.0.is_empty() { Ok(()) } else { Err(FeedError::Length) }
    }
}
