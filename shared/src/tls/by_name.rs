//! Which certificate a client gets: one that has the name it asks for (SNI, RFC 6066 §3).

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;

/// Certificates by the names they have.
#[derive(Debug)]
pub(super) struct ByName {
    /// For clients that name nobody, or somebody unknown: they may know better than we what they want.
    first: Arc<CertifiedKey>,
    named: HashMap<String, Arc<CertifiedKey>>,
}

impl ByName {
    /// Of one certificate at least. Where two have a name, the earlier is served.
    pub(super) fn new(certificates: &[Certificate]) -> Self {
        let mut named = HashMap::new();
        for certificate in certificates {
            for name in &certificate.names {
                named.entry(name.to_ascii_lowercase()).or_insert_with(|| Arc::clone(&certificate.certified));
            }
        }
        Self { first: Arc::clone(&certificates[0].certified), named }
    }

    fn choose(&self, name: Option<&str>) -> &Arc<CertifiedKey> {
        let name = name.map(str::to_ascii_lowercase).unwrap_or_default();
        let named = self.named.get(&name).or_else(|| {
            // RFC 6125 §6.4.3: a wildcard stands for one label, the first.
            let (_, parent) = name.split_once('.')?;
            self.named.get(&format!("*.{parent}"))
        });
        named.unwrap_or(&self.first)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(self.choose(hello.server_name())))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use rcgen::KeyPair;
    use rustls::crypto::aws_lc_rs::default_provider;

    use super::*;

    fn certificate(names: &[&str]) -> Certificate {
        let key = KeyPair::generate().unwrap();
        let made =
            rcgen::CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let made = made.unwrap().self_signed(&key).unwrap();
        let der = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let key = default_provider().key_provider.load_private_key(der).unwrap();
        let certified = Arc::new(CertifiedKey::new(vec![made.der().clone()], key));
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Certificate { certified, names, expires: SystemTime::now() }
    }

    #[test]
    fn the_name_that_is_asked_for_decides() {
        let all = [
            certificate(&["a.example", "127.0.0.1"]),
            certificate(&["b.example", "*.b.example"]),
            certificate(&["x.b.example", "a.example"]),
        ];
        let by_name = ByName::new(&all);
        let table = [
            (None, 0),
            (Some("a.example"), 0),
            (Some("A.Example"), 0),
            (Some("b.example"), 1),
            (Some("y.b.example"), 1),
            (Some("x.b.example"), 2),
            (Some("y.y.b.example"), 0),
            (Some("c.example"), 0),
            (Some("example"), 0),
        ];
        for (name, expected) in table {
            assert!(Arc::ptr_eq(by_name.choose(name), &all[expected].certified), "{name:?}");
        }
    }
}
