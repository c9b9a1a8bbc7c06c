//! Claims about files of certificates: which are taken, and what is said of the others.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, UNIX_EPOCH};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, date_time_ymd};

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

/// A folder with a certificate of an hour's life and its key.
struct Folder {
    folder: tempfile::TempDir,
    authority: Issuer<'static, KeyPair>,
    authority_pem: String,
}

impl Folder {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_pem = params.self_signed(&key).unwrap().pem();
        let folder = tempfile::tempdir().unwrap();
        let folder = Self { folder, authority: Issuer::new(params, key), authority_pem };
        folder.issue(&KeyPair::generate().unwrap(), |_| ());
        folder
    }

    fn files(&self) -> CertificateFiles {
        CertificateFiles {
            cert_file: self.folder.path().join("server.pem"),
            key_file: self.folder.path().join("server.key"),
        }
    }

    /// Writes a certificate for a key, and the key.
    fn issue(&self, key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let names = ["sluice.example", "127.0.0.1", "2001:db8::1"].map(str::to_owned);
        let mut params = CertificateParams::new(names.to_vec()).unwrap();
        params.not_before = date_time_ymd(1970, 1, 1) + (now - HOUR);
        params.not_after = date_time_ymd(1970, 1, 1) + (now + HOUR);
        change(&mut params);
        let certificate = params.signed_by(key, &self.authority).unwrap();
        self.write_cert(&(certificate.pem() + &self.authority_pem));
        self.write_key(&key.serialize_pem());
    }

    fn write_cert(&self, text: &str) {
        fs::write(self.files().cert_file, text).unwrap();
    }

    fn cert(&self) -> String {
        fs::read_to_string(self.files().cert_file).unwrap()
    }

    fn write_key(&self, text: &str) {
        let path = self.files().key_file;
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn load_at(&self, now: SystemTime) -> Result<Certificate, CertificateError> {
        Certificate::load(&self.files(), &default_provider(), now)
    }

    fn load(&self) -> Result<Certificate, CertificateError> {
        self.load_at(SystemTime::now())
    }

    /// What is said of the files as they are.
    fn fault(&self) -> String {
        let fault = self.load().unwrap_err().to_string();
        assert!(fault.contains(self.folder.path().to_str().unwrap()), "{fault}");
        assert!(!fault.contains('\n'), "{fault}");
        fault
    }

    fn server(&self) -> Arc<ServerTls> {
        ServerTls::load(&TlsSettings { certificates: vec![self.files()] }, &[HTTP_1_1]).unwrap()
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn certificates_of_every_usual_kind_of_key_are_taken() {
    let folder = Folder::new();
    let kinds = [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ];
    for kind in kinds {
        folder.issue(&KeyPair::generate_for(kind).unwrap(), |_| ());
        let certificate = folder.load().unwrap();
        assert_eq!(certificate.names, ["sluice.example", "127.0.0.1", "2001:db8::1"]);
        assert_eq!(certificate.certified.cert.len(), 2);
        assert!(certificate.expires > SystemTime::now());
    }
}

#[test]
fn a_certificate_that_says_its_uses_is_for_servers() {
    use ExtendedKeyUsagePurpose::{Any, ClientAuth, ServerAuth};

    let folder = Folder::new();
    let table = [
        (vec![], true),
        (vec![ServerAuth], true),
        (vec![ClientAuth, ServerAuth], true),
        (vec![Any], true),
        (vec![ClientAuth], false),
    ];
    for (usages, is_taken) in table {
        folder.issue(&KeyPair::generate().unwrap(), |params| params.extended_key_usages = usages.clone());
        assert_eq!(folder.load().is_ok(), is_taken, "{usages:?}");
        assert!(is_taken || folder.fault().contains("has no serverAuth"));
    }
}

#[test]
fn a_certificate_is_good_from_its_first_second_to_its_last() {
    let folder = Folder::new();
    folder.issue(&KeyPair::generate().unwrap(), |params| {
        params.not_before = date_time_ymd(2030, 1, 1);
        params.not_after = date_time_ymd(2030, 3, 1);
    });
    let at = |text: &str| humantime::parse_rfc3339(text).unwrap();
    let table = [
        ("2029-12-31T23:59:59.9Z", Some("not valid before 2030-01-01T00:00:00Z")),
        ("2030-01-01T00:00:00Z", None),
        ("2030-03-01T00:00:00.9Z", None),
        ("2030-03-01T00:00:01Z", Some("expired at 2030-03-01T00:00:00Z; renew")),
    ];
    for (now, expected) in table {
        let fault = folder.load_at(at(now)).err().map(|fault| fault.to_string());
        match (&fault, expected) {
            (None, None) => {}
            (Some(fault), Some(expected)) => assert!(fault.contains(expected), "{fault}"),
            _ => panic!("at {now}: {fault:?}"),
        }
    }
}

#[test]
fn what_is_wrong_with_a_chain_is_said() {
    let folder = Folder::new();
    let cert = folder.cert();
    let (own, authority) = cert.split_at(cert.len() - folder.authority_pem.len());
    let body =
        |text: &str| text.lines().skip(1).take_while(|line| !line.starts_with('-')).collect::<String>();
    // One byte too many, behind a certificate that is whole.
    let longer = {
        use base64::prelude::*;
        let mut der = BASE64_STANDARD.decode(body(authority)).unwrap();
        der.push(0);
        let text = BASE64_STANDARD.encode(der);
        format!("{own}-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    };
    let shorter =
        format!("{own}-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", &body(authority)[..80]);
    let table = [
        (String::new(), "has no certificate"),
        ("garbage".to_owned(), "has no certificate"),
        (folder.authority.key().serialize_pem(), "has no certificate"),
        (longer, "certificate 2 in"),
        (own.replacen("MII", "AAA", 1), "certificate 1 in"),
        (shorter, "certificate 2 in"),
        (format!("{own}{}", &authority[..authority.len() / 2]), "certificate 2 in"),
        (format!("{authority}{own}"), "does not belong to the first certificate"),
        (folder.authority_pem.clone(), "does not belong to the first certificate"),
    ];
    for (text, expected) in table {
        folder.write_cert(&text);
        let fault = folder.fault();
        assert!(fault.contains(expected), "{expected}: {fault}");
    }
    fs::remove_file(folder.files().cert_file).unwrap();
    assert!(folder.fault().contains("does not exist"));
    fs::create_dir(folder.files().cert_file).unwrap();
    assert!(folder.fault().contains("cannot be read"));
}

#[test]
fn what_is_wrong_with_a_key_is_said_and_nothing_of_it_shown() {
    let folder = Folder::new();
    let key = KeyPair::generate().unwrap().serialize_pem();
    let secret = &key.lines().nth(1).unwrap()[..32];
    let table = [
        (key.clone(), "does not belong to the first certificate"),
        (key.replace("PRIVATE", "ENCRYPTED PRIVATE"), "under a passphrase"),
        (
            key.replace(" PRIVATE", " EC PRIVATE").replacen("\n", "\nProc-Type: 4,ENCRYPTED\n\n", 1),
            "under a passphrase",
        ),
        (key.replace("PRIVATE", "PUBLIC"), "has no private key"),
        (key.replace("-----END", "-----AND"), "has no private key"),
        (key.replacen('\n', "\n!", 1), "has no private key"),
        (key.replacen('M', "N", 1), "broken or of a kind that cannot be used"),
        (secret.to_owned(), "has no private key"),
        (String::new(), "has no private key"),
    ];
    for (text, expected) in table {
        folder.write_key(&text);
        let fault = folder.fault();
        assert!(fault.contains(expected) && !fault.contains(secret), "{expected}: {fault}");
    }
    fs::write(folder.files().key_file, b"\xff\xfe").unwrap();
    assert!(folder.fault().contains("has no private key"));
    folder.write_key(&key);
    fs::set_permissions(folder.files().key_file, fs::Permissions::from_mode(0o644)).unwrap();
    let fault = folder.fault();
    assert!(fault.contains("0644") && fault.contains("chmod 600"), "{fault}");
    fs::remove_file(folder.files().key_file).unwrap();
    assert!(folder.fault().contains("does not exist"));
}

#[test]
fn the_same_certificate_read_again_forgets_no_session() {
    let folder = Folder::new();
    let server = folder.server();
    let before = server.config();
    assert_eq!(server.reread(SystemTime::now()), None);
    assert!(Arc::ptr_eq(&server.config(), &before));
    folder.write_cert("garbage");
    assert_eq!(server.reread(SystemTime::now()), None);
    assert!(Arc::ptr_eq(&server.config(), &before));
    folder.issue(&KeyPair::generate().unwrap(), |_| ());
    assert_eq!(server.reread(SystemTime::now()), None);
    assert!(!Arc::ptr_eq(&server.config(), &before));
}

#[test]
fn each_of_several_certificates_is_exchanged_by_itself() {
    let (one, other) = (Folder::new(), Folder::new());
    let settings = TlsSettings { certificates: vec![one.files(), other.files()] };
    let server = ServerTls::load(&settings, &[HTTP_1_1]).unwrap();
    let served = |at: usize| server.current.load().certificates[at].certified.cert.clone();
    let before = [served(0), served(1)];
    one.write_cert("garbage");
    other.issue(&KeyPair::generate().unwrap(), |params| {
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds(SystemTime::now()) + 60);
    });
    server.reread(SystemTime::now());
    assert_eq!(served(0), before[0], "what is bad is not taken");
    assert_ne!(served(1), before[1], "and keeps nothing good away");
    assert!(server.expires() < SystemTime::now() + HOUR / 2, "the first to expire counts");
}

#[tokio::test]
async fn a_certificate_that_comes_before_its_time_is_taken_when_it_begins() {
    let folder = Folder::new();
    let server = folder.server();
    let follower = tokio::spawn(Arc::clone(&server).follow(Asked::never()));
    let begins = seconds(SystemTime::now()) + 4;
    let expires = begins + 1000;
    folder.issue(&KeyPair::generate().unwrap(), |params| {
        params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(begins);
        params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(expires);
    });
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while seconds(server.expires()) != expires {
        assert!(tokio::time::Instant::now() < deadline, "the new certificate is taken");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(seconds(SystemTime::now()) >= begins);
    follower.abort();
}
