//! W3C trace context: the caller's trace goes on, or one begins.

use uuid::Uuid;

/// The trace that a query is part of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Trace {
    /// 32 hexadecimal digits.
    pub(super) id: String,
    /// `traceparent` for the peers: the same trace, this node's own span.
    pub(super) onwards: Box<str>,
}

impl Trace {
    /// Goes on with a well-formed `traceparent` (`http::traceparent` checked it), or begins a trace.
    ///
    /// Ids are random (UUID v4) and never the request's: peers see them, and the request id is this site's alone.
    pub(super) fn of(inbound: Option<&str>) -> Self {
        let span = &Uuid::new_v4().simple().to_string()[..16];
        let inbound = inbound.and_then(|text| text.get(3..35).zip(text.get(53..55)));
        let (id, flags) = match inbound {
            Some((id, flags)) => (id.to_owned(), flags),
            None => (Uuid::new_v4().simple().to_string(), "01"),
        };
        let onwards = format!("00-{id}-{span}-{flags}").into_boxed_str();
        Self { id, onwards }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_callers_trace_goes_on_under_a_span_of_our_own() {
        let inbound = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
        let trace = Trace::of(Some(inbound));
        assert_eq!(trace.id, "0af7651916cd43dd8448eb211c80319c");
        assert!(trace.onwards.starts_with("00-0af7651916cd43dd8448eb211c80319c-"));
        assert!(trace.onwards.ends_with("-00"));
        assert_ne!(&*trace.onwards, inbound);
    }

    #[test]
    fn without_one_a_trace_begins() {
        let (one, two) = (Trace::of(None), Trace::of(None));
        assert_ne!(one.id, two.id);
        assert_eq!((one.id.len(), one.onwards.len()), (32, 55));
    }
}
