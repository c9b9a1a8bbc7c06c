//! Warm files: requests a second, and processor time a request and a byte.

use crate::lab::Lab;
use crate::report::Rows;
use crate::scenario::Scenario;
use crate::scenario::files::{self, Case};
use crate::server::{Front, Kind, Known};
use crate::tables::Style::{Count, Ratio, Share};
use crate::tables::Value::{EdgeRatio, Median};
use crate::tables::{Column, column};

pub(super) const TITLE: &str = "Warm files; 64 connections where nothing else is said, 8 at 64 MiB";

pub(super) const COLUMNS: &[Column] = &[
    column("edge, requests/s", Kind::Edge, Median("requests_per_second"), Count),
    column("× nginx", Kind::Nginx, EdgeRatio("requests_per_second"), Ratio),
    column("× nginx + `open_file_cache`", Kind::NginxCache, EdgeRatio("requests_per_second"), Ratio),
    column("CPU × nginx", Kind::Nginx, EdgeRatio("cpu_seconds_per_gb"), Ratio),
    column("CPU × nginx + `open_file_cache`", Kind::NginxCache, EdgeRatio("cpu_seconds_per_gb"), Ratio),
    column("edge's core busy", Kind::Edge, Median("core_busy"), Share),
    column("client's core busy", Kind::Edge, Median("client_busy"), Share),
];

const SERVERS: [Kind; 3] = [Kind::Nginx, Kind::NginxCache, Kind::Edge];
/// Links where they are asked in turn: so many that none is seen again soon. No server here keeps what it has checked;
/// one case shows it, the others spare the client the work of choosing.
const MANY_LINKS: usize = 1_000;

const CASES: [Case; 7] = [
    case("1KiB", "1KiB", 1 << 10, 64, 1),
    case("1KiB-c512", "1KiB", 1 << 10, 512, 1),
    case("1KiB-1000-links", "1KiB", 1 << 10, 64, MANY_LINKS),
    case("16KiB", "16KiB", 16 << 10, 64, 1),
    case("128KiB", "128KiB", 128 << 10, 64, 1),
    case("1MiB", "1MiB", 1 << 20, 64, 1),
    case("64MiB", "64MiB", 64 << 20, 8, 1),
];

const fn case(name: &'static str, file: &'static str, bytes: u64, connections: u32, links: usize) -> Case {
    Case { name, file: Known { name: file, bytes }, front: Front::Plain, connections, links }
}

pub(super) fn run(lab: &Lab, rows: &mut Rows) -> anyhow::Result<()> {
    files::run(lab, rows, Scenario::Warm, &CASES, &SERVERS, Lab::start)
}
