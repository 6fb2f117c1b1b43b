//! Values only: no async, no clock, no serialisation. What is parsed into these types cannot be wrong.

pub mod identity;

pub mod catalog;
pub mod scope;
pub mod suppression;

pub mod grant;
pub mod link;

pub mod query;

pub mod answer;

pub mod audit;
pub mod fault;
