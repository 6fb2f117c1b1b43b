//! Bodies that nobody reads to their end.
//!
//! actix closes a connection whose request was not read when its answer is out, with one exception: a chunked body that was dropped is
//! read and thrown away for as long as it goes on, and neither the time for a head nor keep-alive ends that. So the body is kept as long
//! as the answer: the connection then lingers for a moment and closes, like one with a declared length.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::http::header::TRANSFER_ENCODING;
use actix_web::{HttpMessage, HttpResponse};
use bytes::Bytes;
use futures_util::{Stream, stream};

/// A request's body without a declared length, shared by its reader and its answer.
pub(super) struct Unread {
    _body: Rc<RefCell<Payload>>,
}

impl Unread {
    /// Shares the body of a request that has one without a length.
    pub(super) fn of(request: &mut ServiceRequest) -> Option<Self> {
        if !request.headers().contains_key(TRANSFER_ENCODING) {
            return None;
        }
        let shared = Rc::new(RefCell::new(request.take_payload()));
        let read = Rc::clone(&shared);
        let pieces = stream::poll_fn(move |cx| Pin::new(&mut *read.borrow_mut()).poll_next(cx));
        request.set_payload(Payload::Stream { payload: Box::pin(pieces) });
        Some(Self { _body: shared })
    }

    /// Keeps the body until this answer is out.
    pub(super) fn until_answered(self, response: HttpResponse) -> HttpResponse {
        response.map_body(|_, body| BoxBody::new(Answer { body, _unread: self }))
    }
}

/// The body of an answer that holds the body of its request.
struct Answer {
    body: BoxBody,
    _unread: Unread,
}

impl MessageBody for Answer {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        match self.body.size() {
            // A box of nothing would drop what it holds at once.
            BodySize::None => BodySize::Sized(0),
            size => size,
        }
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_next(cx)
    }
}
