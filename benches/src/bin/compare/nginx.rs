//! nginx as a careful operator would set it up for the same job: one worker, `sendfile`, signed expiring links
//! (`secure_link`), the same kind of header fields, no access log.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use md5::{Digest, Md5};
use sluice_loadtest::certificates;
use sluice_loadtest::ports::Port;

use crate::server::{Kind, Server};

const SECRET: &str = "a secret of the comparison";
const LINK_TTL: Duration = Duration::from_secs(24 * 3600);

/// Connections, and descriptors for them and their files.
const CONNECTIONS_MAX: u32 = 16_000;
/// Descriptors are kept open, and each file looked at once a second, as the edge does.
const FILE_CACHE: &str = "open_file_cache max=10000 inactive=60s; open_file_cache_valid 1s;";

/// Where the program is; Debian puts it outside users' `PATH`.
pub(crate) fn program() -> PathBuf {
    let debian = Path::new("/usr/sbin/nginx");
    if debian.exists() { debian.to_owned() } else { PathBuf::from("nginx") }
}

pub(crate) fn start(own: &Path, root: &Path, kind: Kind) -> anyhow::Result<Server> {
    let port = Port::take()?;
    let tls_port = (kind == Kind::NginxTls).then(Port::take).transpose()?;
    if tls_port.is_some() {
        certificates::write(own, certificates::USUAL)?;
    }
    fs::write(own.join("nginx.conf"), configuration(own, root, &port, tls_port.as_ref(), kind))?;
    let program = program();
    let folder = own.to_str().context("the folder's name is text")?;
    let command = [program.to_str().context("nginx's path is text")?, "-p", folder, "-c", "nginx.conf"];
    let server = Server::start(kind, &command, port, Box::new(sign), own)?;
    Ok(match tls_port {
        Some(tls_port) => server.with_tls(tls_port),
        None => server,
    })
}

fn configuration(own: &Path, root: &Path, port: &Port, tls_port: Option<&Port>, kind: Kind) -> String {
    let (own, root, address) = (own.display(), root.display(), port.address());
    // The folder is private to its owner, which a worker of another user could not enter.
    let user = if fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0) {
        "user root;"
    } else {
        ""
    };
    let files = match kind {
        Kind::NginxCache | Kind::NginxTls => FILE_CACHE.to_owned(),
        // Files are read and sent by the threads of the default pool, 32; opened by the worker.
        Kind::NginxThreads => format!("{FILE_CACHE} aio threads;"),
        _ => String::new(),
    };
    let sendfile = if tls_port.is_some() { "off" } else { "on" };
    let tls = tls_port.map_or_else(String::new, |tls_port| {
        let (cert, key) = (certificates::SERVER, certificates::SERVER_KEY);
        format!(
            "listen {} ssl http2 backlog=4096; ssl_certificate {own}/{cert}; ssl_certificate_key {own}/{key};",
            tls_port.address()
        )
    });
    format!(
        r#"{user}
daemon off;
worker_processes 1;
pid {own}/nginx.pid;
error_log stderr;
events {{
    worker_connections {CONNECTIONS_MAX};
}}
http {{
    access_log off;
    sendfile {sendfile};
    tcp_nopush on;
    keepalive_requests 1000000000;
    default_type application/octet-stream;
    client_body_temp_path {own}/body;
    proxy_temp_path {own}/proxy;
    fastcgi_temp_path {own}/fastcgi;
    uwsgi_temp_path {own}/uwsgi;
    scgi_temp_path {own}/scgi;
    {files}
    server {{
        listen {address} backlog=4096;
        {tls}
        root {root};
        location / {{
            secure_link $arg_md5,$arg_expires;
            secure_link_md5 "$secure_link_expires$uri {SECRET}";
            if ($secure_link = "") {{ return 403; }}
            if ($secure_link = "0") {{ return 410; }}
            add_header Content-Disposition attachment;
            add_header Cache-Control private;
            add_header X-Content-Type-Options nosniff;
            add_header Referrer-Policy no-referrer;
        }}
    }}
}}
"#
    )
}

/// The target of a link in the manner of nginx's own documentation of `secure_link_md5`; each number's expires another
/// second.
fn sign(file: &str, number: u64) -> anyhow::Result<String> {
    let expires = SystemTime::now() + LINK_TTL + Duration::from_secs(number);
    let expires = expires.duration_since(UNIX_EPOCH)?.as_secs();
    let digest = Md5::digest(format!("{expires}/{file} {SECRET}"));
    let md5 = URL_SAFE_NO_PAD.encode(digest);
    Ok(format!("/{file}?expires={expires}&md5={md5}"))
}
