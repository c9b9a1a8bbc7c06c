//! What `--check --findings` looks at: the configuration, what it names, and what is around.

use std::path::Path;
use std::time::Duration;

use sluice_shared::bearer::AdminTokens;
use sluice_shared::cluster::announcement::Announcement;
use sluice_shared::cluster::etcd::EDGES;
use sluice_shared::cluster::{EdgeRecord, Registry};
use sluice_shared::etcd::{Etcd, MirrorRules};
use sluice_shared::findings::Findings;
use sluice_shared::handover;
use sluice_shared::keys::KeyPlace;
use sluice_shared::revocations::RevocationBook;
use sluice_shared::surroundings;

use super::{confine, load_tls};
use crate::clients::Clients;
use crate::config::{Config, EdgeSource, KeySource, SchemeName, StateSource};
use crate::keys;

/// What the default limits on connections come to.
const DESCRIPTORS: u64 = 20_000;
const REDIS_WITHIN: Duration = Duration::from_secs(3);
/// More edges than this are not asked one after another.
const EDGES_ASKED_MAX: usize = 32;

/// Looks at everything; makes nothing and listens to nothing.
pub fn findings(path: &Path) -> Findings {
    let mut findings = Findings::default();
    let Some(config) = findings.of("configuration", Config::load(path)) else { return findings };
    findings.of("keys", keys::check(&config.keys));
    findings.of("clients", Clients::check(&config.access.clients));
    findings.of("revocations", RevocationBook::open(Some(&config.revocations_file)));
    if config.tls.is_some() {
        findings.of("certificate", load_tls(&config));
    }
    if let Some(path) = &config.control_socket {
        findings.of("control socket", handover::check_place(path));
    }
    match config.admin_token_file.try_exists() {
        Ok(false) => findings.ok("admin tokens", "there are none yet; one is made at the first start"),
        _ => drop(findings.of("admin tokens", AdminTokens::load_or_create(&config.admin_token_file))),
    }
    access(&mut findings, &config);
    confine::try_out(&config).find(&mut findings);
    surroundings::descriptors(&mut findings, DESCRIPTORS);
    surroundings::port(&mut findings, "listen", config.listen);
    surroundings::port(&mut findings, "admin_listen", config.admin_listen);
    for listed in edges(&config).iter().take(EDGES_ASKED_MAX) {
        edge(&mut findings, listed);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    if let Some(runtime) = findings.of("runtime", runtime) {
        runtime.block_on(stores(&mut findings, &config));
        runtime.shutdown_background();
    }
    findings
}

/// The edges that the configuration lists.
fn edges(config: &Config) -> Vec<EdgeRecord> {
    match &config.registry {
        EdgeSource::Static(list) => list.watch().borrow().to_vec(),
        EdgeSource::Etcd { fixed, .. } => fixed.clone(),
    }
}

fn access(findings: &mut Findings, config: &Config) {
    const WHAT: &str = "authentication";
    if config.access.schemes.contains(&SchemeName::Open) {
        let remedy = "list other schemes in auth.schemes, unless nobody else reaches this coordinator";
        findings.warn(WHAT, "it is off: any caller gets links to any file", remedy);
    } else {
        findings.ok(WHAT, "callers have to prove who they are");
    }
    let is_http = config.public_url.as_str().starts_with("http://");
    match (is_http, config.tls.is_some()) {
        (true, true) => findings.warn(
            "public_url",
            format_args!("{} is http, and `listen` speaks TLS", config.public_url),
            "right where a proxy answers there; else write https://",
        ),
        (false, false) => findings.warn(
            "public_url",
            format_args!("{} is https, and there is no [tls]", config.public_url),
            "right where a proxy speaks TLS for it; else write http://, or give it [tls]",
        ),
        _ => findings.ok("public_url", format_args!("{} is what is spoken here", config.public_url)),
    }
}

/// Whether an edge answers, to clients and to coordinators.
fn edge(findings: &mut Findings, edge: &EdgeRecord) {
    let (id, what) = (&edge.id, "edge");
    let remedy = format!(
        "clients are sent there: see that edge '{id}' runs, and that its url has its scheme and port"
    );
    surroundings::url(findings, what, &edge.url, "/download", &remedy);
    let remedy = format!("see that admin_url of edge '{id}' is its admin_listen, and reached from here");
    surroundings::url(findings, "edge's admin port", &edge.admin_url, "/readyz", &remedy);
}

/// etcd and Redis, where they are used.
async fn stores(findings: &mut Findings, config: &Config) {
    if let Some(settings) = &config.etcd {
        let reads = ["edges/", "coordinators/", "keys/", "ticket-keys/", "clients/", "orders/", "revoked/"];
        let etcd = surroundings::etcd(findings, settings, &reads).await;
        if let (Some(etcd), EdgeSource::Etcd { .. }) = (&etcd, &config.registry) {
            registered(findings, etcd).await;
        }
        if let (Some(etcd), KeySource::Etcd { cluster_key, coordinator_key, .. }) = (etcd, &config.keys) {
            surroundings::etcd_keys(findings, &etcd, KeyPlace::Tokens, cluster_key).await;
            surroundings::etcd_keys(findings, &etcd, KeyPlace::Tickets, coordinator_key).await;
        }
    }
    match &config.state {
        StateSource::Redis(url) => {
            match tokio::time::timeout(REDIS_WITHIN, redis(findings, url.reveal())).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => findings.fail("Redis", redacted(&error), REDIS_REMEDY),
                Err(_) => findings.fail("Redis", "it does not answer within 3 s", REDIS_REMEDY),
            }
        }
        StateSource::Embedded(path) => {
            let folder = path.parent().unwrap_or(Path::new("."));
            if folder.is_dir() {
                findings.ok("state", format_args!("in {}", path.display()));
            } else {
                let found = format!("{} is no folder", folder.display());
                findings.fail("state", found, "make it, for this program's user, or set state.path");
            }
        }
    }
}

/// The edges that name themselves in etcd.
async fn registered(findings: &mut Findings, etcd: &Etcd) {
    let Ok(records) = etcd.list(EDGES, MirrorRules::default()).await else { return };
    if records.is_empty() {
        let remedy = "start one, with the same etcd.prefix and registry.source = \"etcd\"";
        findings.warn("edges", "there is no edge in etcd", remedy);
    }
    for (id, entry) in records.iter().take(EDGES_ASKED_MAX) {
        match Announcement::parse(id, &entry.value) {
            Ok(announcement) => edge(findings, &announcement.record()),
            Err(fault) => {
                let remedy = "coordinators pass it over: see that edge's program and configuration";
                findings.warn("edge", format_args!("{id}: {fault}"), remedy);
            }
        }
    }
}

const REDIS_REMEDY: &str = "see that Redis runs, and that state.url has its address, user and password";

/// Not the error's text where that could repeat the URL.
fn redacted(error: &redis::RedisError) -> String {
    format!("it does not answer as it should: {}", error.category())
}

async fn redis(findings: &mut Findings, url: &str) -> redis::RedisResult<()> {
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let _: String = redis::cmd("PING").query_async(&mut connection).await?;
    findings.ok("Redis", "answers");
    // Not everybody may ask that.
    let setting = async |connection: &mut redis::aio::MultiplexedConnection, name: &str| {
        let asked: redis::RedisResult<Vec<String>> =
            redis::cmd("CONFIG").arg("GET").arg(name).query_async(connection).await;
        asked.ok().and_then(|found| found.into_iter().nth(1))
    };
    if setting(&mut connection, "appendonly").await.is_some_and(|value| value == "no") {
        findings.warn(
            "Redis durability",
            "appendonly is no: a restart forgets counts, links and revocations",
            "set appendonly yes in redis.conf",
        );
    }
    if setting(&mut connection, "maxmemory-policy").await.is_some_and(|value| value != "noeviction") {
        findings.warn(
            "Redis eviction",
            "maxmemory-policy evicts: counts and nonces may be lost",
            "set maxmemory-policy noeviction in redis.conf",
        );
    }
    Ok(())
}
