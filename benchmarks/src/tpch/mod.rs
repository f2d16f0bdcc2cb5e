//! TPC-H: the data generator, the 22 queries, the committed answers and the comparison with them.

mod answers;
mod generate;
mod manifest;
mod queries;
mod scale;
mod tables;
mod value;
mod verify;

pub use answers::{Answer, Column, scales_with_answers};
pub use generate::{expected_rows, generate};
pub use queries::{QUERIES, Query};
pub use scale::{InvalidScale, Scale};
pub use tables::Table;
pub use value::{Kind, Value};
pub use verify::{Mismatch, verify};
