use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines are written to standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One readable line per event.
    #[default]
    Human,
    /// One JSON object per event.
    Json,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("log.filter: {0}; use levels such as 'info' or 'mosaic=debug,warn'")]
pub struct LogFilterError(#[from] tracing_subscriber::filter::ParseError);

/// Sets up the process's log. A second call keeps the first one's settings, so that tests can share a process.
pub fn start(format: LogFormat, filter: &str) -> Result<(), LogFilterError> {
    let filter = EnvFilter::builder().parse(filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(true);
    let outcome = match format {
        LogFormat::Human => builder.with_ansi(false).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    };
    if outcome.is_err() {
        tracing::debug!("a log is already set up in this process");
    }
    Ok(())
}
