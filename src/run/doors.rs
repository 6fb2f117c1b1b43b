//! Steps 4 and 8: the three listeners.
//!
//! Sockets are bound early, so that a taken port ends the start at once, and served late, so that nothing is answered before the
//! node can answer it.

use std::future::ready;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_http::{HttpService, Protocol};
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, map_config};
use actix_tls::accept::TlsError;
use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::dev::{AppConfig, Server, ServerHandle};
use actix_web::middleware::from_fn;
use actix_web::rt::net::TcpStream;
use actix_web::{App, HttpServer, web};
use futures_util::future::join_all;
use mosaic_actors::audit_writer::AuditHandle;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::time::Instant;

use super::BootError;
use super::node::Parts;
use crate::config::{Config, TlsFiles};
use crate::federation_api::Watches;
use crate::http::limit_write_stall;
use crate::telemetry::metrics::{self, Metrics};
use crate::tls::peer_connection::on_connect;
use crate::tls::{self, Acceptor, OnRefused, TlsVersions};
use crate::{admin_api, enrollment_api, federation_api, health, http, openapi, session_api};

/// While draining: how often the count of requests is looked at, and how long the last answers may take to leave the buffers.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const FLUSH: Duration = Duration::from_millis(250);

/// How long a closing connection may take to say goodbye.
const LINGER: Duration = Duration::from_secs(1);

/// The bound sockets.
pub(super) struct Sockets {
    pub(super) api: TcpListener,
    pub(super) federation: TcpListener,
    pub(super) enrollment: TcpListener,
}

impl Sockets {
    pub(super) fn bind(config: &Config) -> Result<Self, BootError> {
        Ok(Self {
            api: bind("api.listen", config.api.listen)?,
            federation: bind("federation.listen", config.federation.listener.listen)?,
            enrollment: bind("enrollment.listen", config.enrollment.listen)?,
        })
    }
}

/// The address that a socket got: it has a port also where the configuration says 0.
pub(super) fn address(socket: &TcpListener) -> Result<SocketAddr, BootError> {
    socket.local_addr().map_err(|error| BootError::new("listeners", error, "report this as a defect"))
}

fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, BootError> {
    let bound = || -> std::io::Result<TcpListener> {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    bound().map_err(|error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::AddrInUse => format!("stop what listens on {address}, or set {key} to another address"),
            std::io::ErrorKind::PermissionDenied => {
                format!("ports below 1024 need a privilege; set {key} to a higher port")
            }
            _ => format!("set {key} to an address of this machine"),
        };
        BootError::told("listeners", format!("{key} = {address}: {error}"), remedy)
    })
}

/// Running servers.
pub(super) struct Doors {
    handles: Vec<ServerHandle>,
    metrics: Arc<Metrics>,
    /// Open watches are no requests that a stopping node waits for: they are told to leave.
    watches: Arc<Watches>,
    audit: AuditHandle,
    drain: Duration,
}

impl Doors {
    /// Opens all three; the API last, because whoever sees it ready may use everything.
    pub(super) fn open(parts: &Parts, sockets: Sockets, on_refused: OnRefused) -> Result<Self, BootError> {
        let asked_by_peers = parts.federation();
        let watches = Arc::clone(&asked_by_peers.watches);
        let servers = [
            ("federation", federation(parts, asked_by_peers, sockets.federation, on_refused)?),
            ("enrollment", enrollment(parts, sockets.enrollment)?),
            ("api", api(parts, sockets.api)?),
        ];
        Ok(Self {
            handles: servers.into_iter().map(|(name, server)| serve(name, server)).collect(),
            metrics: Arc::clone(&parts.metrics),
            watches,
            audit: parts.audit.clone(),
            drain: parts.config.limits.drain,
        })
    }

    /// No new connections; what is under way is answered, within the drain's time; then the connections close. The server's own
    /// graceful stop would wait for idle keep-alive connections too, for as long as it may: every stop would take that long.
    pub(super) async fn close(self) {
        join_all(self.handles.iter().map(ServerHandle::pause)).await;
        self.watches.close();
        let give_up = Instant::now() + self.drain;
        while self.metrics.in_flight() > 0 && Instant::now() < give_up {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        let cut = self.metrics.in_flight();
        if cut > 0 {
            tracing::warn!(requests = cut, "the time for draining is over; what is still under way is cut");
        }
        // The last answers are on their way out of our buffers.
        tokio::time::sleep(FLUSH).await;
        if tokio::time::timeout(self.drain, self.audit.leave_threads()).await.is_err() {
            tracing::warn!("the database does not take the last audit events; their requests were not answered");
        }
        join_all(self.handles.iter().map(|handle| handle.stop(false))).await;
    }
}

fn serve(name: &'static str, server: Server) -> ServerHandle {
    let handle = server.handle();
    actix_rt::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(listener = name, %error, "a listener ended");
        }
    });
    handle
}

fn api(parts: &Parts, socket: TcpListener) -> Result<Server, BootError> {
    let (sessions, admins, probes) = (parts.sessions(), parts.admins(), parts.probes());
    let metrics = Arc::clone(&parts.metrics);
    let server = HttpServer::new(move || {
        let metrics = Arc::clone(&metrics);
        App::new()
            .wrap(from_fn(http::identify))
            .wrap(from_fn(move |request, next| metrics::measure(Arc::clone(&metrics), "api", request, next)))
            .configure(admin_api::configure(admins.clone()))
            .configure(session_api::configure(sessions.clone()))
            .configure(health::configure(probes.clone()))
            .configure(openapi::configure)
            .default_service(web::to(http::no_such_path))
    });
    let limits = &parts.config.limits;
    let stall = limits.write_stall;
    let server = server
        .on_connect(move |io, _| limit_write_stall(io, stall))
        // A session that hangs up is gone: its question ends here, at every peer, and in their databases. Who only closes its
        // sending side looks the same and gets no answer; clients of HTTP do not do that.
        .h1_allow_half_closed(false)
        .workers(limits.workers_here())
        .backlog(limits.backlog)
        .keep_alive(limits.keep_alive)
        .client_request_timeout(limits.request_head)
        .client_disconnect_timeout(LINGER)
        .max_connections(limits.api_connections)
        .disable_signals();
    let bound = match &parts.config.api.tls {
        None => server.listen(socket),
        Some(files) => server.listen_rustls_0_23(socket, api_tls(files)?),
    };
    bound.map(HttpServer::run).map_err(|error| cannot("api", error))
}

/// Put together as actix-web's `listen_rustls_0_23` does it, but with an acceptor that tells whom it refused (ADR 16).
fn federation(
    parts: &Parts,
    services: web::Data<federation_api::Services>,
    socket: TcpListener,
    on_refused: OnRefused,
) -> Result<Server, BootError> {
    let metrics = Arc::clone(&parts.metrics);
    let limits = parts.config.limits.clone();
    let acceptor = Acceptor {
        gate: parts.pki.gate.clone(),
        identity: parts.pki.identity.clone(),
        versions: if parts.config.federation.tls12 { TlsVersions::From12 } else { TlsVersions::Only13 },
        handshake_timeout: limits.tls_handshake,
        at_once: limits.handshakes,
        on_refused,
    };
    let identify_peer = Arc::new(on_connect(parts.pki.arc.clone(), parts.pki.ca.root(), Arc::clone(&parts.clock)));
    let (workers, backlog, connections) = (limits.workers_here(), limits.backlog, limits.federation_connections);
    let audit = parts.audit.clone();
    let service = move || {
        // Once in each of this listener's threads: events stay where their requests are.
        audit.serve_this_thread();
        let (services, metrics) = (services.clone(), Arc::clone(&metrics));
        let app = App::new()
            .wrap(from_fn(http::identify))
            .wrap(from_fn(move |request, next| metrics::measure(Arc::clone(&metrics), "federation", request, next)))
            .configure(federation_api::configure(services));
        let (identify_peer, stall) = (Arc::clone(&identify_peer), limits.write_stall);
        let http = HttpService::build()
            .keep_alive(limits.keep_alive)
            .client_request_timeout(limits.request_head)
            .client_disconnect_timeout(LINGER)
            // An asker that hangs up is gone: its handler is dropped, and with it the query in the database.
            .h1_allow_half_closed(false)
            .on_connect_ext(move |io: &TlsStream<TcpStream>, extensions| {
                limit_write_stall(io, stall);
                identify_peer(io, extensions);
            })
            .finish(map_config(app.into_factory().map_err(|error: actix_web::Error| error.error_response()), |()| {
                AppConfig::default()
            }))
            .map_err(TlsError::Service);
        acceptor
            .clone()
            .and_then(|io: TlsStream<TcpStream>| {
                let remote = io.get_ref().0.peer_addr().ok();
                ready(Ok((io, Protocol::Http1, remote)))
            })
            .and_then(http)
    };
    Server::build()
        .workers(workers)
        .backlog(backlog)
        .max_concurrent_connections(connections)
        .disable_signals()
        .listen("federation", socket, service)
        .map(actix_server::ServerBuilder::run)
        .map_err(|error| cannot("federation", error))
}

fn enrollment(parts: &Parts, socket: TcpListener) -> Result<Server, BootError> {
    let services = parts.enrollment();
    let metrics = Arc::clone(&parts.metrics);
    let versions = if parts.config.federation.tls12 { TlsVersions::From12 } else { TlsVersions::Only13 };
    let tls = tls::enrollment_server_config(&parts.pki.identity, versions);
    let limits = &parts.config.limits;
    let stall = limits.write_stall;
    HttpServer::new(move || {
        let metrics = Arc::clone(&metrics);
        App::new()
            .wrap(from_fn(http::identify))
            .wrap(from_fn(move |request, next| metrics::measure(Arc::clone(&metrics), "enrollment", request, next)))
            .configure(enrollment_api::configure(services.clone()))
    })
    .on_connect(move |io, _| limit_write_stall(io, stall))
    .h1_allow_half_closed(false)
    .workers(1)
    .backlog(limits.backlog)
    .keep_alive(limits.keep_alive)
    .client_request_timeout(limits.request_head)
    .client_disconnect_timeout(LINGER)
    .tls_handshake_timeout(limits.tls_handshake)
    .max_connection_rate(limits.handshakes)
    .max_connections(limits.enroll_connections)
    .disable_signals()
    .listen_rustls_0_23(socket, tls)
    .map(HttpServer::run)
    .map_err(|error| cannot("enrollment", error))
}

/// TLS of the API from the operator's own files.
fn api_tls(files: &TlsFiles) -> Result<rustls::ServerConfig, BootError> {
    const STEP: &str = "api.tls";
    let remedy = "give a PEM chain, leaf first, and its PEM key, both readable for this user";
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| BootError::new(STEP, error, remedy))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| BootError::new(STEP, error, remedy))?;
    let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| BootError::new(STEP, error, remedy))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn cannot(listener: &'static str, error: std::io::Error) -> BootError {
    BootError::new("listeners", error, format!("the {listener} listener cannot be served; report this as a defect"))
}
