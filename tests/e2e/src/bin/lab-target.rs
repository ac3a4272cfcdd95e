//! The target of the lab: see `lab::target`.

use anyhow::Result;

fn main() -> Result<()> {
    lab::target::server::run(lab::target::Options::parse(std::env::args().skip(1))?)
}
