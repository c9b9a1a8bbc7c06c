//! Warm files over TLS, by HTTP/1.1 and by HTTP/2. nginx has `sendfile` off, as TLS in a process needs it; both use the
//! ciphers that their clients prefer, and the versions: wrk takes TLS 1.3, Debian's h2load 1.2.

use crate::lab::Lab;
use crate::report::Rows;
use crate::scenario::Scenario;
use crate::scenario::files::{self, Case};
use crate::server::{Front, Kind, Known};
use crate::tables::Style::{Count, Ratio, Share};
use crate::tables::Value::{EdgeRatio, Median};
use crate::tables::{Column, column};

pub(super) const TITLE: &str = "Files over TLS (wrk) and HTTP/2 (h2load, eight streams a connection)";
pub(super) const COLUMNS: &[Column] = &[
    column("edge, requests/s", Kind::Edge, Median("requests_per_second"), Count),
    column("nginx, requests/s", Kind::NginxTls, Median("requests_per_second"), Count),
    column("× nginx", Kind::NginxTls, EdgeRatio("requests_per_second"), Ratio),
    column("CPU × nginx", Kind::NginxTls, EdgeRatio("cpu_seconds_per_gb"), Ratio),
    column("edge's core busy", Kind::Edge, Median("core_busy"), Share),
    column("client's core busy", Kind::Edge, Median("client_busy"), Share),
];

const SERVERS: [Kind; 2] = [Kind::NginxTls, Kind::Edge];

const SMALL: Known = Known { name: "16KiB", bytes: 16 << 10 };
const LARGE: Known = Known { name: "64MiB", bytes: 64 << 20 };

const CASES: [Case; 4] = [
    case("tls-16KiB", SMALL, Front::Tls, 64),
    case("tls-64MiB", LARGE, Front::Tls, 8),
    case("h2-16KiB", SMALL, Front::H2, 8),
    case("h2-64MiB", LARGE, Front::H2, 1),
];

const fn case(name: &'static str, file: Known, front: Front, connections: u32) -> Case {
    Case { name, file, front, connections, links: 1 }
}

pub(super) fn run(lab: &Lab, rows: &mut Rows) -> anyhow::Result<()> {
    files::run(lab, rows, Scenario::Tls, &CASES, &SERVERS, Lab::start_with_tls)
}
