//! Reading what `nft` prints: the ruleset as JSON (`libnftables-json(5)`), and the text of single rules.
//!
//! The JSON is read element by element, so that a large ruleset never is in memory as a whole.

use super::{
    expression::{condition, key},
    rules::{Base, Chain, Condition, Elements, Entry, Family, Field, Hook, Map, Place, Ruleset, Verdict},
    values,
};
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::Value;
use std::{collections::HashMap, fmt, io::BufRead};

/// Elements of a set that are kept at most.
const MAX_ELEMENTS: usize = 2048;

/// Reads what `nft -j -a list ruleset` prints. `None` if it is not understood or too large.
pub fn parse(json: impl BufRead) -> Option<Ruleset> {
    serde_json::from_reader(json).ok().map(|Document { nftables: Everything(ruleset) }| ruleset)
}

#[derive(Deserialize)]
struct Document {
    nftables: Everything,
}

struct Everything(Ruleset);

impl<'de> Deserialize<'de> for Everything {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Everything;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the elements of a ruleset")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Everything, A::Error> {
                let mut ruleset = Ruleset::default();
                while let Some(element) = elements.next_element::<Element>()? {
                    take(&mut ruleset, element).ok_or_else(|| A::Error::custom("too many rules"))?;
                }
                Ok(Everything(ruleset))
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}

/// An element; it has one of these members, or one that does not matter.
#[derive(Deserialize)]
struct Element {
    chain: Option<ChainElement>,
    rule: Option<RuleElement>,
    set: Option<SetElement>,
    map: Option<SetElement>,
}

#[derive(Deserialize)]
struct ChainElement {
    family: String,
    table: String,
    name: String,
    hook: Option<String>,
    prio: Option<i64>,
    policy: Option<String>,
}

#[derive(Deserialize)]
struct RuleElement {
    family: String,
    table: String,
    chain: String,
    handle: Option<u64>,
    #[serde(default)]
    expr: Vec<Value>,
}

#[derive(Deserialize)]
struct SetElement {
    family: String,
    table: String,
    name: String,
    #[serde(rename = "type", default)]
    kind: Value,
    map: Option<Value>,
    #[serde(default)]
    flags: Value,
    #[serde(default)]
    elem: First,
}

/// The first elements of a set, and whether these are all.
struct First {
    elements: Vec<Value>,
    all: bool,
}

impl Default for First {
    fn default() -> Self {
        Self { elements: Vec::new(), all: true }
    }
}

impl<'de> Deserialize<'de> for First {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = First;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the elements of a set")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<First, A::Error> {
                let mut first = First::default();
                while first.elements.len() < MAX_ELEMENTS {
                    let Some(element) = sequence.next_element()? else { return Ok(first) };
                    first.elements.push(element);
                }
                while sequence.next_element::<IgnoredAny>()?.is_some() {
                    first.all = false;
                }
                Ok(first)
            }
        }
        deserializer.deserialize_seq(Reader)
    }
}

/// Adds an element to the ruleset. `None` if there are too many.
fn take(ruleset: &mut Ruleset, element: Element) -> Option<()> {
    if let Some(ChainElement { family, table, name, hook, prio, policy }) = element.chain {
        let Some(family) = Family::named(&family) else { return Some(()) };
        let hook = hook.and_then(|hook| Hook::named(&hook));
        let drops = policy.as_deref() == Some("drop");
        let base = hook.map(|hook| Base { hook, priority: prio.unwrap_or(0), drops });
        ruleset.chains.insert(Place { family, table, chain: name }, Chain { base, entries: Vec::new() });
    } else if let Some(RuleElement { family, table, chain, handle, expr }) = element.rule {
        let Some(family) = Family::named(&family) else { return Some(()) };
        let statements = expr.iter().filter_map(|statement| statement.as_object()?.iter().next());
        if statements.clone().any(|(kind, _)| kind == "xt") && !ruleset.opaque.contains(&family) {
            ruleset.opaque.push(family);
        }
        if let Some((conditions, verdict)) = rule(statements) {
            ruleset.add(Place { family, table, chain }, Entry { handle, text: None, conditions, verdict })?;
        }
    } else if let Some(set) = element.set {
        let Some(family) = Family::named(&set.family) else { return Some(()) };
        let field = set.kind.as_str().and_then(values::of_type);
        let mut values = field.map(|field| values::list(field, &set.elem.elements)).unwrap_or_default();
        // What packets or time change may have changed since it was read.
        let changes = |flag: &Value| matches!(flag.as_str(), Some("dynamic" | "timeout"));
        let is_steady = !set.flags.as_array().is_some_and(|flags| flags.iter().any(changes));
        values.complete &= set.elem.all && is_steady;
        ruleset.sets.insert((family, set.table, set.name), values);
    } else if let Some(map) = element.map
        && map.map.as_ref().and_then(Value::as_str) == Some("verdict")
    {
        let Some(family) = Family::named(&map.family) else { return Some(()) };
        let verdicts = verdicts(map.kind.as_str().and_then(values::of_type), &map.elem.elements);
        ruleset.maps.insert((family, map.table, map.name), verdicts);
    }
    Some(())
}

/// What a rule matches and decides; `None` if it decides nothing, as one that only counts.
fn rule<'a>(statements: impl Iterator<Item = (&'a String, &'a Value)>) -> Option<(Vec<Condition>, Verdict)> {
    let mut conditions = Vec::new();
    for (kind, body) in statements {
        match kind.as_str() {
            "match" => conditions.extend(condition(body)),
            "vmap" => {
                let (field, needed) = key(body.get("key")?);
                conditions.extend(needed);
                let elements = match body.get("data")? {
                    Value::String(name) => Elements::Named(name.trim_start_matches('@').to_owned()),
                    data => {
                        let elements = data.get("set").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                        Elements::Here(verdicts(field, elements))
                    }
                };
                return Some((conditions, Verdict::Map(field, elements)));
            }
            "xt" => match (body.get("type").and_then(Value::as_str), body.get("name").and_then(Value::as_str)) {
                (Some("target"), Some("REJECT")) => return Some((conditions, Verdict::Reject)),
                (Some("target"), Some("DNAT" | "SNAT" | "REDIRECT" | "MASQUERADE" | "NFQUEUE")) => {
                    return Some((conditions, Verdict::Accept));
                }
                (Some("target"), _) | (_, Some("comment")) => {}
                _ => conditions.push(Condition::UNKNOWN),
            },
            "counter" | "log" | "mangle" | "notrack" | "ct helper" | "ct timeout" | "ct expectation" | "dup"
            | "flow" | "secmark" | "tproxy" | "last" | "continue" => {}
            _ => match verdict(kind, body) {
                Some(verdict) => return Some((conditions, verdict)),
                // Such as limits, which depend on the packets before.
                None => conditions.push(Condition::UNKNOWN),
            },
        }
    }
    None
}

fn verdict(kind: &str, body: &Value) -> Option<Verdict> {
    let target = || body.get("target").and_then(Value::as_str).map(str::to_owned);
    Some(match kind {
        "accept" | "queue" | "dnat" | "snat" | "redirect" | "masquerade" | "fwd" | "synproxy" => Verdict::Accept,
        "drop" => Verdict::Drop,
        "reject" => Verdict::Reject,
        "return" => Verdict::Return,
        "jump" => Verdict::Jump(target()?),
        "goto" => Verdict::Goto(target()?),
        _ => return None,
    })
}

/// The elements of a verdict map; those that are not understood are left out, unless no key is.
fn verdicts(field: Option<Field>, elements: &[Value]) -> Map {
    let pair = |element: &Value| {
        let [key, decision] = element.as_array()?.as_slice() else { return None };
        let range = field.map_or(Some(values::ANY), |field| values::range(field, key))?;
        let (kind, body) = decision.as_object()?.iter().next()?;
        Some((range, verdict(kind, body)?))
    };
    let mut map: Map = elements.iter().filter_map(pair).collect();
    // `*` stands for what no other element has.
    map.sort_by_key(|(range, _)| *range == values::ANY);
    map
}

/// The text of the rules with these `handles`, in what `nft -s -a list chain` prints. A long rule takes several lines.
pub fn texts(listing: impl BufRead, handles: &[u64]) -> HashMap<u64, String> {
    let mut texts = HashMap::new();
    let mut rule = String::new();
    for line in listing.lines().map_while(Result::ok) {
        let line = line.trim();
        // Not rules: what the chain begins with.
        if line.ends_with('}') && line.len() == 1
            || ["table ", "chain ", "type "].iter().any(|word| line.starts_with(word))
        {
            rule.clear();
            continue;
        }
        let (text, handle) = match line.rsplit_once(" # handle ") {
            Some((text, handle)) => (text, handle.parse().ok()),
            None => (line, None),
        };
        if !rule.is_empty() {
            rule.push(' ');
        }
        rule.push_str(text);
        if let Some(handle) = handle {
            let rule = std::mem::take(&mut rule);
            if handles.contains(&handle) {
                texts.insert(handle, rule);
            }
        }
    }
    texts
}
