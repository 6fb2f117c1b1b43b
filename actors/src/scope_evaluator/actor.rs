use std::sync::Arc;

use actix::{Actor, AsyncContext, Context, StreamHandler};
use arc_swap::ArcSwap;
use futures_util::stream;

use super::decide::CompiledGrant;
use super::handle::CompiledRights;
use crate::domain::catalog::Catalog;
use crate::grant_cache::GrantCacheHandle;

/// Compiles rights ahead whenever the grants change.
pub(crate) struct ScopeEvaluator {
    cache: GrantCacheHandle,
    catalog: Arc<Catalog>,
    compiled: Arc<ArcSwap<CompiledRights>>,
}

/// The grant cache published a new snapshot.
struct GrantsChanged;

impl ScopeEvaluator {
    pub(super) fn new(cache: GrantCacheHandle, catalog: Arc<Catalog>, compiled: Arc<ArcSwap<CompiledRights>>) -> Self {
        Self { cache, catalog, compiled }
    }

    fn compile(&self) {
        let known = self.compiled.load();
        let snapshot = self.cache.snapshot();
        let rights = snapshot.grants.iter().map(|(id, grant)| {
            let compiled = match known.get(id) {
                Some((of, compiled)) if Arc::ptr_eq(of, grant) => Arc::clone(compiled),
                _ => Arc::new(CompiledGrant::new(grant, &self.catalog)),
            };
            (*id, (Arc::clone(grant), compiled))
        });
        self.compiled.store(Arc::new(rights.collect()));
    }
}

impl Actor for ScopeEvaluator {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let mut news = self.cache.news();
        news.mark_changed();
        ctx.add_stream(stream::unfold(news, |mut news| async move {
            news.changed().await.ok()?;
            Some((GrantsChanged, news))
        }));
    }
}

impl StreamHandler<GrantsChanged> for ScopeEvaluator {
    fn handle(&mut self, _: GrantsChanged, _: &mut Self::Context) {
        self.compile();
    }
}
