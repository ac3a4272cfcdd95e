//! Networks of peers as people write them.

use ipnet::{IpNet, Ipv4Net};
use std::net::IpAddr;

/// Reads `10.0.1.0/24`, `2001:db8::/32`, or a single address. An IPv4-mapped one is taken as IPv4.
///
/// # Errors
///
/// If it is none, or if it has bits beyond the prefix: then the error names the network that was most likely meant.
pub fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    let network: IpNet = text.parse().map_err(|_| {
        "write an address and a prefix length, for example 10.0.1.0/24 or 2001:db8::/32, or one address".to_owned()
    })?;
    if network.trunc() != network {
        let whole = network.trunc();
        let one = network.addr();
        return Err(format!("it has bits beyond the prefix: the network is {whole}, the single address {one}"));
    }
    Ok(canonical(network))
}

fn canonical(network: IpNet) -> IpNet {
    let mapped = match (network.addr().to_canonical(), network.prefix_len().checked_sub(96)) {
        (IpAddr::V4(address), Some(prefix)) if network.addr().is_ipv6() => Ipv4Net::new(address, prefix).ok(),
        _ => None,
    };
    mapped.map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_addresses_are_read() {
        for (text, read) in [
            ("10.0.1.0/24", "10.0.1.0/24"),
            ("10.0.1.5", "10.0.1.5/32"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:10.0.0.1", "10.0.0.1/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(network(text).unwrap().to_string(), read, "{text}");
        }
    }

    #[test]
    fn a_wrong_network_is_answered_with_the_right_one() {
        let error = network("10.0.1.5/24").unwrap_err();
        assert_eq!(error, "it has bits beyond the prefix: the network is 10.0.1.0/24, the single address 10.0.1.5");
        for wrong in ["", "10.0.1/24", "10.0.1.0/33", "web", "10.0.1.0/"] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
    }
}
