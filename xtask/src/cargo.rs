//! What `cargo test` says of its tests.

/// The number of passed tests in a line such as `test result: ok. 3 passed; 0 failed; …`; of any other line 0.
pub fn passed_in(line: &str) -> usize {
    let (_, counts) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")).unwrap_or_default();
    counts.split(" passed").next().and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// The name of the test that failed, in a line such as `test of::a_thing ... FAILED`.
pub fn failed_in(line: &str) -> Option<&str> {
    line.strip_prefix("test ")?.strip_suffix(" ... FAILED")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_are_counted_from_the_result_lines() {
        assert_eq!(passed_in("test result: ok. 24 passed; 0 failed; 1 ignored; 0 measured"), 24);
        assert_eq!(passed_in("test result: FAILED. 3 passed; 1 failed; 0 ignored"), 3);
        assert_eq!(passed_in("test result: FAILED. "), 0);
        assert_eq!(passed_in("test sums ... ok"), 0);
    }

    #[test]
    fn failed_tests_are_named_to_be_run_again() {
        assert_eq!(failed_in("test of::a_thing ... FAILED"), Some("of::a_thing"));
        assert_eq!(failed_in("test of::a_thing ... ok"), None);
        assert_eq!(failed_in("test result: FAILED. 3 passed; 1 failed"), None);
    }
}
