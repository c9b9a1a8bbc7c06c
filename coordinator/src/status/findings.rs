//! What operators should look at, in words: for `status`, and for the page.

use sluice_shared::findings::{Finding, Level};

use crate::membership::{EdgeStatus, State};

/// Findings that are told; of more, how many there are.
const TOLD_MAX: usize = 50;

/// Why this coordinator is not ready, what does not work while the rest does, and what is wrong with edges. The worst first.
pub(crate) fn of_cluster(
    unready: &[&'static str],
    notes: &[&'static str],
    edges: &[EdgeStatus],
    skipped: usize,
) -> Vec<Finding> {
    let coordinator = |level, found: &&'static str| finding("coordinator", level, (*found).to_owned(), None);
    let mut findings: Vec<Finding> = Vec::new();
    findings.extend(unready.iter().map(|reason| coordinator(Level::Fail, reason)));
    findings.extend(edges.iter().filter_map(of_state));
    findings.extend(notes.iter().map(|note| coordinator(Level::Warn, note)));
    findings.extend(edges.iter().filter_map(of_url));
    findings.extend(edges.iter().filter_map(of_store));
    if skipped > 0 {
        let found = format!("{skipped} of them in etcd are not taken");
        findings.push(finding("records", Level::Warn, found, Some("`sluicectl edges list` names them")));
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.level));
    let beyond = findings.len().saturating_sub(TOLD_MAX);
    if beyond > 0 {
        findings.truncate(TOLD_MAX);
        let remedy = Some("`sluicectl edges list` has all edges");
        findings.push(finding("more", Level::Warn, format!("{beyond} findings"), remedy));
    }
    findings
}

fn of_state(status: &EdgeStatus) -> Option<Finding> {
    let (id, health) = (&status.edge.record.id, &status.health);
    match health.state() {
        State::Up | State::Unknown => None,
        State::Draining => Some(finding("edge", Level::Ok, format!("{id} is draining"), None)),
        State::Degraded => {
            let remedy = health.ailment().map(crate::membership::Ailment::remedy);
            Some(finding("edge", Level::Warn, format!("{id} is degraded"), remedy))
        }
        State::Down => {
            let remedy = "see that it runs, and that this coordinator reaches its admin_url";
            Some(finding("edge", Level::Fail, format!("{id} does not answer"), Some(remedy)))
        }
    }
}

fn of_url(status: &EdgeStatus) -> Option<Finding> {
    let fault = status.url_fault.as_ref()?;
    let record = &status.edge.record;
    let found = format!("{}, where clients are sent to it ({}): {fault}", record.id, record.url);
    Some(finding("edge", Level::Warn, found, Some(fault.remedy())))
}

fn of_store(status: &EdgeStatus) -> Option<Finding> {
    let stuck = status.said.as_ref()?.load.storage_stuck.filter(|stuck| *stuck > 0)?;
    let found = format!("{}: {stuck} operations hang in its store", status.edge.record.id);
    Some(finding("edge", Level::Warn, found, Some("see the runbook, NFS trouble")))
}

fn finding(what: &str, level: Level, found: String, remedy: Option<&str>) -> Finding {
    Finding { what: what.to_owned(), level, found, remedy: remedy.map(str::to_owned) }
}
