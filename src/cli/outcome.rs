//! How a command ends: what it prints, and its exit code.

use std::fmt::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use super::terminal::{harmless, harmless_json, harmless_lines};

/// A command that was carried out. People read `text`, programs read `json`.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) text: String,
    /// One JSON document; none for commands that have nothing to tell.
    pub(crate) json: Option<String>,
    /// Said on standard error, in both forms.
    pub(crate) notes: Vec<String>,
    /// Carried out, and the answer is a failure: exit 1.
    pub(crate) failed: bool,
}

impl Outcome {
    /// The same facts for people and for programs.
    pub(crate) fn new<T: Serialize>(value: &T, text: impl Into<String>) -> Self {
        let json = serde_json::to_string_pretty(value).expect("invariant: our DTOs are JSON");
        Self { text: text.into(), json: Some(json), ..Self::default() }
    }

    #[must_use]
    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}

/// A command that was not carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The command line asks for something that cannot be: exit 2.
    Misused { message: String, remedy: Option<String> },
    /// Exit 1.
    Failed { message: String, remedy: Option<String> },
    /// The node refused: exit 1.
    Refused(Box<Refusal>),
}

/// An error answer of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) reason: Option<String>,
    pub(crate) request_id: Option<String>,
    pub(crate) retry_after_ms: Option<u64>,
    /// Which token was sent: decides the advice on 401.
    pub(crate) as_admin: bool,
    /// What the command knows better than the code tells.
    pub(crate) advice: Option<String>,
}

impl Failure {
    pub(crate) fn misused(message: impl Into<String>) -> Self {
        Self::Misused { message: message.into(), remedy: None }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), remedy: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub(crate) fn remedy(mut self, what_to_do: impl Into<String>) -> Self {
        let remedy = match &mut self {
            Self::Misused { remedy, .. } | Self::Failed { remedy, .. } => remedy,
            Self::Refused(refusal) => &mut refusal.advice,
        };
        *remedy = Some(what_to_do.into());
        self
    }

    #[must_use]
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Misused { .. } => 2,
            Self::Failed { .. } | Self::Refused(_) => 1,
        }
    }

    /// For people: what went wrong, then what to do.
    #[must_use]
    pub(crate) fn text(&self) -> String {
        let (message, remedy) = match self {
            Self::Misused { message, remedy } | Self::Failed { message, remedy } => (message.clone(), remedy.clone()),
            Self::Refused(refusal) => (refusal.text(), refusal.remedy()),
        };
        let mut text = format!("mosaic: {}\n", harmless_lines(&message));
        if let Some(remedy) = remedy {
            for line in harmless_lines(&remedy).lines() {
                let _ = writeln!(text, "  {line}");
            }
        }
        text
    }

    /// For programs: the shape that the API's errors have.
    #[must_use]
    pub(crate) fn json(&self) -> String {
        let mut error = serde_json::Map::new();
        let mut put = |name: &str, value: serde_json::Value| error.insert(name.to_owned(), value);
        match self {
            Self::Misused { message, remedy } | Self::Failed { message, remedy } => {
                let code = if matches!(self, Self::Misused { .. }) { "misused" } else { "failed" };
                put("code", code.into());
                put("message", message.as_str().into());
                remedy.as_ref().map(|remedy| put("remedy", remedy.as_str().into()));
            }
            Self::Refused(refusal) => {
                put("code", refusal.code.as_str().into());
                put("message", refusal.message.as_str().into());
                put("status", refusal.status.into());
                refusal.reason.as_ref().map(|reason| put("reason", reason.as_str().into()));
                refusal.request_id.as_ref().map(|id| put("request_id", id.as_str().into()));
                refusal.retry_after_ms.map(|after| put("retry_after_ms", after.into()));
                refusal.remedy().map(|remedy| put("remedy", remedy.into()));
            }
        }
        harmless_json(&serde_json::json!({ "error": error }).to_string())
    }
}

impl Refusal {
    fn text(&self) -> String {
        let mut text = format!("{} ({})", self.message, self.code);
        if let Some(reason) = &self.reason {
            let _ = write!(text, ", reason: {reason}");
        }
        if let Some(id) = &self.request_id {
            let _ = write!(text, "\n  request {}", harmless(id));
        }
        text
    }

    fn remedy(&self) -> Option<String> {
        if self.advice.is_some() {
            return self.advice.clone();
        }
        let text = match self.code.as_str() {
            "unauthorized" if self.as_admin => {
                "the admin token is wrong, expired or revoked: give a valid one with --admin-token or MOSAIC_ADMIN_TOKEN"
            }
            "unauthorized" => {
                "the session token is wrong, expired or revoked: make one with 'mosaic token create --user <name> --save'"
            }
            "unknown_source" => "'mosaic federation status' lists the sources of this session",
            "unavailable" => "if this node lacks something, 'mosaic gateway doctor' tells what, and what to do",
            "internal" => "the node's log tells more under this request id",
            "rate_limited" => match self.retry_after_ms {
                Some(after) => return Some(format!("ask again in {} s", after.div_ceil(1000))),
                None => "ask again later",
            },
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// Prints how a command ended and gives its exit code.
#[must_use]
pub(crate) fn conclude(result: Result<Outcome, Failure>, json: bool) -> ExitCode {
    match result {
        Ok(outcome) => {
            for note in &outcome.notes {
                say_error(&format!("{}\n", harmless_lines(note)));
            }
            match outcome.json {
                Some(document) if json => say(&format!("{}\n", harmless_json(document.trim_end()))),
                _ if json => {}
                _ => say(&outcome.text),
            }
            ExitCode::from(u8::from(outcome.failed))
        }
        Err(failure) => {
            if json {
                say(&format!("{}\n", failure.json()));
            } else {
                say_error(&failure.text());
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Writes to standard output; a reader that went away (`| head`) is not an error.
pub(crate) fn say(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn say_error(text: &str) {
    use std::io::Write;
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: &str) -> Failure {
        Failure::Refused(Box::new(Refusal {
            status: 401,
            code: code.to_owned(),
            message: "send a token".to_owned(),
            reason: None,
            request_id: Some("0190".to_owned()),
            retry_after_ms: None,
            as_admin: true,
            advice: None,
        }))
    }

    #[test]
    fn a_misused_command_exits_2_and_a_failed_one_1() {
        assert_eq!(Failure::misused("x").exit_code(), 2);
        assert_eq!(refusal("invalid_request").exit_code(), 1);
        assert_eq!(Failure::failed("x").exit_code(), 1);
        assert_eq!(refusal("unauthorized").exit_code(), 1);
    }

    #[test]
    fn a_refusal_is_printed_with_code_message_and_what_to_do() {
        assert_eq!(
            refusal("unauthorized").text(),
            "mosaic: send a token (unauthorized)\n  request 0190\n  the admin token is wrong, expired or revoked: \
             give a valid one with --admin-token or MOSAIC_ADMIN_TOKEN\n"
        );
        let json: serde_json::Value = serde_json::from_str(&refusal("conflict").json()).unwrap();
        assert_eq!(json["error"]["code"], "conflict");
        assert_eq!(json["error"]["request_id"], "0190");
    }
}
