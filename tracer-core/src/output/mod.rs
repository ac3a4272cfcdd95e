//! What people and programs get to see.

pub mod columns;
pub mod json;
pub mod json_rejection;
pub mod json_summary;
pub mod reconciliation;
pub mod rejection;
pub mod summary;
pub mod terminal;
pub mod text;
pub mod verdict;
