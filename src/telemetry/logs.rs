use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::layer::{Filter, Layer, SubscriberExt};
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

/// Libraries that write what they carry (bound values, headers, handshakes) at their finer levels. Nothing of a row, a token or a
/// key may reach a log, so these stay at `info` whatever the filter says.
const TALKATIVE: [&str; 10] = [
    "tokio_postgres",
    "postgres",
    "refinery",
    "rustls",
    "tokio_rustls",
    "hyper",
    "hyper_util",
    "reqwest",
    "actix_http",
    "h2",
];

/// Sets up the process's log. A second call keeps the first one's settings, so that tests can share a process.
pub fn start(format: LogFormat, filter: &str) -> Result<(), LogFilterError> {
    let filter = whole_filter(filter)?;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(true).with_ansi(false);
    let lines = match format {
        LogFormat::Human => lines.with_filter(filter).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_filter(filter).boxed(),
    };
    if tracing_subscriber::registry().with(lines).try_init().is_err() {
        tracing::debug!("a log is already set up in this process");
    }
    Ok(())
}

/// The hint is what keeps libraries from making lines that nobody lets through: without it every level looks wanted.
fn whole_filter<S: Subscriber>(filter: &str) -> Result<impl Filter<S> + use<S>, LogFilterError> {
    let harmless = filter_fn(is_harmless).with_max_level_hint(LevelFilter::TRACE);
    Ok(EnvFilter::builder().parse(filter)?.and(harmless))
}

fn is_harmless(metadata: &Metadata<'_>) -> bool {
    let library = metadata.target().split("::").next().unwrap_or_default();
    *metadata.level() <= Level::INFO || !TALKATIVE.contains(&library)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `filter` lets through, as `target level`.
    fn told(filter: &str) -> Vec<String> {
        let lines = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let sink = std::sync::Arc::clone(&lines);
        let writer = move || Sink(std::sync::Arc::clone(&sink));
        let filter = whole_filter(filter).unwrap();
        let layer =
            tracing_subscriber::fmt::layer().with_writer(writer).without_time().with_ansi(false).with_filter(filter);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::trace!(target: "tokio_postgres::query", "bound values");
            tracing::info!(target: "tokio_postgres", "connected");
            tracing::trace!(target: "mosaic::x", "ours");
        });
        let told = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
        told.lines().map(|line| line.trim().to_owned()).collect()
    }

    struct Sink(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_nobody_lets_through_is_not_made() {
        let hint =
            |filter: &str| Filter::<tracing_subscriber::Registry>::max_level_hint(&whole_filter(filter).unwrap());
        assert_eq!(hint("info"), Some(LevelFilter::INFO));
        assert_eq!(hint("warn,mosaic=debug"), Some(LevelFilter::DEBUG));
    }

    #[test]
    fn no_filter_makes_a_library_write_what_it_carries() {
        let told = told("trace,tokio_postgres=trace,tokio_postgres::query=trace");
        assert_eq!(told, ["INFO tokio_postgres: connected", "TRACE mosaic::x: ours"]);
    }
}
