//! What each door's handlers work with.

use std::sync::Arc;

use actix_web::web::Data;

use super::node::Parts;
use crate::admin_api::KeptCheckpoint;
use crate::peer_http::{EnrollmentClient, PeerLimits};
use crate::postgres::enrollment::Enrollments;
use crate::postgres::grants::Grants;
use crate::postgres::links::Links;
use crate::postgres::master_secrets::MasterSecrets;
use crate::postgres::people::People;
use crate::postgres::renewal::{RenewalLimits, Renewals};
use crate::postgres::row_writer::{ImportLimits, RowWriter};
use crate::postgres::rows::PgLocalRows;
use crate::postgres::sessions::Sessions;
use crate::{admin_api, enrollment_api, federation_api, health, session_api};

impl Parts {
    pub(super) fn sessions(&self) -> Data<session_api::Services> {
        let pool = self.database.sessions();
        Data::new(session_api::Services {
            site: self.config.site.clone(),
            catalog: Arc::clone(&self.catalog),
            sessions: Sessions::new(pool.clone()),
            people: People::new(pool.clone(), self.log.keys()),
            rows: RowWriter::new(
                pool,
                Arc::clone(&self.tables),
                self.canceller.clone(),
                ImportLimits::from(&self.config.limits),
            ),
            imports: tokio::sync::Semaphore::new(self.config.limits.imports_in_flight),
            fan_out: self.fan_out.clone(),
            registry: self.registry.clone(),
            cursor_key: self.master.mac_key("session cursor"),
            limits: self.config.limits.clone(),
            metrics: Arc::clone(&self.metrics),
        })
    }

    pub(super) fn admins(&self) -> Data<admin_api::Services> {
        let pool = self.database.sessions();
        let rows = PgLocalRows::new(
            self.database.pools.session_rows.clone(),
            Arc::clone(&self.tables),
            self.canceller.clone(),
        )
        .with_page_bytes(self.config.limits.page);
        Data::new(admin_api::Services {
            site: self.config.site.clone(),
            enroll_url: self.enrollment_url.clone(),
            federation_url: self.federation_url.clone(),
            sessions: Sessions::new(pool.clone()),
            people: People::new(pool.clone(), self.log.keys()),
            grants: Grants::new(pool.clone(), self.log.keys()),
            enrollments: Enrollments::new(pool.clone(), self.log.keys()),
            links: Links::new(pool.clone()),
            audit: self.log.over(pool.clone()),
            kept_checkpoint: KeptCheckpoint::at(self.config.audit_checkpoint_file()),
            grant_cache: self.grants.clone(),
            registry: self.registry.clone(),
            catalog: Arc::clone(&self.catalog),
            rows: Arc::new(rows),
            authority: Arc::clone(&self.pki.ca),
            enrollment_client: EnrollmentClient::new(Arc::clone(&self.clock), PeerLimits::from(&self.config.limits)),
            sealer: self.master.sealer(),
            master_secrets: MasterSecrets::new(pool),
            clock: Arc::clone(&self.clock),
            limits: self.config.limits.clone(),
            fault_injection: self.config.federation.fault_injection,
        })
    }

    pub(super) fn federation(&self) -> Data<federation_api::Services> {
        let pool = self.database.pools.peers.clone();
        let rows =
            PgLocalRows::new(self.database.pools.peer_rows.clone(), Arc::clone(&self.tables), self.canceller.clone())
                .with_page_bytes(self.config.limits.page);
        let limits = &self.config.limits;
        let bounds = RenewalLimits { overlap: limits.renewal_overlap, per_hour: limits.certificates_per_hour };
        Data::new(federation_api::Services {
            site: self.config.site.clone(),
            evaluator: self.evaluator.clone(),
            catalog: Arc::clone(&self.catalog),
            rows: Arc::new(rows),
            audit: self.audit.clone(),
            audit_mode: self.config.audit,
            admission: federation_api::Admission::new(self.shared_limits.clone()),
            renewal: federation_api::Renewal::new(
                Renewals::new(pool, self.log.keys(), bounds),
                Arc::clone(&self.pki.ca),
                self.pki.arc.clone(),
                self.grants.clone(),
            ),
            watches: federation_api::Watches::new(self.grants.clone(), self.watch_bounds()),
            contacts: {
                let registry = self.registry.clone();
                federation_api::Contacts::new(move |peer| registry.peer_spoke(peer))
            },
            cursor_key: self.master.mac_key("peer cursor"),
            query_hash_key: self.master.mac_key("query hash"),
            clock: Arc::clone(&self.clock),
            metrics: Arc::clone(&self.metrics),
            limits: (&self.config.limits).into(),
        })
    }

    fn watch_bounds(&self) -> federation_api::WatchBounds {
        let (limits, bounds) = (&self.config.limits, federation_api::WatchBounds::from(&self.config.limits));
        if bounds.all < limits.watches {
            tracing::info!(watches = bounds.all, "half of the federation listener's connections are left to questions");
        }
        bounds
    }

    pub(super) fn enrollment(&self) -> Data<enrollment_api::Services> {
        Data::new(enrollment_api::Services {
            site: self.config.site.clone(),
            enrollments: Enrollments::new(self.database.sessions(), self.log.keys()),
            ca: Arc::clone(&self.pki.ca),
            arc: self.pki.arc.clone(),
            gate: self.pki.gate.clone(),
            grants: self.grants.clone(),
            audit: self.audit.clone(),
            clock: Arc::clone(&self.clock),
            failures: enrollment_api::Failures::new(
                self.config.limits.enroll_failures,
                self.config.limits.enroll_addresses,
            ),
            limits: (&self.config.limits).into(),
        })
    }

    pub(super) fn probes(&self) -> Data<health::Services> {
        Data::new(health::Services {
            metrics: Arc::clone(&self.metrics),
            secrets: MasterSecrets::new(self.database.sessions()),
            secret: Arc::clone(&self.master),
            evaluator: self.evaluator.clone(),
            audit: self.audit.clone(),
            gate: self.pki.gate.clone(),
            registry: self.registry.clone(),
            authority: Arc::clone(&self.pki.ca),
            shared_limits: self.shared_limits.clone(),
            clock: Arc::clone(&self.clock),
        })
    }
}
