//! What `--check --findings` looks at: the configuration, what it names, and what is around.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sluice_shared::findings::Findings;
use sluice_shared::handover;
use sluice_shared::keys::{KeyFile, KeyPlace};
use sluice_shared::revocations::RevocationBook;
use sluice_shared::surroundings;
use sluice_shared::tls::ServerTls;

use super::{confine, load_tls};
use crate::cache::Backing;
use crate::config::{Config, KeySource};
use crate::store;
use crate::uring;

/// Entries of the root that are tried for one that can be read.
const TRIED_MAX: usize = 100;
/// Beside connections: files kept open, rings, logs.
const DESCRIPTORS_MORE: u64 = 20_000;
const ROOT: &str = "root";

/// Looks at everything; makes nothing and listens to nothing.
pub fn findings(path: &Path) -> Findings {
    let mut findings = Findings::default();
    let Some(config) = findings.of("configuration", Config::load(path)) else { return findings };
    if let KeySource::File(path) = &config.keys {
        findings.of("token keys", KeyFile::load(path));
    }
    if config.tls.is_some() {
        findings.of("certificate", load_tls(&config, ServerTls::load));
        if config.kernel_tls != Some(false) {
            surroundings::kernel_tls(&mut findings, config.kernel_tls.is_some());
        }
    }
    findings.of("revocations", RevocationBook::open(config.revocations_file.as_deref()));
    findings.of("cache", Backing::open(config.cache_dir.as_deref(), config.cache_size));
    if let Some(path) = &config.control_socket {
        findings.of("control socket", handover::check_place(path));
    }
    findings.of("io_uring", uring::check());
    confine::try_out(&config).find(&mut findings);
    root(&mut findings, &config);
    let connections = u64::try_from(config.limits.connections).unwrap_or(u64::MAX);
    surroundings::descriptors(&mut findings, connections.saturating_add(DESCRIPTORS_MORE));
    surroundings::port(&mut findings, "listen", config.listen);
    if let Some(address) = config.tls.as_ref().and_then(|tls| tls.listen) {
        surroundings::port(&mut findings, "tls_listen", address);
    }
    surroundings::port(&mut findings, "admin_listen", config.admin_listen);
    scheme(&mut findings, &config);
    for url in &config.coordinator_urls {
        let remedy = "write the coordinator's public_url into coordinator_urls, and see that it runs";
        surroundings::url(&mut findings, "coordinator", url, "/openapi.json", remedy);
    }
    etcd(&mut findings, &config);
    findings
}

/// Whether the store is there, and ours to read.
fn root(findings: &mut Findings, config: &Config) {
    let (root, shown) = (&config.root, config.root.display());
    let user = rustix::process::geteuid().as_raw();
    if store::is_absent(root, config.root_marker.as_deref()) == Some(true) {
        let (found, remedy) = match &config.root_marker {
            Some(marker) => (
                format!("{shown} lacks {marker}, by which the store is known"),
                "mount the store there, or make that file in it",
            ),
            None => (
                format!("{shown} has nothing in it, as where a mount is missing"),
                "mount the store there; if it is rightly empty, set root_marker and make that file in it",
            ),
        };
        findings.fail(ROOT, found, remedy);
        return;
    }
    let denied = format!("let uid {user} read it (chown, chmod; over NFS see the export's squash options)");
    match fs::read_dir(root) {
        // Files can be opened in a folder that cannot be listed.
        Err(error) => {
            findings.warn(ROOT, format_args!("{shown} cannot be listed by uid {user}: {error}"), denied);
        }
        Ok(entries) => {
            let files = entries.flatten().take(TRIED_MAX).map(|entry| entry.path());
            let first = files.into_iter().find(|path| path.is_file());
            match first.map(|path| (fs::File::open(&path), path)) {
                Some((Err(error), path)) => {
                    let found = format!("{} cannot be read by uid {user}: {error}", path.display());
                    findings.fail(ROOT, found, denied);
                }
                _ => findings.ok(ROOT, format_args!("{shown} can be read by uid {user}{}", of_mount(root))),
            }
        }
    }
}

/// Whether the root is a mount's, as far as can be told.
fn of_mount(root: &Path) -> &'static str {
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev());
    match (device(root), device(&root.join(".."))) {
        (Ok(own), Ok(parent)) if own != parent => ", and is a mount",
        (Ok(_), Ok(_)) => ", and is no mount of its own",
        _ => "",
    }
}

/// Whether clients are told to speak what is spoken here.
fn scheme(findings: &mut Findings, config: &Config) {
    const WHAT: &str = "advertise_url";
    let Some(advertised) = &config.advertised else { return };
    let is_https = advertised.url.as_str().starts_with("https://");
    let speaks_tls = config.tls.is_some();
    let speaks_plain = config.tls.as_ref().is_none_or(|tls| tls.listen.is_some());
    match (is_https, speaks_tls, speaks_plain) {
        (true, false, _) => findings.warn(
            WHAT,
            format_args!("{} is https, and this edge has no [tls]", advertised.url),
            "right where a proxy speaks TLS for it; else write http://, or give it [tls]",
        ),
        (false, _, false) => findings.warn(
            WHAT,
            format_args!("{} is http, and `listen` speaks TLS", advertised.url),
            "right where a proxy answers there; else write https://",
        ),
        _ => findings.ok(WHAT, format_args!("{} is what is spoken here", advertised.url)),
    }
}

fn etcd(findings: &mut Findings, config: &Config) {
    let Some(settings) = &config.etcd else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Some(runtime) = findings.of("runtime", runtime) else { return };
    runtime.block_on(async {
        let reads = ["keys/", "revoked/", "blocked/"];
        let Some(etcd) = surroundings::etcd(findings, settings, &reads).await else { return };
        if let KeySource::Etcd(sealing) = &config.keys {
            surroundings::etcd_keys(findings, &etcd, KeyPlace::Tokens, sealing).await;
        }
    });
    runtime.shutdown_background();
}
