//! The address guard: an endpoint gets only where its [`Networks`] let it, whatever its host name
//! resolves to at the moment. Addresses are checked between resolving and connecting, and the client
//! connects to no others, so a name that changes its answer changes nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use super::endpoint::Networks;

/// Why an address is not connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It does not belong to the public internet.
    Private(IpAddr),
    /// A cloud hands out its credentials there.
    Metadata(IpAddr),
    /// The configuration forbids it.
    Denied(IpAddr),
}

impl Refusal {
    /// What can be done about it, if it should be allowed.
    pub fn remedy(&self) -> &'static str {
        match self {
            Refusal::Private(_) => {
                "set `allow_private_network = true`, or add it to `allow_networks`, if that is meant"
            }
            Refusal::Metadata(_) => "add it to `allow_networks` if that is meant",
            Refusal::Denied(_) => "take it out of `deny_networks` if it is to be allowed",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Private(address) => write!(f, "{address}, an address of a private network"),
            Refusal::Metadata(address) => {
                write!(f, "{address}, where a cloud hands out credentials to its machines")
            }
            Refusal::Denied(address) => write!(f, "{address}, which `deny_networks` forbids"),
        }
    }
}

impl Networks {
    /// Whether an address may be connected to. What is denied stays so, whatever allows it; what is
    /// allowed may be private.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, address: IpAddr) -> Result<(), Refusal> {
        let plain = address.to_canonical();
        let carried = match address {
            IpAddr::V4(_) => None,
            IpAddr::V6(address) => embedded(address).map(IpAddr::V4),
        };
        let denied = |of: IpAddr| self.deny.iter().any(|network| network.contains(&of));
        if denied(address) || denied(plain) || carried.is_some_and(denied) {
            return Err(Refusal::Denied(address));
        }
        if self.allow.iter().any(|net| net.contains(&plain) || net.contains(&address)) {
            return Ok(());
        }
        if is_metadata(plain) || carried.is_some_and(is_metadata) {
            return Err(Refusal::Metadata(address));
        }
        if self.private || is_public(address) { Ok(()) } else { Err(Refusal::Private(address)) }
    }

    /// The addresses that may be connected to.
    ///
    /// # Errors
    /// Why the first must not be, where none may.
    pub fn permitted(&self, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Refusal> {
        let mut refusal = None;
        let mut permitted = found;
        permitted.retain(|address| match self.check(address.ip()) {
            Ok(()) => true,
            Err(why) => {
                refusal.get_or_insert(why);
                false
            }
        });
        match refusal {
            Some(why) if permitted.is_empty() => Err(why),
            _ => Ok(permitted),
        }
    }

    /// Checks a URL that names an address itself, so that no resolver is ever asked.
    ///
    /// # Errors
    /// Why it must not be connected to.
    pub fn check_literal(&self, url: &Url) -> Result<(), Refusal> {
        match url.host() {
            Some(Host::Ipv4(address)) => self.check(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => self.check(IpAddr::V6(address)),
            Some(Host::Domain(_)) | None => Ok(()),
        }
    }
}

/// Why a host name gave no address to connect to.
#[derive(Debug)]
pub(super) enum Unresolved {
    /// The resolver's answer.
    Failed { whose: &'static str, error: std::io::Error },
    /// It answered with nothing.
    Empty { whose: &'static str },
    /// None of the addresses may be connected to.
    Refused(Refusal),
}

impl fmt::Display for Unresolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unresolved::Failed { whose, error } => {
                write!(f, "the host name of `{whose}` cannot be resolved: {error}")
            }
            Unresolved::Empty { whose } => {
                write!(f, "the host name of `{whose}` has no address")
            }
            Unresolved::Refused(refusal) => {
                write!(f, "the host of `url` leads to {refusal}; {}", refusal.remedy())
            }
        }
    }
}

impl std::error::Error for Unresolved {}

#[cfg(test)]
type Script = dyn Fn(&str) -> Vec<SocketAddr> + Send + Sync;

/// What is asked for the addresses of a name.
#[derive(Clone)]
pub(super) enum Lookup {
    /// The system's resolver.
    System,
    /// A test.
    #[cfg(test)]
    Script(Arc<Script>),
}

impl Lookup {
    async fn addresses(&self, name: &str) -> std::io::Result<Vec<SocketAddr>> {
        match self {
            Lookup::System => Ok(tokio::net::lookup_host((name, 0)).await?.collect()),
            #[cfg(test)]
            Lookup::Script(script) => Ok(script(name)),
        }
    }
}

/// Resolves a name for each new connection, and leaves out what is not allowed.
#[derive(Clone)]
pub(super) struct Resolver {
    lookup: Lookup,
    /// `None` lets everything pass: the names are those of a proxy that the configuration names.
    networks: Option<Arc<Networks>>,
}

impl Resolver {
    /// For the host of an endpoint's URL.
    pub(super) fn guarded(networks: Networks, lookup: Lookup) -> Resolver {
        Resolver { lookup, networks: Some(Arc::new(networks)) }
    }

    /// For the host of a proxy.
    pub(super) fn for_proxy(lookup: Lookup) -> Resolver {
        Resolver { lookup, networks: None }
    }

    /// The addresses of a name, without ports.
    pub(super) async fn addresses(&self, name: &str) -> Result<Vec<SocketAddr>, Unresolved> {
        let whose = if self.networks.is_some() { "url" } else { "proxy" };
        let found = self.lookup.addresses(name).await;
        let found = found.map_err(|error| Unresolved::Failed { whose, error })?;
        if found.is_empty() {
            return Err(Unresolved::Empty { whose });
        }
        self.permitted(found)
    }

    /// Those of the addresses that may be connected to.
    pub(super) fn permitted(&self, found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, Unresolved> {
        match &self.networks {
            Some(networks) => networks.permitted(found).map_err(Unresolved::Refused),
            None => Ok(found),
        }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = resolver.addresses(name.as_str()).await?;
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
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
        // The relays of 6to4, which are no more.
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b)))
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // What leads to an IPv4 address is worth what that is.
    if embedded(address).is_some_and(|carried| !is_public_v4(carried)) {
        return false;
    }
    match address.segments() {
        // Mapped (::ffff:0:0/96) and translated (64:ff9b::/96) IPv4.
        [0, 0, 0, 0, 0, 0xFFFF, ..] | [0x64, 0xFF9B, 0, 0, 0, 0, ..] => true,
        // Documentation.
        [0x2001, 0xDB8, ..] | [0x3FFF, 0..0x1000, ..] => false,
        // Teredo and other protocol assignments.
        [0x2001, second, ..] if second < 0x200 => false,
        // Of all the rest, only 2000::/3 was ever given to the public.
        [first, ..] => first & 0xE000 == 0x2000,
    }
}

/// The IPv4 address that an IPv6 address carries, in the ways in which packets to the one get to
/// the other.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let join = |high: u16, low: u16| Ipv4Addr::from(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        // Unspecified and loopback only look as if.
        [0, 0, 0, 0, 0, 0, 0, 0..=1] => None,
        // Compatible (deprecated), mapped, and translated (SIIT, RFC 2765).
        [0, 0, 0, 0, 0, 0 | 0xFFFF, high, low] | [0, 0, 0, 0, 0xFFFF, 0, high, low] => {
            Some(join(high, low))
        }
        // NAT64: the well-known prefix (RFC 6052), and the local one (RFC 8215).
        [0x64, 0xFF9B, 0, 0, 0, 0, high, low] | [0x64, 0xFF9B, 1, .., high, low] => {
            Some(join(high, low))
        }
        // 6to4.
        [0x2002, high, low, ..] => Some(join(high, low)),
        // Teredo: the client's address, inverted.
        [0x2001, 0, .., high, low] => Some(join(!high, !low)),
        // ISATAP, in whatever network.
        [_, _, _, _, 0 | 0x200, 0x5EFE, high, low] => Some(join(high, low)),
        _ => None,
    }
}

/// Where the machines of clouds get credentials from, without having to prove anything.
fn is_metadata(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => matches!(
            address.octets(),
            // Most of them, and Amazon's containers.
            [169, 254, 169, 254] | [169, 254, 170, 2 | 23]
            // Alibaba, Azure, Oracle.
            | [100, 100, 100, 200] | [168, 63, 129, 16] | [192, 0, 0, 192]
        ),
        IpAddr::V6(address) => matches!(
            address.segments(),
            // Amazon, its containers, and Google.
            [0xFD00, 0xEC2, 0, 0, 0, 0, 0, 0x23 | 0x254] | [0xFD20, 0xCE, 0, 0, 0, 0, 0, 0x254]
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(private: bool, allow: &[&str], deny: &[&str]) -> Networks {
        let list = |list: &[&str]| list.iter().map(|net| net.parse().unwrap()).collect();
        Networks { private, allow: list(allow), deny: list(deny) }
    }

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
            "192.88.99.1",
            "100.100.100.200",
            "fd00:ec2::254",
            "2001:4860::5efe:7f00:1",
            "2001:4860::200:5efe:a00:1",
            "64:ff9b::a9fe:a9fe",
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
    fn only_permitted_addresses_are_left() {
        let mixed: Vec<SocketAddr> =
            ["10.0.0.1:0", "1.1.1.1:0"].map(|text| text.parse().unwrap()).to_vec();
        let (public, all) = (networks(false, &[], &[]), networks(true, &[], &[]));
        assert_eq!(public.permitted(mixed.clone()).unwrap(), mixed[1..]);
        assert_eq!(all.permitted(mixed.clone()).unwrap(), mixed);
        let refused = public.permitted(mixed[..1].to_vec()).unwrap_err();
        assert_eq!(refused, Refusal::Private("10.0.0.1".parse().unwrap()));
        let said = Unresolved::Refused(refused).to_string();
        assert!(said.contains("10.0.0.1") && said.contains("allow_private_network"), "{said}");
    }

    #[test]
    fn hosts_that_are_addresses_are_seen_through_any_spelling() {
        let public = networks(false, &[], &[]);
        for (url, private) in [
            ("http://127.1/", true),
            ("http://0x7f000001/", true),
            ("http://2130706433/", true),
            ("http://017700000001/", true),
            ("http://0/", true),
            ("http://127.0.0.1./", true),
            ("http://\u{ff11}\u{ff12}\u{ff17}.0.0.1/", true),
            ("http://good.example@127.0.0.1/", true),
            ("http://1.1.1.1\\@127.0.0.1/", false),
            ("http://[::1]:80/", true),
            ("http://[::ffff:7f00:1]/", true),
            ("http://[fd00:ec2::254]/", true),
            ("http://1.1.1.1/", false),
            ("http://localhost/", false),
            ("http://localhost./", false),
        ] {
            assert_eq!(public.check_literal(&url.parse().unwrap()).is_err(), private, "{url}");
        }
    }

    #[test]
    fn denied_wins_over_allowed_and_allowed_over_private() {
        let check = |networks: &Networks, address: &str| networks.check(address.parse().unwrap());
        let some = networks(false, &["10.1.0.0/16", "fd00::/8"], &["10.1.2.0/24", "1.1.1.1/32"]);
        for (address, refused) in [
            ("10.1.9.9", None),
            ("::ffff:10.1.9.9", None),
            ("fd00::7", None),
            ("8.8.8.8", None),
            ("10.2.0.1", Some("private")),
            ("10.1.2.3", Some("denied")),
            ("1.1.1.1", Some("denied")),
            ("::ffff:1.1.1.1", Some("denied")),
            ("64:ff9b::101:101", Some("denied")),
            ("64:ff9b:1::a01:203", Some("denied")),
            ("2002:101:101::1", Some("denied")),
            ("2001:0:4136:e378:8000:63bf:fefe:fefe", Some("denied")),
            // Being reached by a detour is not what was allowed.
            ("64:ff9b::a01:909", Some("private")),
        ] {
            let found = match check(&some, address) {
                Ok(()) => None,
                Err(Refusal::Private(_)) => Some("private"),
                Err(Refusal::Metadata(_)) => Some("metadata"),
                Err(Refusal::Denied(_)) => Some("denied"),
            };
            assert_eq!(found, refused, "{address}");
        }
        let internal = networks(true, &[], &["fd00::/8"]);
        assert_eq!(check(&internal, "192.168.0.1"), Ok(()));
        assert!(matches!(check(&internal, "fd00::1"), Err(Refusal::Denied(_))));
    }

    #[test]
    fn metadata_needs_to_be_named() {
        let internal = networks(true, &[], &[]);
        let named = networks(false, &["169.254.169.254/32"], &[]);
        for address in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "100.100.100.200",
            "168.63.129.16",
            "fd00:ec2::254",
        ] {
            let refused = internal.check(address.parse().unwrap());
            assert!(matches!(refused, Err(Refusal::Metadata(_))), "{address}: {refused:?}");
        }
        assert_eq!(named.check("169.254.169.254".parse().unwrap()), Ok(()));
        assert_eq!(internal.check("169.254.1.1".parse().unwrap()), Ok(()));
    }
}
