use std::error::Error;
use std::fmt;

/// Why a node does not start: which step, what happened, and what to do about it.
#[derive(Debug)]
pub struct BootError {
    pub step: &'static str,
    pub cause: String,
    pub remedy: String,
}

impl BootError {
    /// `cause` is told with everything that caused it.
    pub fn new(step: &'static str, cause: impl Error, remedy: impl Into<String>) -> Self {
        let mut text = cause.to_string();
        let mut source = cause.source();
        while let Some(inner) = source {
            let inner_text = inner.to_string();
            if !text.contains(&inner_text) {
                text = format!("{text}: {inner_text}");
            }
            source = inner.source();
        }
        Self { step, cause: text, remedy: remedy.into() }
    }

    pub fn told(step: &'static str, cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { step, cause: cause.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.step, self.cause)?;
        if self.remedy.is_empty() { Ok(()) } else { write!(f, "\n  remedy: {}", self.remedy) }
    }
}

impl Error for BootError {}
