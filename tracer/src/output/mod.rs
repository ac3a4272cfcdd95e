//! What people and programs get to see.

pub mod columns;
pub mod json;
pub mod json_summary;
pub mod summary;
pub mod terminal;
pub mod text;
pub mod units;
