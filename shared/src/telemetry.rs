//! Logs and metrics, the same for both programs.

use std::backtrace::Backtrace;
use std::io::Write as _;
use std::panic::{self, PanicHookInfo};
use std::time::{Duration, SystemTime};

pub use metrics_exporter_prometheus::PrometheusHandle;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use metrics_util::MetricKindMask;
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

pub mod metric;

/// Upper bounds of every histogram of seconds: 0.1 ms to 10 minutes, about three a decade.
const SECONDS_BUCKETS: [f64; 19] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    60.0, 300.0, 600.0,
];

/// Histograms that nobody scrapes grow until somebody drains them.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("`log.filter`: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    #[error("telemetry was started before in this process")]
    Twice,
}

/// Starts logging: JSON lines on standard error, written by a thread of its own, so that a blocked terminal or pipe
/// never holds up a request. Lines are lost rather than waited for when it cannot keep up. Keep the guard: dropping
/// it writes what is pending.
///
/// # Errors
/// `filter` (as in `info` or `info,sluice_shared=debug`) cannot be read; logging was started before.
pub fn start_logs(filter: &str) -> Result<WorkerGuard, TelemetryError> {
    let filter = EnvFilter::try_new(filter)?;
    let (writer, guard) = tracing_appender::non_blocking(std::io::stderr());
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(writer)
        .try_init()
        .map_err(|_| TelemetryError::Twice)?;
    panic::set_hook(Box::new(|panicked| {
        // At once, and not by the thread that writes the other lines: the process may end here.
        let _ = std::io::stderr().lock().write_all(line_of(panicked).as_bytes());
    }));
    Ok(guard)
}

/// A panic as a line of the log, like any other.
fn line_of(panicked: &PanicHookInfo<'_>) -> String {
    let payload = panicked.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let line = serde_json::json!({
        "timestamp": humantime::format_rfc3339_micros(SystemTime::now()).to_string(),
        "level": "ERROR",
        "message": "panicked",
        "fault": text,
        "place": panicked.location().map(ToString::to_string),
        "thread": std::thread::current().name(),
        "backtrace": Backtrace::capture().to_string(),
        "target": module_path!(),
    });
    format!("{line}\n")
}

/// Gauges that were not set since the scrape before are left out after so long: they are of what is no more, an edge that
/// left. Those of what is there are set before each scrape.
const GAUGES_LAST: Duration = Duration::from_secs(10);

/// Installs the process's metrics recorder.
///
/// # Errors
/// One is installed already.
pub fn start_metrics() -> Result<PrometheusHandle, TelemetryError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS_BUCKETS)
        .expect("the list of buckets is not empty")
        .idle_timeout(MetricKindMask::GAUGE, Some(GAUGES_LAST))
        .install_recorder()
        .map_err(|_| TelemetryError::Twice)
}

/// Keeps histograms from growing; run it for as long as the process lives.
pub async fn upkeep(handle: PrometheusHandle) {
    loop {
        tokio::time::sleep(UPKEEP_EVERY).await;
        handle.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use super::*;

    #[test]
    fn a_panic_is_one_line_that_says_what_and_where() {
        let lines = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&lines);
        panic::set_hook(Box::new(move |panicked| {
            written.lock().expect("nobody panics with it").push_str(&line_of(panicked));
        }));
        let ended = panic::catch_unwind(|| panic!("a \"quoted\"\nfault"));
        let _ = panic::take_hook();
        assert!(ended.is_err());
        let lines = lines.lock().expect("nobody panics with it");
        assert!(lines.ends_with('\n') && lines.lines().count() == 1, "{lines}");
        let line: Value = serde_json::from_str(&lines).expect("an object");
        assert_eq!((&line["level"], &line["fault"]), (&"ERROR".into(), &"a \"quoted\"\nfault".into()));
        assert!(line["place"].as_str().is_some_and(|place| place.contains("telemetry.rs")), "{line}");
    }
}
