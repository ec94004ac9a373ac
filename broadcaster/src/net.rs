//! What counts as one customer on the network.

use std::net::{IpAddr, Ipv6Addr};

/// The address that limits count by: IPv4 as it is, however it was written; of IPv6 the /64, which
/// is one customer's.
pub(crate) fn customer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        v6 @ IpAddr::V6(_) if v6.is_loopback() => v6,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_64_is_one_customer_and_so_is_an_ipv4_address_in_both_spellings() {
        let of = |text: &str| customer(text.parse().expect("an address"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert!(of("::1").is_loopback());
    }
}
