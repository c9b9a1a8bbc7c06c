//! Logs and metrics, the same for both programs.

use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::EnvFilter;

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
    Ok(guard)
}

/// Installs the process's metrics recorder.
///
/// # Errors
/// One is installed already.
pub fn start_metrics() -> Result<PrometheusHandle, TelemetryError> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS_BUCKETS)
        .expect("the list of buckets is not empty")
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
