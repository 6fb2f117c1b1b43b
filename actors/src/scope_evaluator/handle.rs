use std::collections::HashMap;
use std::sync::Arc;

use actix::{Actor, Addr};
use arc_swap::ArcSwap;

use super::actor::ScopeEvaluator;
use super::decide::{AccessRequest, CompiledGrant, Denial, DenyReason, Permit, decide_access, decide_grant};
use crate::domain::catalog::Catalog;
use crate::domain::grant::Grant;
use crate::domain::identity::{GrantId, PeerIdentity};
use crate::grant_cache::GrantCacheHandle;
use crate::ports::clock::Clock;

/// Rights by grant, each with the very grant it was compiled from.
pub(super) type CompiledRights = HashMap<GrantId, (Arc<Grant>, Arc<CompiledGrant>)>;

/// Decides about peers' requests. Cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct ScopeEvaluatorHandle {
    cache: GrantCacheHandle,
    catalog: Arc<Catalog>,
    clock: Arc<dyn Clock>,
    compiled: Arc<ArcSwap<CompiledRights>>,
    /// Keeps the actor alive.
    _actor: Addr<ScopeEvaluator>,
}

/// Starts the actor that compiles rights on the current arbiter.
#[must_use]
pub fn start(cache: GrantCacheHandle, catalog: Arc<Catalog>, clock: Arc<dyn Clock>) -> ScopeEvaluatorHandle {
    let compiled = Arc::new(ArcSwap::from_pointee(CompiledRights::new()));
    let actor = ScopeEvaluator::new(cache.clone(), Arc::clone(&catalog), Arc::clone(&compiled)).start();
    ScopeEvaluatorHandle { cache, catalog, clock, compiled, _actor: actor }
}

impl ScopeEvaluatorHandle {
    /// Decides on the snapshots of this moment.
    pub fn authorize(&self, identity: &PeerIdentity, request: AccessRequest<'_>) -> Result<Permit, Denial> {
        let snapshot = self.cache.snapshot();
        if !snapshot.fresh {
            return Err(Denial { reason: DenyReason::StateUnknown, grant: None });
        }
        let Some(grant) = snapshot.grants.get(&identity.grant) else {
            return Err(Denial { reason: DenyReason::NoSuchGrant, grant: None });
        };
        decide_grant(grant, identity, snapshot.now(&*self.clock))
            .and_then(|()| decide_access(grant, &self.rights_of(grant), &self.catalog, request))
            .map(|right| Permit { grant: Arc::clone(grant), right })
            .map_err(|reason| Denial { reason, grant: Some(Arc::clone(grant)) })
    }

    /// Whether decisions other than "unknown" can be made now; for readiness.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.cache.snapshot().fresh
    }

    fn rights_of(&self, grant: &Arc<Grant>) -> Arc<CompiledGrant> {
        let compiled = self.compiled.load();
        match compiled.get(&grant.id) {
            Some((of, rights)) if Arc::ptr_eq(of, grant) => Arc::clone(rights),
            _ => Arc::new(CompiledGrant::new(grant, &self.catalog)),
        }
    }
}
