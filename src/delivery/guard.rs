//! The address guard: an endpoint that was not allowed into the private network does not get there,
//! whatever its host name resolves to at the moment.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Why a host name gave no address to connect to.
#[derive(Debug)]
pub(super) enum Unresolved {
    /// The resolver's answer.
    Failed(std::io::Error),
    /// It answered with nothing.
    Empty,
    /// All addresses are private ones.
    Private(IpAddr),
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unresolved::Failed(error) => {
                write!(f, "the host name of `url` cannot be resolved: {error}")
            }
            Unresolved::Empty => f.write_str("the host name of `url` has no address"),
            Unresolved::Private(address) => write!(
                f,
                "the host of `url` is in a private network ({address}); set \
                 `allow_private_network = true` if that is meant"
            ),
        }
    }
}

impl std::error::Error for Unresolved {}

/// Resolves with the system's resolver and leaves out what is not allowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver {
    private_network: bool,
}

impl Resolver {
    pub(super) fn new(private_network: bool) -> Resolver {
        Resolver { private_network }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let private_network = self.private_network;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let found: Vec<SocketAddr> = found.map_err(Unresolved::Failed)?.collect();
            Ok(Box::new(allowed(found, private_network)?.into_iter()) as Addrs)
        })
    }
}

fn allowed(
    mut found: Vec<SocketAddr>,
    private_network: bool,
) -> Result<Vec<SocketAddr>, Unresolved> {
    let first = found.first().ok_or(Unresolved::Empty)?.ip();
    if !private_network {
        found.retain(|address| is_public(address.ip()));
    }
    if found.is_empty() { Err(Unresolved::Private(first)) } else { Ok(found) }
}

/// Whether a URL names a private address itself, so that no resolver is ever asked.
pub(super) fn private_literal(url: &Url) -> Option<IpAddr> {
    let address = match url.host()? {
        Host::Ipv4(address) => IpAddr::V4(address),
        Host::Ipv6(address) => IpAddr::V6(address),
        Host::Domain(_) => return None,
    };
    (!is_public(address)).then_some(address)
}

/// Whether an address belongs to the public internet, by the special-purpose registries of IANA
/// (RFC 6890 and its updates).
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (18..20).contains(&b)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match segments {
        // Mapped (::ffff:0:0/96) and translated (64:ff9b::/96) IPv4; 6to4.
        [0, 0, 0, 0, 0, 0xFFFF, high, low] | [0x64, 0xFF9B, 0, 0, 0, 0, high, low] => {
            embedded(high, low)
        }
        [0x2002, high, low, ..] => embedded(high, low),
        // Documentation.
        [0x2001, 0xDB8, ..] | [0x3FFF, 0..0x1000, ..] => false,
        // Teredo and other protocol assignments.
        [0x2001, second, ..] if second < 0x200 => false,
        // Of all the rest, only 2000::/3 was ever given to the public.
        [first, ..] => first & 0xE000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_and_public_addresses() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "fc00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "::7f00:1",
            "::ffff:0:7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "3fff::1",
            "5f00::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
        for public in [
            "1.1.1.1",
            "172.32.0.1",
            "100.128.0.1",
            "192.0.1.1",
            "2606:4700::1111",
            "::ffff:1.1.1.1",
            "2001:4860:4860::8888",
            "3ffe::1",
            "64:ff9b::101:101",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn only_public_addresses_are_left() {
        let mixed: Vec<SocketAddr> =
            ["10.0.0.1:0", "1.1.1.1:0"].map(|text| text.parse().unwrap()).to_vec();
        assert_eq!(allowed(mixed.clone(), false).unwrap(), mixed[1..]);
        assert_eq!(allowed(mixed.clone(), true).unwrap(), mixed);
        let refused = allowed(mixed[..1].to_vec(), false).unwrap_err().to_string();
        assert!(refused.contains("10.0.0.1") && refused.contains("allow_private_network"));
        for (url, private) in [
            ("http://127.1/", true),
            ("http://0x7f000001/", true),
            ("http://[::1]:80/", true),
            ("http://1.1.1.1/", false),
            ("http://localhost/", false),
        ] {
            assert_eq!(private_literal(&url.parse().unwrap()).is_some(), private, "{url}");
        }
    }
}
