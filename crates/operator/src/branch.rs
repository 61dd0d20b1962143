//! `Branch`: planned purely, applied one by one.
//!
//! Owns what is done about one resource, and which are refused. Leaves hosts to `host`, and the order of a look to `look`.

mod apply;
mod plan;
mod refusal;

pub(crate) use apply::action;
pub use plan::ASKED_ANNOTATION;
pub(crate) use plan::{Action, Host, home, plan, plan_refused};
pub(crate) use refusal::{Held, Key, Sources, key, refusals};
