//! Links made: a coordinator's answers, each with a token of its own, beside hyper that gives one ready-made answer of
//! the same fields and length, and beside the Python server that the coordinator replaces.

use std::path::Path;

use anyhow::{Context, ensure};
use sluice_loadtest::client::{self, Answer};
use sluice_loadtest::{Content, SoloEdge};

use crate::coordinator::Scheme;
use crate::lab::{Lab, Load};
use crate::report::{Bound, Goal, Measures, Rows};
use crate::scenario::Scenario;
use crate::server::{Front, Kind, Known, Links, Server};
use crate::tables::Style::{Count, Ratio, Share};
use crate::tables::Value::Median;
use crate::tables::{Column, column};
use crate::wrk::Order;
use crate::{bare_hyper, coordinator, python};

pub(super) const TITLE: &str = "Links made, 64 connections, a token of its own in each answer; bare hyper gives one ready-made answer, Python always JSON";

pub(super) const COLUMNS: &[Column] = &[
    column("coordinator, answers/s", Kind::Coordinator, Median("requests_per_second"), Count),
    column("÷ bare hyper", Kind::Coordinator, Median(OF_BARE), Ratio),
    column("× Python", Kind::Coordinator, Median(OF_PYTHON), Ratio),
    column("× Python, tuned", Kind::Coordinator, Median(OF_PYTHON_TUNED), Ratio),
    column("coordinator, p99 ms", Kind::Coordinator, Median("p99_ms"), Ratio),
    column("coordinator's core busy", Kind::Coordinator, Median("core_busy"), Share),
    column("client's core busy", Kind::Coordinator, Median("client_busy"), Share),
];

pub(super) const GOALS: &[Goal] = &[
    Goal {
        what: "share of bare hyper's rate",
        case: REDIRECT,
        measure: OF_BARE,
        bound: Bound::AtLeast(0.75),
    },
    Goal { what: "share of bare hyper's rate", case: SIGNED, measure: OF_BARE, bound: Bound::AtLeast(0.5) },
    Goal { what: "rate ÷ Python's", case: REDIRECT, measure: OF_PYTHON, bound: Bound::AtLeast(20.0) },
    Goal { what: "rate ÷ Python's", case: JSON, measure: OF_PYTHON, bound: Bound::AtLeast(20.0) },
];

const OF_BARE: &str = "share_of_bare_hyper";
const OF_PYTHON: &str = "times_python";
const OF_PYTHON_TUNED: &str = "times_python_tuned";

const REDIRECT: &str = "redirect";
const SIGNED: &str = "signed";
const JSON: &str = "json";

const CONNECTIONS: u32 = 64;
const FILE: Known = Known { name: "annual-report.pdf", bytes: 1 << 10 };
/// A length that is drawn by chance, or a date, may make this much of a difference.
const BYTES_APART_MAX: f64 = 0.01;

/// How a coordinator is asked, and who is asked beside it.
struct Case {
    name: &'static str,
    scheme: Scheme,
    ask: fn(&str, u64) -> anyhow::Result<String>,
    status: u16,
    others: &'static [Kind],
}

const CASES: [Case; 3] = [
    Case {
        name: REDIRECT,
        scheme: Scheme::Open,
        ask: coordinator::redirect,
        status: 302,
        others: &[Kind::BareHyper, Kind::Python, Kind::PythonTuned],
    },
    Case {
        name: SIGNED,
        scheme: Scheme::Signature,
        ask: coordinator::redirect,
        status: 302,
        others: &[Kind::BareHyper],
    },
    Case {
        name: JSON,
        scheme: Scheme::Open,
        ask: coordinator::request_download,
        status: 200,
        others: &[Kind::Python, Kind::PythonTuned],
    },
];

/// A server, and what it is asked.
struct Contestant {
    server: Server,
    links: Links,
}

pub(super) fn run(lab: &Lab, rows: &mut Rows) -> anyhow::Result<()> {
    let root = lab.root()?;
    FILE.write(root.path())?;
    // It does nothing but be healthy, and redeem a link of each server.
    let edge = SoloEdge::start(root.path(), |settings| settings)?;
    for case in CASES.iter().filter(|case| lab.selection.has_case(Scenario::Mint, case.name)) {
        let mut contestants = contestants(lab, case, &edge)?;
        for round in 0..lab.rounds {
            for (kind, measured) in measure(lab, case, round, &mut contestants)? {
                rows.add(case.name, kind.name(), measured);
            }
        }
    }
    Ok(())
}

fn contestants(lab: &Lab, case: &Case, edge: &SoloEdge) -> anyhow::Result<Vec<Contestant>> {
    let own = lab.server_folder()?;
    let server = coordinator::start(&own, &lab.coordinator, case.scheme, edge, Box::new(case.ask))?;
    let is_signed = case.scheme == Scheme::Signature;
    let mut server = if is_signed { server.asked_signed() } else { server };
    server.wait_until_it_answers(FILE.name, case.status)?;
    let answer = redeem(&server)?;
    let mut servers = vec![server];
    for kind in case.others {
        let own = lab.server_folder()?;
        servers.push(match kind {
            // It checks no signature, but is asked the same.
            Kind::BareHyper if is_signed => bare(&own, &answer)?.asked_signed(),
            Kind::BareHyper => bare(&own, &answer)?,
            _ => reference(&own, *kind, edge)?,
        });
    }
    let contestant = |server: Server| {
        // One is enough: no server here keeps anything of a call, and wrk needs all of its core beside bare hyper.
        let links = server.first_link(FILE.name)?;
        Ok(Contestant { server, links })
    };
    servers.into_iter().map(contestant).collect()
}

fn bare(own: &Path, answer: &Answer) -> anyhow::Result<Server> {
    let mut server = bare_hyper::start(own, &answer.head)?;
    server.wait_until_it_answers(FILE.name, answer.status())?;
    Ok(server)
}

fn reference(own: &Path, kind: Kind, edge: &SoloEdge) -> anyhow::Result<Server> {
    let mut server = python::start(own, kind, edge)?;
    server.wait_until_it_answers(FILE.name, 200)?;
    redeem(&server)?;
    Ok(server)
}

/// Its links have to open the file at the edge: a server that mints something else would be measured at that. Gives its
/// answer.
fn redeem(server: &Server) -> anyhow::Result<Answer> {
    let answer = server.ask(FILE.name)?;
    let link = match answer.status() {
        302 => answer.field("location")?.to_owned(),
        _ => answer.json()?["download_url"].as_str().unwrap_or_default().to_owned(),
    };
    let file = client::get_here(&link).with_context(|| format!("{} gave {link:?}", server.name()))?;
    ensure!(file.status() == 200, "{}: the edge answers its link with {}", server.name(), file.status());
    Content::new(FILE.name, FILE.bytes).check_whole(&file.body)?;
    Ok(answer)
}

/// Measures each once; the round says with whom it begins.
fn measure(
    lab: &Lab,
    case: &Case,
    round: usize,
    contestants: &mut [Contestant],
) -> anyhow::Result<Vec<(Kind, Measures)>> {
    let mut measured = Vec::new();
    for turn in 0..contestants.len() {
        let at = (round + turn) % contestants.len();
        let Contestant { server, links } = &mut contestants[at];
        lab.say(case.name, round, server.name())?;
        let load = Load { links, connections: CONNECTIONS, order: Order::First, front: Front::Plain };
        measured.push((server.kind, lab.measure(server, &load)?));
        server.empty_log()?;
    }
    compare(&mut measured)?;
    Ok(measured)
}

/// Adds to what a coordinator did how much that is of what others did.
fn compare(measured: &mut [(Kind, Measures)]) -> anyhow::Result<()> {
    let of = |kind: Kind| {
        let found = measured.iter().find(|(known, _)| *known == kind);
        found.map(|(_, measured)| measured.clone()).unwrap_or_default()
    };
    let (ours, bare) = (of(Kind::Coordinator), of(Kind::BareHyper));
    let apart = (bytes_per_answer(&ours) / bytes_per_answer(&bare) - 1.0).abs();
    // No number where there is no bare hyper.
    ensure!(
        apart.is_nan() || apart < BYTES_APART_MAX,
        "bare hyper's answers are not as long as the coordinator's: {bare:?}, {ours:?}"
    );
    let ratio = |kind| ours.ratio(&of(kind), "requests_per_second");
    let compared = ours
        .clone()
        .with(OF_BARE, ratio(Kind::BareHyper))
        // What the share would be, upside down, where wrk or others kept bare hyper waiting.
        .with("cpu_times_bare_hyper", ours.ratio(&bare, "cpu_seconds_per_100k_requests"))
        .with(OF_PYTHON, ratio(Kind::Python))
        .with(OF_PYTHON_TUNED, ratio(Kind::PythonTuned));
    for (_, measured) in measured.iter_mut().filter(|(kind, _)| *kind == Kind::Coordinator) {
        *measured = compared.clone();
    }
    Ok(())
}

fn bytes_per_answer(measured: &Measures) -> f64 {
    let value = |name| measured.value(name).unwrap_or(f64::NAN);
    value("gb_per_second") / value("requests_per_second")
}
