//! What both programs look at around them when they are asked to check: ports, descriptors, etcd, who answers at a URL.
//! It changes nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::blocking;
use crate::etcd::wrapped::WrappingKeys;
use crate::etcd::{Etcd, EtcdError, EtcdSettings};
use crate::findings::Findings;
use crate::keys::{EtcdKeys, KeyPlace};
use crate::reach::{self, Spoken};
use crate::revocations::RevocationBook;
use crate::units::BaseUrl;

/// For keys to come from an etcd that answers.
const KEYS_WITHIN: Duration = Duration::from_secs(3);
const CLOCK: &str = "clock";
const SET_CLOCK: &str = "set the clock on both (chrony, systemd-timesyncd); tokens are good for exact times";

/// Whether an address can be listened on.
pub fn port(findings: &mut Findings, what: &str, address: SocketAddr) {
    match TcpListener::bind(address) {
        Ok(_) => findings.ok(what, format_args!("{address} is free")),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => findings.warn(
            what,
            format_args!("{address} is in use"),
            "right where this program runs already; else stop the other, or take another port",
        ),
        Err(error) => findings.fail(
            what,
            format_args!("{address} cannot be listened on: {error}"),
            "take an address of this machine (ip address), and for ports below 1024 grant CAP_NET_BIND_SERVICE",
        ),
    }
}

/// Whether there may be as many descriptors as are wanted.
pub fn descriptors(findings: &mut Findings, wanted: u64) {
    let most = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    if most >= wanted {
        findings.ok("descriptors", format_args!("{most} at most, {wanted} are wanted"));
    } else {
        findings.warn(
            "descriptors",
            format_args!("{most} at most, and {wanted} are wanted"),
            "raise the limit on open files: LimitNOFILE in the unit, ulimit -n, or /etc/security/limits.conf",
        );
    }
}

/// Whether TLS can be left to the kernel; where not, it is a fault only if that is wanted.
pub fn kernel_tls(findings: &mut Findings, is_wanted: bool) {
    let known = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_ulp").unwrap_or_default();
    if known.split_whitespace().any(|ulp| ulp == "tls") {
        findings.ok("kernel TLS", "the kernel has it");
    } else if !is_wanted {
        findings.ok(
            "kernel TLS",
            "the kernel does not have it loaded (modprobe tls); this program encrypts by itself",
        );
    } else {
        findings.warn(
            "kernel TLS",
            "the kernel does not have it loaded; TLS works, and costs more of the processor",
            "modprobe tls, and put `tls` into /etc/modules-load.d",
        );
    }
}

/// Asks who answers at a URL, how its clock is, and what it says.
pub fn url(findings: &mut Findings, what: &str, url: &BaseUrl, path: &str, remedy: &str) {
    match reach::ask(url, path) {
        Ok(Spoken::Tls) => findings.ok(what, format_args!("{url} answers, in TLS")),
        Ok(Spoken::Http { status, ahead_seconds }) => {
            findings.ok(what, format_args!("{url} answers (status {status})"));
            if let Some(ahead) = ahead_seconds {
                clock(findings, url, ahead);
            }
        }
        Err(fault) => findings.fail(what, format_args!("{url}: {fault}"), remedy),
    }
}

fn clock(findings: &mut Findings, url: &BaseUrl, ahead: i64) {
    if !reach::is_too_far(ahead) {
        findings.ok(CLOCK, format_args!("agrees with {url}"));
        return;
    }
    let how = if ahead > 0 { "behind" } else { "ahead of" };
    findings.fail(
        CLOCK,
        format_args!("here it is {} s {how} that of {url}", ahead.unsigned_abs()),
        SET_CLOCK,
    );
}

/// Whether etcd answers, lets this program in, and may be read where it has to be: `reads` are prefixes.
pub async fn etcd(findings: &mut Findings, settings: &EtcdSettings, reads: &[&str]) -> Option<Etcd> {
    let etcd = Etcd::new(settings);
    for prefix in reads {
        if let Err(error) = etcd.get(&format!("{prefix}check")).await {
            findings.fail(
                "etcd",
                format_args!("{}: {prefix} is not read: {error}", settings.endpoints.join(", ")),
                remedy(&error),
            );
            return None;
        }
    }
    findings.ok("etcd", format_args!("{} answers, and may be read", settings.endpoints.join(", ")));
    let is_here = |endpoint: &String| endpoint.contains("//127.") || endpoint.contains("//localhost");
    if settings.user.is_none() && settings.tls.is_none() && !settings.endpoints.iter().all(is_here) {
        findings.warn(
            "etcd access",
            "it asks nobody who they are: whoever reaches it can send clients anywhere",
            "give it users and roles (deploy/etcd-roles.sh), or let nobody else reach it",
        );
    }
    if let Some(endpoint) = settings.endpoints.iter().find(|endpoint| endpoint.starts_with("http://"))
        && let Ok(endpoint) = BaseUrl::parse(endpoint)
        && let Ok(Spoken::Http { ahead_seconds: Some(ahead), .. }) = {
            let asked = endpoint.clone();
            blocking::run(move || reach::ask(&asked, "/health")).await
        }
    {
        clock(findings, &endpoint, ahead);
    }
    Some(etcd)
}

fn remedy(error: &EtcdError) -> &'static str {
    match error {
        EtcdError::Silent(_) | EtcdError::Away(_) => {
            "see that etcd runs, that etcd.endpoints are its client URLs with the right scheme, and that no firewall is \
             between"
        }
        EtcdError::Leaderless(_) => "bring back the majority of its members",
        EtcdError::Credentials(_) => {
            "compare etcd.user and etcd.password with etcdctl user list, user passwd"
        }
        EtcdError::Forbidden(_) => "grant what the shipped roles have: deploy/etcd-roles.sh",
        EtcdError::LeaseOver | EtcdError::TooLarge | EtcdError::Refused(_) => {
            "without authentication in etcd, leave etcd.user out; else see etcd's log"
        }
    }
}

/// Whether the keys in etcd open with what this program has.
pub async fn etcd_keys(findings: &mut Findings, etcd: &Etcd, place: KeyPlace, sealing: &WrappingKeys) {
    let what = match place {
        KeyPlace::Tokens => "token keys",
        KeyPlace::Tickets => "ticket keys",
    };
    let Ok(book) = RevocationBook::open(None) else { return };
    let keys = EtcdKeys::follow(etcd, place, sealing.clone(), book);
    let known = async {
        while keys.missing() == Some("keys not known") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(KEYS_WITHIN, known).await;
    match keys.missing() {
        None => findings.ok(what, format_args!("{} open", keys.ring().load().newest_first().count())),
        Some("keys not known") => findings.warn(
            what,
            "there are none in etcd yet",
            "start a coordinator: it makes them. If one runs, see that its etcd.prefix is the same",
        ),
        Some(reason) => findings.fail(
            what,
            reason,
            "copy the key file of the coordinators' machines: they sealed what is in etcd with another one",
        ),
    }
}
