//! Keys below the cluster's prefix: put before what goes to etcd, stripped from what comes back.

use bytes::Bytes;
use etcd_client::KeyValue;
use springald_core::error::{Error, Result};

use crate::store::Entry;

/// The prefix of one cluster's keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    /// `prefix` is not empty, so that no range below it is "all keys of etcd".
    pub(super) fn below(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    /// The key (or key prefix) as etcd knows it.
    pub(super) fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// An answer of etcd as an entry.
    pub(super) fn entry(&self, found: KeyValue) -> Result<Entry> {
        let mod_revision = revision(found.mod_revision())?;
        let (key, value) = found.into_key_value();
        Ok(Entry { key: self.stripped(&key)?, value: Bytes::from(value), mod_revision })
    }

    /// The key without the prefix.
    pub(super) fn stripped(&self, key: &[u8]) -> Result<String> {
        let text = str::from_utf8(key).ok().and_then(|key| key.strip_prefix(&self.prefix));
        text.map(str::to_owned).ok_or_else(|| {
            Error::internal(format!("etcd answered with key {:?}, not text below {}", key.escape_ascii(), self.prefix))
        })
    }
}

/// A revision from etcd: never negative.
pub(super) fn revision(revision: i64) -> Result<u64> {
    u64::try_from(revision).map_err(|_| Error::internal(format!("etcd answered with revision {revision}")))
}

/// The end of the range of all keys that start with `prefix` (full, not empty): the last byte, plus one. No byte of
/// UTF-8 text is 0xff, so this never overflows.
pub(super) fn range_end(prefix: &str) -> Vec<u8> {
    let mut end = prefix.as_bytes().to_vec();
    if let Some(last) = end.last_mut() {
        *last = last.saturating_add(1);
    }
    end
}

/// The first key after `key`.
pub(super) fn just_after(key: &str) -> Vec<u8> {
    let mut next = key.as_bytes().to_vec();
    next.push(0);
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_a_key_when_it_goes_out_and_comes_back_then_it_is_the_same() {
        let keys = Keys::below("/springald/c/");
        assert_eq!(keys.full("jobs/1"), "/springald/c/jobs/1");
        assert_eq!(keys.stripped(b"/springald/c/jobs/1").expect("below the prefix"), "jobs/1");
        assert!(keys.stripped(b"/springald/other/jobs/1").is_err());
        assert!(keys.stripped(b"/springald/c/\xff").is_err());
    }

    #[test]
    fn given_a_prefix_when_its_range_ends_then_longer_keys_are_in_it_and_neighbours_are_not() {
        let end = range_end("a/");
        assert!(b"a/\xf4\x8f".as_slice() < end.as_slice());
        assert!(b"a0".as_slice() >= end.as_slice());
        assert!(just_after("a") > b"a".to_vec() && just_after("a") < b"a\x01".to_vec());
    }
}
