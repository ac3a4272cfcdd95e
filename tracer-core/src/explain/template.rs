//! Sentences with gaps.
//!
//! ```text
//! {name}      the value of that name
//! {?name}     prints nothing: asks only whether the value is known
//! [a|b|c]     the first of these in which every value is known; nothing if there is none
//! ```
//!
//! Any value may be unknown, so gaps are only within square brackets. Brackets do not nest.

/// Fills the gaps of `template` with what `value` knows.
pub fn render(template: &str, value: impl Fn(&str) -> Option<String>) -> String {
    let mut text = String::with_capacity(2 * template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('[') {
        let (part, behind) = after.split_once(']').unwrap_or((after, ""));
        text.push_str(before);
        text.extend(part.split('|').find_map(|alternative| fill(alternative, &value)));
        rest = behind;
    }
    text.push_str(rest);
    text
}

/// `None` if a value is not known.
fn fill(alternative: &str, value: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut text = String::new();
    let mut rest = alternative;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}')?;
        text.push_str(before);
        match name.strip_prefix('?') {
            Some(name) => _ = value(name)?,
            None => text.push_str(&value(name)?),
        }
        rest = behind;
    }
    text.push_str(rest);
    Some(text)
}

/// The names in the gaps of `template`, or what is wrong with it.
#[cfg(test)]
pub fn names(template: &str) -> Result<Vec<&str>, String> {
    let mut names = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('[') {
        let (part, behind) = after.split_once(']').ok_or("a [ without its ]")?;
        plain(before)?;
        for alternative in part.split('|') {
            let mut pieces = alternative.split('{');
            plain(pieces.next().unwrap_or_default())?;
            for piece in pieces {
                let (name, text) = piece.split_once('}').ok_or("a { without its }")?;
                plain(text)?;
                names.push(name.strip_prefix('?').unwrap_or(name));
            }
        }
        rest = behind;
    }
    plain(rest)?;
    Ok(names)
}

#[cfg(test)]
fn plain(text: &str) -> Result<(), String> {
    if text.contains(['[', ']', '{', '}']) { Err(format!("a gap or bracket out of place in {text:?}")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::{names, render};

    fn value(name: &str) -> Option<String> {
        match name {
            "who" => Some("nginx[77]".to_owned()),
            "figure" => Some("129".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn gaps_are_filled_and_parts_without_their_value_vanish() {
        for (template, text) in [
            ("Nothing.", "Nothing."),
            ("[{who}|Something] accepts.", "nginx[77] accepts."),
            ("[{unknown}|Something] accepts[ ({unknown})].", "Something accepts."),
            ("Full[ ({figure}/{unknown})| ({figure})].", "Full (129)."),
            ("Full[{?figure}, counted][{?unknown}, guessed].", "Full, counted."),
            ("a | b", "a | b"),
        ] {
            assert_eq!(render(template, value), text, "{template}");
        }
    }

    #[test]
    fn values_are_not_templates() {
        assert_eq!(render("[{x}]", |_| Some("[{x}|y]".to_owned())), "[{x}|y]");
    }

    #[test]
    fn what_is_wrong_is_told_but_rendered_all_the_same() {
        assert_eq!(names("[{a}|b {?c}] d"), Ok(vec!["a", "c"]));
        for wrong in ["{a}", "[a", "a]", "[a [b] c]", "[{a]", "[a}]"] {
            assert!(names(wrong).is_err(), "{wrong}");
            let _ = render(wrong, value);
        }
    }
}
