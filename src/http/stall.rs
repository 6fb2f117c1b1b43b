//! Readers that take nothing: actix bounds how long a head may take and nothing of an answer, so the kernel does.

use std::any::Any;
use std::time::Duration;

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::rt::net::TcpStream;

/// Cuts the connection when bytes that were written are not taken for `within`: lost, or held up by a full window (RFC 5482,
/// `TCP_USER_TIMEOUT`). Call it from `HttpServer::on_connect`; a socket that is not TCP is left alone.
pub fn limit_write_stall(io: &dyn Any, within: Duration) {
    let tls = io.downcast_ref::<TlsStream<TcpStream>>().map(|stream| stream.get_ref().0);
    let Some(tcp) = tls.or_else(|| io.downcast_ref::<TcpStream>()) else { return };
    let ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
    if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(tcp, ms) {
        tracing::warn!(%error, "a connection has no bound on stalled writes");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream as Client};
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll};

    use actix_web::body::{BodySize, MessageBody};
    use actix_web::{App, HttpResponse, HttpServer, web};
    use bytes::Bytes;

    use super::*;

    /// An answer without end that tells when nobody writes it any more.
    struct Endless(Arc<AtomicBool>);

    impl MessageBody for Endless {
        type Error = std::convert::Infallible;

        fn size(&self) -> BodySize {
            BodySize::Stream
        }

        fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
            Poll::Ready(Some(Ok(Bytes::from_static(&[b'x'; 16 * 1024]))))
        }
    }

    impl Drop for Endless {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    #[actix_web::test]
    async fn a_reader_that_takes_nothing_is_cut() {
        let given_up = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&given_up);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = HttpServer::new(move || {
            let seen = Arc::clone(&seen);
            let endless = move || std::future::ready(HttpResponse::Ok().body(Endless(Arc::clone(&seen))));
            App::new().route("/", web::get().to(endless))
        })
        .workers(1)
        .on_connect(|io, _| limit_write_stall(io, Duration::from_millis(500)))
        .disable_signals()
        .listen(listener)
        .unwrap()
        .run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        let mut client = Client::connect(address).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let until = tokio::time::Instant::now() + Duration::from_secs(30);
        while !given_up.load(Ordering::SeqCst) {
            assert!(tokio::time::Instant::now() < until, "the answer is still being written");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        drop(client);
        handle.stop(false).await;
    }
}
