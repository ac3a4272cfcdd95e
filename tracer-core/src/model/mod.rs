//! What the pipeline speaks of, and what is known of it.

pub mod application;
pub mod clock;
pub mod facts;
pub mod listener;
pub mod namespaces;
pub mod peer;
pub mod place;
pub mod reconciliation;
pub mod rejection;
pub mod request;
pub mod selection;
pub mod status;
pub mod tallies;
