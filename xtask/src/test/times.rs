//! How long each part of the tests took, and how many tests passed in it.

use std::{
    fmt::{self, Display},
    time::{Duration, Instant},
};

use anyhow::Result;

/// The table that `test` ends with.
#[derive(Default)]
pub struct Times(Vec<Row>);

struct Row {
    name: String,
    /// Whether it is a suite of the part above it.
    is_suite: bool,
    elapsed: Duration,
    passed: usize,
}

impl Times {
    /// Runs a part under its headline.
    pub fn part(&mut self, name: &str, part: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        println!("== {name}");
        let (row, started) = (self.0.len(), Instant::now());
        self.0.push(Row { name: name.to_owned(), is_suite: false, elapsed: Duration::ZERO, passed: 0 });
        let outcome = part(self);
        self.0[row].elapsed = started.elapsed();
        outcome
    }

    /// Adds tests that passed in the part that is running, beside those of its suites.
    pub fn passed_here(&mut self, passed: usize) {
        if let Some(part) = self.0.iter_mut().rfind(|row| !row.is_suite) {
            part.passed += passed;
        }
    }

    /// Adds a suite of the part that is running.
    pub fn suite(&mut self, name: &str, elapsed: Duration, passed: usize) {
        self.0.push(Row { name: name.to_owned(), is_suite: true, elapsed, passed });
    }

    /// How many tests passed in all.
    pub fn passed(&self) -> usize {
        self.0.iter().map(|row| row.passed).sum()
    }

    /// How many tests passed in the part in this row, with those of its suites.
    fn passed_in_part(&self, row: usize) -> usize {
        let suites = self.0[row + 1..].iter().take_while(|row| row.is_suite);
        self.0[row].passed + suites.map(|suite| suite.passed).sum::<usize>()
    }
}

impl Display for Times {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        writeln!(formatter, "{:<24} {:>7} {:>7}", "PART", "TIME", "PASSED")?;
        for (index, row) in self.0.iter().enumerate() {
            let name = if row.is_suite { format!("  {}", row.name) } else { row.name.clone() };
            let passed = if row.is_suite { row.passed } else { self.passed_in_part(index) };
            let passed = if passed > 0 { passed.to_string() } else { String::new() };
            let line = format!("{name:<24} {:>5} s {passed:>7}", row.elapsed.as_secs_f64().round());
            writeln!(formatter, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn each_part_has_a_row_also_the_one_that_failed() {
        let mut times = Times::default();
        times
            .part("host", |times| {
                times.passed_here(3);
                Ok(())
            })
            .unwrap();
        let failed = times.part("end to end", |times| {
            times.passed_here(1);
            times.suite("rejections", Duration::from_millis(1600), 20);
            times.suite("lab", Duration::from_secs(12), 4);
            Err(anyhow!("no"))
        });
        assert!(failed.is_err());
        assert_eq!(times.passed(), 28);
        let expected = "PART                        TIME  PASSED\n\
                        host                         0 s       3\n\
                        end to end                   0 s      25\n  \
                          rejections                 2 s      20\n  \
                          lab                       12 s       4\n";
        assert_eq!(times.to_string(), expected);
    }
}
