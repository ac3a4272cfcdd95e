//! The matches of rules in `nft`'s JSON (`libnftables-json(5)`).

use super::{
    rules::{Condition, Elements, Field, IPV4, IPV6, Test, Values},
    values,
};
use serde_json::Value;

/// What the left side of a match is.
enum Left {
    Field(Field),
    /// The TCP flags in this mask.
    Flags(u8),
    /// Something that TCP packets do not have.
    Never,
    Unknown,
}

/// The conditions that a match comes to.
pub fn condition(body: &Value) -> Vec<Condition> {
    let (left, mut conditions) = body.get("left").map_or((Left::Unknown, Vec::new()), left);
    let right = body.get("right").unwrap_or(&Value::Null);
    let operator = body.get("op").and_then(Value::as_str).unwrap_or("==");
    let negated = operator == "!=";
    let test = match left {
        Left::Field(field) => compare(field, operator, right).map(|elements| Test::Among(field, elements)),
        Left::Flags(mask) => flags(right).and_then(|value| match operator {
            "==" | "!=" => Some(Test::Flags { mask, value }),
            "in" => Some(Test::AnyFlag(value & mask)),
            _ => None,
        }),
        Left::Never => Some(Test::Never),
        Left::Unknown => None,
    };
    conditions.push(Condition { test: test.unwrap_or(Test::Unknown), negated });
    conditions
}

/// The field that a map is looked up with, and what must hold for the packet to have it.
pub fn key(body: &Value) -> (Option<Field>, Vec<Condition>) {
    let (left, mut conditions) = left(body);
    match left {
        Left::Field(field) => (Some(field), conditions),
        Left::Never => {
            conditions.push(Condition::NEVER);
            (None, conditions)
        }
        Left::Flags(_) | Left::Unknown => (None, conditions),
    }
}

/// The values of `right`, or those that compare with it as `operator` says; those of `!=` are what it excludes.
fn compare(field: Field, operator: &str, right: &Value) -> Option<Elements<Values>> {
    let here = |ranges| Some(Elements::Here(Values { ranges, complete: true }));
    let number = || values::range(field, right).map(|range| *range.start());
    match (operator, right) {
        ("==" | "!=" | "in", Value::String(text)) if text.starts_with('@') => {
            Some(Elements::Named(text[1..].to_owned()))
        }
        ("==" | "!=" | "in", _) => {
            let elements = right.get("set").unwrap_or(right);
            let elements = elements.as_array().map_or(std::slice::from_ref(elements), Vec::as_slice);
            Some(Elements::Here(values::list(field, elements)))
        }
        ("<", _) => here(number()?.checked_sub(1).map(|last| 0..=last).into_iter().collect()),
        ("<=", _) => here(vec![0..=number()?]),
        (">", _) => here(vec![number()?.checked_add(1)?..=u128::MAX]),
        (">=", _) => here(vec![number()?..=u128::MAX]),
        _ => None,
    }
}

/// What the left side is, and what `nft` leaves unsaid: a match of an IPv4 address is also one of IPv4.
fn left(body: &Value) -> (Left, Vec<Condition>) {
    let text = |object: &Value, name| object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    if let Some(payload) = body.get("payload") {
        let (protocol, member) = (text(payload, "protocol"), text(payload, "field"));
        let left = match (protocol.as_str(), member.as_str()) {
            ("ip", "saddr") => Left::Field(Field::Source4),
            ("ip", "daddr") => Left::Field(Field::Destination4),
            ("ip6", "saddr") => Left::Field(Field::Source6),
            ("ip6", "daddr") => Left::Field(Field::Destination6),
            ("ip", "protocol") | ("ip6", "nexthdr") => Left::Field(Field::Protocol),
            ("tcp" | "th", "sport") => Left::Field(Field::SourcePort),
            ("tcp" | "th", "dport") => Left::Field(Field::DestinationPort),
            ("tcp", "flags") => Left::Flags(u8::MAX),
            ("" | "ip" | "ip6" | "tcp" | "th" | "ether" | "vlan", _) => Left::Unknown,
            // Other protocols on IP.
            _ => Left::Never,
        };
        let network = match protocol.as_str() {
            "ip" => Some(IPV4),
            "ip6" => Some(IPV6),
            _ => None,
        };
        return (left, network.map(|network| Condition::is(Field::NetworkProtocol, network)).into_iter().collect());
    }
    let other = if let Some([flags_of, mask]) = body.get("&").and_then(Value::as_array).map(Vec::as_slice)
        && let (Left::Flags(_), _) = left(flags_of)
        && let Some(mask) = flags(mask)
    {
        Left::Flags(mask)
    } else {
        let named = |group, name| body.get(group).is_some_and(|group| text(group, "key") == name);
        match () {
            () if named("meta", "l4proto") => Left::Field(Field::Protocol),
            () if named("meta", "nfproto") || named("meta", "protocol") => Left::Field(Field::NetworkProtocol),
            () if named("ct", "state") => Left::Field(Field::State),
            () => Left::Unknown,
        }
    };
    (other, Vec::new())
}

/// TCP flags as a number, a name, or several of these.
fn flags(value: &Value) -> Option<u8> {
    const NAMES: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"];
    match value {
        Value::String(name) => NAMES.iter().position(|known| known == name).map(|bit| 1 << bit),
        Value::Number(number) => u8::try_from(number.as_u64()?).ok(),
        Value::Array(several) => several.iter().map(flags).try_fold(0, |all, one| Some(all | one?)),
        Value::Object(object) => flags(object.get("|")?),
        _ => None,
    }
}
