//! The values that rules compare with, as numbers: addresses, ports, names of protocols and states.

use super::rules::{Field, IPV4, IPV6, TCP, Values, state};
use serde_json::Value;
use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

/// Every value.
pub const ANY: RangeInclusive<u128> = 0..=u128::MAX;
/// Some protocol that is not TCP, nor IPv4 or IPv6.
const OTHER: u128 = 255;

/// A field whose values are written as those of a set of this type are.
pub fn of_type(name: &str) -> Option<Field> {
    Some(match name {
        "ipv4_addr" => Field::Source4,
        "ipv6_addr" => Field::Source6,
        "inet_service" => Field::SourcePort,
        "inet_proto" => Field::Protocol,
        "nf_proto" | "ether_type" => Field::NetworkProtocol,
        "ct_state" => Field::State,
        _ => return None,
    })
}

/// The elements of a set in `nft`'s JSON; complete if all are understood.
pub fn list(field: Field, elements: &[Value]) -> Values {
    let mut values = Values { ranges: Vec::new(), complete: true };
    for element in elements {
        match range(field, element) {
            Some(range) => values.ranges.push(range),
            None => values.complete = false,
        }
    }
    values
}

/// One value, a range, or a prefix in `nft`'s JSON.
pub fn range(field: Field, value: &Value) -> Option<RangeInclusive<u128>> {
    match value {
        Value::String(text) if text == "*" => Some(ANY),
        Value::String(text) => scalar(field, text).map(|value| value..=value),
        Value::Number(number) => number.as_u64().map(|value| value.into()..=value.into()),
        Value::Object(object) => {
            if let Some(element) = object.get("elem") {
                range(field, element.get("val")?)
            } else if let Some(bounds) = object.get("range") {
                Some(*range(field, bounds.get(0)?)?.start()..=*range(field, bounds.get(1)?)?.end())
            } else {
                let prefix = object.get("prefix")?;
                network(field, prefix.get("addr")?.as_str()?, u32::try_from(prefix.get("len")?.as_u64()?).ok()?)
            }
        }
        _ => None,
    }
}

/// The addresses of a network.
pub fn network(field: Field, address: &str, length: u32) -> Option<RangeInclusive<u128>> {
    let bits = match field {
        Field::Source4 | Field::Destination4 => 32,
        Field::Source6 | Field::Destination6 => 128,
        _ => return None,
    };
    let host = u128::MAX.checked_shr(128 - bits + length).unwrap_or(0);
    let first = scalar(field, address)? & !host;
    (length <= bits).then_some(first..=first | host)
}

/// One value as text.
pub fn scalar(field: Field, text: &str) -> Option<u128> {
    match field {
        Field::Source4 | Field::Destination4 => Some(text.parse::<Ipv4Addr>().ok()?.to_bits().into()),
        Field::Source6 | Field::Destination6 => Some(text.parse::<Ipv6Addr>().ok()?.to_bits()),
        // A number, or else the name of a service.
        Field::SourcePort | Field::DestinationPort => text.parse().ok(),
        Field::Protocol => Some(if text == "tcp" { TCP } else { text.parse().unwrap_or(OTHER) }),
        Field::NetworkProtocol => Some(match text {
            "ip" | "ipv4" => IPV4,
            "ip6" | "ipv6" => IPV6,
            _ => OTHER,
        }),
        Field::State => state::NAMES.iter().find(|(name, _)| *name == text).map(|&(_, bit)| bit),
    }
}
