//! An etcd that wants to know who asks: passwords, roles, tokens that expire, certificates.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use etcd_client::{Client, Permission, RoleRevokePermissionOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sluice_shared::etcd::{Etcd, EtcdError, Mirror, MirrorRules, Record, Registration};
use support::{EtcdServer, settle_in, wait_for};

/// Makes the user `edge-1`, which may write its own record and read the keys, and turns authentication on.
async fn lock_up(raw: &mut Client) {
    raw.user_add("root", "root's password", None).await.unwrap();
    raw.user_grant_role("root", "root").await.unwrap();
    raw.role_add("edge-1").await.unwrap();
    let own = Permission::read_write("/sluice/edges/edge-1");
    raw.role_grant_permission("edge-1", own).await.unwrap();
    let keys = Permission::read("/sluice/keys/").with_prefix();
    raw.role_grant_permission("edge-1", keys).await.unwrap();
    raw.user_add("edge-1", "edge's password", None).await.unwrap();
    raw.user_grant_role("edge-1", "edge-1").await.unwrap();
    raw.auth_enable().await.unwrap();
}

fn as_edge(server: &EtcdServer, password: &str) -> Etcd {
    Etcd::new(&server.settings(&format!("user = \"edge-1\"\npassword = \"{password}\"")))
}

const VALUE: &[u8] = br#"{"instance":"a"}"#;

#[tokio::test]
async fn a_role_may_do_what_it_is_granted_and_nothing_else() {
    let server = EtcdServer::start().await;
    lock_up(&mut server.raw().await).await;
    let etcd = as_edge(&server, "edge's password");
    let mirror = Mirror::start(etcd.clone(), "keys/", MirrorRules::default());
    let record = Record::new("edges/edge-1", "a", VALUE.to_vec(), Duration::from_secs(3));
    let registration = Registration::start(etcd.clone(), record);
    wait_for("the record", async || registration.standing().borrow().is_held().then_some(())).await;
    let mut root = server.raw_as("root", "root's password").await;
    root.put("/sluice/keys/one", "1", None).await.unwrap();
    wait_for("the key", async || (mirror.contents().entries.len() == 1).then_some(())).await;
    for key in ["clients/AK1", "edges/edge-2"] {
        let error = etcd.get(key).await.unwrap_err();
        assert!(matches!(error, EtcdError::Forbidden(_)), "{key}: {error}");
        let error = etcd.put(key, b"x").await.unwrap_err();
        assert!(matches!(error, EtcdError::Forbidden(_)), "{key}: {error}");
    }
    assert!(matches!(etcd.put("keys/two", b"x").await, Err(EtcdError::Forbidden(_))));
    registration.leave(None).await;
    assert_eq!(etcd.get("edges/edge-1").await.unwrap(), None, "it may revoke its own lease");
}

/// An etcd that says no is not one that is away: who is told so looks for another fault.
#[tokio::test]
async fn what_may_not_be_read_any_more_grows_old_while_etcd_is_reached() {
    let mut server = EtcdServer::start().await;
    lock_up(&mut server.raw().await).await;
    let etcd = as_edge(&server, "edge's password");
    let mirror = Mirror::start(etcd.clone(), "keys/", MirrorRules::default());
    wait_for("a list", async || mirror.contents().is_known.then_some(())).await;
    let mut root = server.raw_as("root", "root's password").await;
    let keys = Some(RoleRevokePermissionOptions::new().with_prefix());
    root.role_revoke_permission("edge-1", "/sluice/keys/", keys).await.unwrap();
    // A watch goes on under the right that it began with.
    server.kill();
    server.run().await;
    wait_for("the refusal", async || mirror.is_forbidden().then_some(())).await;
    assert!(mirror.is_reached());
    let stale = mirror.staleness();
    wait_for("more time", async || (mirror.staleness() > stale).then_some(())).await;
    let mut root = server.raw_as("root", "root's password").await;
    root.role_grant_permission("edge-1", Permission::read("/sluice/keys/").with_prefix()).await.unwrap();
    wait_for("a list", async || (!mirror.is_forbidden()).then_some(())).await;
    assert!(mirror.is_reached());
}

#[tokio::test]
async fn wrong_passwords_and_none_are_told_apart_from_absence() {
    let server = EtcdServer::start().await;
    lock_up(&mut server.raw().await).await;
    let error = as_edge(&server, "wrong").get("edges/edge-1").await.unwrap_err();
    assert!(matches!(error, EtcdError::Credentials(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("`etcd.user`") && !text.contains("wrong"), "{text}");
    let error = server.etcd().get("edges/edge-1").await.unwrap_err();
    assert!(matches!(error, EtcdError::Credentials(_)), "{error}");
}

#[tokio::test]
async fn tokens_that_etcd_no_longer_knows_are_renewed() {
    let mut server = EtcdServer::start().await;
    lock_up(&mut server.raw().await).await;
    let etcd = as_edge(&server, "edge's password");
    etcd.put("edges/edge-1", b"1").await.unwrap();
    // Simple tokens are in a member's memory; any change of users and roles outdates them too.
    server.kill();
    server.run().await;
    wait_for("a write after the restart", async || etcd.put("edges/edge-1", b"2").await.ok()).await;
    let mut root = server.raw_as("root", "root's password").await;
    root.role_add("another").await.unwrap();
    etcd.put("edges/edge-1", b"3").await.unwrap();
    assert_eq!(&*etcd.get("edges/edge-1").await.unwrap().unwrap().value, b"3");
}

/// Writes an authority, and certificates of it for a server on loopback and for a client.
fn certificates(folder: &Path) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    for (name, host) in [("server", "127.0.0.1"), ("client", "edge-1")] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        fs::write(folder.join(format!("{name}.pem")), certificate.pem()).unwrap();
        sluice_shared::private_file::write_new(&folder.join(format!("{name}.key")), &key.serialize_pem())
            .unwrap();
    }
}

#[tokio::test]
async fn members_and_clients_prove_themselves_by_certificates() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let stranger = tempfile::tempdir().unwrap();
    certificates(stranger.path());
    let server = EtcdServer::start_with_tls(folder.path()).await;
    let settings = |files: &str, folder: &Path| {
        let text = format!("endpoints = [\"https://127.0.0.1:{}\"]\n{files}", server.port());
        Etcd::new(&settle_in(&text, folder))
    };
    let whole = "ca_file = \"ca.pem\"\ncert_file = \"client.pem\"\nkey_file = \"client.key\"";
    let etcd = settings(whole, folder.path());
    etcd.put("a", b"1").await.unwrap();
    let mirror = Mirror::start(etcd, "", MirrorRules::default());
    wait_for("the key", async || (mirror.contents().entries.len() == 1).then_some(())).await;
    // No certificate; another authority's; a server that another authority should have signed.
    for (files, folder) in [("ca_file = \"ca.pem\"", folder.path()), (whole, stranger.path())] {
        let error = settings(files, folder).get("a").await.unwrap_err();
        assert!(matches!(error, EtcdError::Away(_) | EtcdError::Silent(_)), "{error}");
    }
}
