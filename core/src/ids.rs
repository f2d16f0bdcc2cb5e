//! Newtype ids. Every id that leaves a process is validated when it comes back in, because ids become parts of
//! store keys, file names and tickets.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Longest id accepted from outside, in bytes.
pub const MAX_ID_BYTES: usize = 64;

/// True for the characters that are safe in a store key, a file name and a URL alike.
fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

macro_rules! string_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// A new id that sorts by creation time (UUID version 7, RFC 9562).
            pub fn generate() -> Self {
                Self(uuid::Uuid::now_v7().simple().to_string())
            }

            /// The id as text: 1 to [`MAX_ID_BYTES`] of `[A-Za-z0-9_-]`.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = Error;

            fn from_str(text: &str) -> Result<Self> {
                let valid = !text.is_empty() && text.len() <= MAX_ID_BYTES && text.bytes().all(is_id_byte);
                if valid {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(Error::invalid(format!(
                        "{} {:?} is not valid: use 1 to {MAX_ID_BYTES} letters, digits, '-' or '_'",
                        $what,
                        text.chars().take(80).collect::<String>()
                    )))
                }
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

string_id!(
    /// One query, from submission until its record expires.
    JobId,
    "job id"
);
string_id!(
    /// One executor process. A restarted executor is a new one.
    ExecutorId,
    "executor id"
);
string_id!(
    /// One scheduler process. A restarted scheduler is a new one.
    SchedulerId,
    "scheduler id"
);
string_id!(
    /// One client session: settings and prepared statements.
    SessionId,
    "session id"
);
string_id!(
    /// The name of a cluster: the prefix of all its keys in the store.
    ClusterName,
    "cluster name"
);

/// What names a secret id, as that of a session, where people and other systems see it: the same for the same id.
pub fn fingerprint(id: &str) -> String {
    let digest = Sha256::digest(id.as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// A stage of a job, numbered from 1 in the order in which the planner cut them: inputs before readers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StageId(pub u32);

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

/// One try at one task of one stage. The attempt is part of every path, key and ticket, so that what a
/// superseded attempt writes or reports is never taken for the live one's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TaskId {
    /// The stage the task belongs to.
    pub stage: StageId,
    /// Position of the task in its stage, from 0.
    pub task: u32,
    /// Counts the tries at this task, from 0; never used twice.
    pub attempt: u32,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.stage.0, self.task, self.attempt)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_ids_from_outside_only_safe_characters_are_accepted() {
        for good in ["a", "job-1", "A_b-9"] {
            assert_eq!(good.parse::<JobId>().expect(good).as_str(), good);
        }
        let long = "x".repeat(MAX_ID_BYTES + 1);
        for bad in ["", "../etc", "a/b", "a b", "é", "a\n", long.as_str()] {
            assert!(bad.parse::<JobId>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn given_two_generated_ids_the_later_sorts_after() {
        let first = JobId::generate();
        let second = JobId::generate();
        assert!(first < second);
    }
}
