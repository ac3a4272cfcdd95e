//! A JSON object, written member by member: it is in no memory but the line itself.

use crate::direct::{Direct, Line};

/// An object that is being written to a line.
pub struct Object<'a> {
    line: &'a mut Line,
    /// What comes before the next key.
    before: &'static str,
}

impl<'a> Object<'a> {
    /// Begins an object at the end of `line`.
    pub fn begin(line: &'a mut Line) -> Self {
        line.push_str("{");
        Self { line, before: "\"" }
    }

    /// Ends it.
    pub fn end(self) {
        self.line.push_str("}");
    }

    /// A number.
    pub fn number(&mut self, key: &'static str, number: u64) {
        self.key(key);
        self.line.push(&number);
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, key: &'static str, value: bool) {
        self.key(key);
        self.line.push_str(if value { "true" } else { "false" });
    }

    /// A string in which nothing has to be escaped.
    pub fn plain(&mut self, key: &'static str, text: &impl Direct) {
        self.key(key);
        self.line.push_str("\"");
        self.line.push(text);
        self.line.push_str("\"");
    }

    /// Any string.
    pub fn string(&mut self, key: &'static str, text: &str) {
        self.key(key);
        if text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\') {
            self.line.push_str("\"");
            self.line.push_str(text);
            self.line.push_str("\"");
        } else {
            // A string has a JSON form in any case.
            self.line.push_str(&serde_json::to_string(text).unwrap_or_default());
        }
    }

    /// An object.
    pub fn object(&mut self, key: &'static str) -> Object<'_> {
        self.key(key);
        Object::begin(self.line)
    }

    /// An array of strings in which nothing has to be escaped.
    pub fn names(&mut self, key: &'static str, names: impl Iterator<Item = &'static str>) {
        self.key(key);
        self.line.push_str("[");
        for (index, name) in names.enumerate() {
            self.line.push_str(if index == 0 { "\"" } else { ",\"" });
            self.line.push_str(name);
            self.line.push_str("\"");
        }
        self.line.push_str("]");
    }

    fn key(&mut self, key: &'static str) {
        self.line.push_str(self.before);
        self.line.push_str(key);
        self.line.push_str("\":");
        self.before = ",\"";
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_json(text: String, name in "[\"\\\\/a\u{7f}\u{1}-\u{1f}é]{0,9}", number: u64, value: bool) {
            let mut line = Line::new();
            let mut object = Object::begin(&mut line);
            object.number("number", number);
            object.string("text", &text);
            let mut inner = object.object("object");
            inner.string("name", &name);
            inner.boolean("value", value);
            inner.end();
            object.object("empty").end();
            object.plain("plain", &number);
            object.names("names", ["one", "two"].into_iter());
            object.names("none", [].into_iter());
            object.end();
            let expected = format!(
                r#"{{"number":{number},"text":{},"object":{{"name":{},"value":{value}}},"empty":{{}},"plain":"{number}","names":["one","two"],"none":[]}}"#,
                serde_json::to_string(&text).unwrap(),
                serde_json::to_string(&name).unwrap(),
            );
            prop_assert_eq!(line.as_str(), expected);
        }
    }
}
