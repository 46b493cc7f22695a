//! Which cipher suites are spoken, and whose order counts.
use rustls::crypto::aws_lc_rs::cipher_suite as suite;
use rustls::{CipherSuite, SupportedCipherSuite};

/// The suites of these names in TLS 1.3, in this order, and behind them those of TLS 1.2 with the same ciphers: ECDHE alone,
/// which leaves no recording to be read with the certificate's key.
pub(super) fn suites(names: &[String]) -> Result<Vec<SupportedCipherSuite>, String> {
    let of = |name: &String| match name.as_str() {
        "TLS_AES_128_GCM_SHA256" => Ok([
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ]),
        "TLS_AES_256_GCM_SHA384" => Ok([
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        ]),
        "TLS_CHACHA20_POLY1305_SHA256" => Ok([
            suite::TLS13_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
            suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
        ]),
        other => Err(format!("unknown cipher suite `{other}`")),
    };
    let mut all: Vec<SupportedCipherSuite> = names.iter().map(of).collect::<Result<Vec<_>, _>>()?.concat();
    all.sort_by_key(|suite| suite.tls13().is_none());
    Ok(all)
}

/// Whether the client would rather have ChaCha20 than AES: then AES is slow on it, as on processors without instructions for it.
/// Values that only keep servers tolerant (RFC 8701) stand for nothing.
pub(super) fn prefers_chacha(offered: &[CipherSuite]) -> bool {
    let known = offered.iter().find(|suite| !matches!(suite, CipherSuite::Unknown(value) if value & 0x0f0f == 0x0a0a));
    matches!(
        known,
        Some(
            CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_can_be_configured_is_known_and_tls_13_stands_first() {
        let suites = suites(&crate::config::options::CIPHERS.map(str::to_owned)).unwrap();
        let newer: Vec<bool> = suites.iter().map(|suite| suite.tls13().is_some()).collect();
        assert_eq!(newer, [true, true, true, false, false, false, false, false, false]);
        assert!(super::suites(&["TLS_AES_128_CCM_SHA256".to_owned()]).is_err());
    }

    #[test]
    fn the_first_suite_that_means_something_is_the_clients_best() {
        let (aes, chacha) = (CipherSuite::TLS13_AES_128_GCM_SHA256, CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        let grease = CipherSuite::Unknown(0x6a6a);
        assert!(prefers_chacha(&[chacha, aes]) && prefers_chacha(&[grease, chacha, aes]));
        assert!(!prefers_chacha(&[aes, chacha]) && !prefers_chacha(&[grease, aes]) && !prefers_chacha(&[]));
        assert!(
            !prefers_chacha(&[CipherSuite::Unknown(0x1301 ^ 0x0f00), chacha]),
            "not every unknown suite is nothing"
        );
    }
}
