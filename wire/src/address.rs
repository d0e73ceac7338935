//! Where a host listens, as people write it.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;
use std::str::FromStr;

/// An address of a host: `steward://host:port` or `steward+unix:///path`.
///
/// Written and parsed it stays the same address; hosts are not resolved and paths are not looked at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// QUIC over UDP.
    Quic {
        /// A name or an IP address, the latter without the brackets that IPv6 is written in.
        host: String,
        /// The UDP port; 0 lets a listening host choose.
        port: u16,
    },
    /// A Unix socket, by its absolute path.
    Unix(PathBuf),
}

/// Why text is no [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither of the schemes.
    #[error("address `{0}` starts with neither steward:// nor steward+unix://")]
    Scheme(String),
    /// No port, or none that is a number up to 65535.
    #[error("address `{0}` does not end with a port, as in steward://host:7878")]
    Port(String),
    /// No host, or one that is neither a name nor an IP address.
    #[error("address `{0}` names no host; an IPv6 address stands in brackets, as in steward://[::1]:7878")]
    Host(String),
    /// A socket's path that is not absolute.
    #[error("address `{0}` needs an absolute path, as in steward+unix:///run/steward/socket")]
    Path(String),
}

const QUIC: &str = "steward://";
const UNIX: &str = "steward+unix://";

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix(UNIX) {
            // A NUL ends a path for the kernel: what follows it would be silently lost.
            return match path.starts_with('/') && path.len() > 1 && !path.contains('\0') {
                true => Ok(Self::Unix(path.into())),
                false => Err(AddressError::Path(text.to_owned())),
            };
        }
        let place = text.strip_prefix(QUIC).ok_or_else(|| AddressError::Scheme(text.to_owned()))?;
        let (host, port) = place.rsplit_once(':').ok_or_else(|| AddressError::Port(text.to_owned()))?;
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits).ok_or_else(|| AddressError::Port(text.to_owned()))?;
        let host = match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) if inner.parse::<Ipv6Addr>().is_ok() => inner,
            None if is_name(host) => host,
            _ => return Err(AddressError::Host(text.to_owned())),
        };
        Ok(Self::Quic { host: host.to_owned(), port })
    }
}

/// Letters, digits, hyphens, dots and underscores: every name and IPv4 address, and nothing that means something in
/// a URL.
fn is_name(host: &str) -> bool {
    !host.is_empty()
        && host.len() <= 253
        && host.chars().all(|char| char.is_alphanumeric() || matches!(char, '-' | '.' | '_'))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quic { host, port } if host.contains(':') => write!(f, "{QUIC}[{host}]:{port}"),
            Self::Quic { host, port } => write!(f, "{QUIC}{host}:{port}"),
            Self::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_read() {
        let quic = |host: &str, port| Address::Quic { host: host.into(), port };
        for (text, address) in [
            ("steward://localhost:7878", quic("localhost", 7878)),
            ("steward://10.0.0.1:0", quic("10.0.0.1", 0)),
            ("steward://[::1]:65535", quic("::1", 65_535)),
            ("steward+unix:///run/steward/a b:c", Address::Unix("/run/steward/a b:c".into())),
        ] {
            assert_eq!(text.parse(), Ok(address.clone()));
            assert_eq!(address.to_string(), text);
        }
    }

    #[test]
    fn each_fault_names_the_address() {
        use AddressError as E;
        for (text, error) in [
            ("", E::Scheme as fn(String) -> E),
            ("http://localhost:1", E::Scheme),
            ("localhost:7878", E::Scheme),
            ("steward://localhost", E::Port),
            ("steward://localhost:", E::Port),
            ("steward://localhost:65536", E::Port),
            ("steward://localhost:+1", E::Port),
            ("steward://localhost:1/x", E::Port),
            ("steward://:7878", E::Host),
            ("steward://::1:7878", E::Host),
            ("steward://[localhost]:7878", E::Host),
            ("steward://user@host:7878", E::Host),
            ("steward+unix://run/steward", E::Path),
            ("steward+unix:///", E::Path),
            ("steward+unix://", E::Path),
        ] {
            let refused = text.parse::<Address>().unwrap_err();
            assert_eq!(refused, error(text.to_owned()));
            assert!(refused.to_string().contains(&format!("`{text}`")));
        }
    }
}
