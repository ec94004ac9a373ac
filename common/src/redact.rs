//! What may stand in logs of addresses: enough to tell networks apart, not people.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address without its host part: /24 of IPv4, /48 of IPv6. Loopback stays as it is.
pub fn address(address: IpAddr) -> String {
    match address {
        _ if address.is_loopback() => address.to_string(),
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            format!("{}/24", Ipv4Addr::new(a, b, c, 0))
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            format!("{}/48", Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_in_a_log_names_its_network_only() {
        let shown = |text: &str| address(text.parse().expect("an address"));
        assert_eq!(shown("203.0.113.77"), "203.0.113.0/24");
        assert_eq!(shown("2001:db8:1:2:3::4"), "2001:db8:1::/48");
        assert_eq!(shown("127.0.0.1"), "127.0.0.1");
    }
}
